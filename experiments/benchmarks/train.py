"""``gatedcrf benchmark train``: cost of a training step, and the overhead of Lightning and logging."""

from argparse import Namespace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from experiments.benchmarks.lightning_overhead import measure_overhead
from experiments.benchmarks.measure import find_device, hardware
from experiments.benchmarks.photographs import PhotographFolder
from experiments.benchmarks.plain_loop import measure_steps
from experiments.benchmarks.report import Result, format_number, publish
from experiments.benchmarks.settings import TRAIN_SIZES, VARIANTS
from experiments.tables.report import to_markdown

STEP_HEADER = ["N, crop, C", "step", "images/s", "ms", "waiting for data", "CRF term", "peak MiB"]
OVERHEAD_HEADER = [
    *("N, crop, C", "network", "plain loop, images/s", "`fit`, images/s", "difference, ms", "share", "of the runs"),
]


def run(options: Namespace) -> None:
    """Measure, print the tables, and write train.json and train.md."""
    device = find_device()
    gpu = device.type == "cuda"
    sizes = options.sizes or (["voc", "cityscapes"] if gpu else ["voc_small", "folder_small"])
    variants = {name: VARIANTS[name] for name in options.rows}
    workers = (8 if gpu else 1) if options.num_workers is None else options.num_workers
    steps = (300 if gpu else 32) if options.steps is None else options.steps
    preset = "gpu" if gpu else "none"
    if gpu:
        torch.backends.cudnn.benchmark = True  # as in presets/gpu.yaml, for all rows
        torch.backends.cudnn.allow_tf32 = False  # float32 is float32
    result: Result = {"hardware": hardware(device), "num_workers": workers, "preset": preset, "steps": steps}
    result["sizes"] = {}
    for name in sizes:
        with TemporaryDirectory() as folder:
            data = PhotographFolder(Path(folder) / "photos", TRAIN_SIZES[name], workers)
            print(f"{name}: generating images")
            data.draw()
            print(f"{name}: measuring {', '.join(variants)}")
            rows = measure_steps(data, variants, device, options.repeats)
            print(f"{name}: measuring Lightning and a plain loop")
            times = measure_overhead(data, device, steps, options.repeats, preset)
        result["sizes"][name] = {"setting": data.size._asdict(), "rows": rows, "lightning": times}
        publish(options.out, "train", result, to_text(result))


def to_text(result: Result) -> str:
    """Return the conditions and both tables as Markdown."""
    conditions = (
        f"{result['hardware']}, {result['num_workers']} loader processes, medians of alternating measurements. "
        "Step: standardization, network, both losses, backward and SGD on crops with clicks, which the training loader "
        "reads from the image cache. CRF term: share of its forward and backward pass in a step on a batch in memory. "
        "Peak: weights, momentum, and the memory that a step adds."
    )
    overhead = (
        "`gatedcrf fit` with the callbacks, loggers and progress bar of base.yaml, logging every 10 steps, compared "
        f"with a plain loop. Both train the same network on the same batches for {result['steps']} steps, as fast as "
        f"preset {result['preset']}; their runs alternate. Share: additional time relative to the plain loop, median "
        "and range over pairs of runs."
    )
    steps, overheads = [STEP_HEADER], [OVERHEAD_HEADER]
    for size in result["sizes"].values():
        setting = size["setting"]
        shape = f"{setting['batch']}, {setting['crop']}, {setting['classes']}"
        steps += [[shape, name, *_step_cells(row)] for name, row in size["rows"].items()]
        overheads.append(
            [shape, setting["backbone"].split(".")[0], *_overhead_cells(setting["batch"], **size["lightning"])]
        )
    return f"{conditions}\n\n{to_markdown(steps)}\n{overhead}\n\n{to_markdown(overheads)}"


def _step_cells(row: Result | str) -> list[str]:
    if isinstance(row, str):
        return [row, *[""] * (len(STEP_HEADER) - 3)]
    return [
        format_number(row["images_per_second"]),
        format_number(row["step_ms"]),
        f"{100 * row['wait_ms'] / row['step_ms']:.1f} %",
        f"{100 * row['term_ms'] / row['resident_ms']:.1f} %",
        f"{row['mib']:,.0f}",
    ]


def _overhead_cells(batch: int, plain_ms: list[float], lightning_ms: list[float]) -> list[str]:
    pairs = list(zip(plain_ms, lightning_ms, strict=True))
    shares = sorted(100 * (lightning / plain - 1) for plain, lightning in pairs)
    return [
        format_number(1e3 * batch / median(plain_ms)),
        format_number(1e3 * batch / median(lightning_ms)),
        f"{median(lightning - plain for plain, lightning in pairs):.1f}",
        f"{median(shares):.1f} %",
        f"{shares[0]:.1f} to {shares[-1]:.1f} %",
    ]
