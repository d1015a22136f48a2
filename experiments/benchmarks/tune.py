"""``gatedcrf benchmark tune``: time of the fused kernel for several tiles."""

import argparse
from functools import partial
from itertools import product

import torch
from triton.runtime.errors import OutOfResources

from datamodules.io.errors import InputError
from experiments.benchmarks.measure import find_device, hardware, median_ms
from experiments.benchmarks.report import Result, format_number, publish
from experiments.benchmarks.settings import LOSS_SIZES, LossSize
from experiments.tables.report import to_markdown
from losses import GaussianKernel
from losses.engines.fused import TILE, Tile, gated_filter
from losses.errors import ArgumentError
from losses.kernels import Neighborhood, mix

SIZES = ("voc", "full_r11")
TILES = [Tile(rows, lanes) for rows, lanes in product((1, 2, 4), (64, 128, 256))]
BUDGET = 2.0  # seconds for the repeats of one tile
HEADER = ["N, C, H, W", "r", "predictions", "rows", "lanes", "ms", "times the default"]


def run(options: argparse.Namespace) -> None:
    """Measure, print the table, and write tune.json and tune.md.

    Raises:
        InputError: There is no GPU.
    """
    device = find_device()
    result: Result = {"hardware": hardware(device), "default": TILE._asdict(), "rows": []}
    try:
        for name, dtype in product(SIZES, (torch.float32, torch.bfloat16)):
            result["rows"] += _measure(LOSS_SIZES[name], dtype, device, options.repeats)
            publish(options.out, "tune", result, to_text(result))
    except ArgumentError as error:
        raise InputError(str(error)) from error


def _measure(size: LossSize, dtype: torch.dtype, device: torch.device, repeats: int) -> list[Result]:
    n, _, height, width = size.shape
    generator = torch.Generator().manual_seed(0)
    probs = torch.randn(size.shape, generator=generator).softmax(1).to(device, dtype)
    image = torch.randn(n, 3, height, width, generator=generator).to(device)
    mixture = mix([GaussianKernel({"rgb": 0.1, "xy": size.sigma})], {"rgb": 3})
    gate = torch.ones(n, height, width, dtype=torch.bool, device=device)
    arguments = (probs, probs, Neighborhood(image, gate, gate, mixture, size.radius), 1)
    steps = {tile: partial(gated_filter, *arguments, tile) for tile in TILES}
    for tile in [TILE, *TILES]:
        try:
            steps[tile]()  # compiles
        except (RuntimeError, OutOfResources) as error:  # a tile that is not the default may need too many registers
            print(f"{tile}: {error}")
            if tile != TILE:
                del steps[tile]
    times = median_ms({str(index): step for index, step in enumerate(steps.values())}, device, repeats, BUDGET)
    name = str(dtype).removeprefix("torch.")
    setting = {"shape": size.shape, "radius": size.radius, "predictions": name}
    return [{**setting, **tile._asdict(), "ms": ms} for tile, ms in zip(steps, times.values(), strict=True)]


def to_text(result: Result) -> str:
    """Return the conditions and the table as Markdown."""
    table = [HEADER]
    for row in result["rows"]:
        peers = [other for other in result["rows"] if all(other[k] == row[k] for k in ("shape", "predictions"))]
        (default,) = (p["ms"] for p in peers if {k: p[k] for k in result["default"]} == result["default"])
        sizes = [", ".join(map(str, row["shape"])), str(row["radius"]), row["predictions"]]
        table.append(
            [*sizes, str(row["rows"]), str(row["lanes"]), format_number(row["ms"]), f"{row['ms'] / default:.2f}"]
        )
    conditions = (
        f"{result['hardware']}. Median time of S = W y and the energy by the fused kernel, for tiles of a program."
    )
    return f"{conditions}\n\n{to_markdown(table)}"
