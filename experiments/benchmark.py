"""``gatedcrf benchmark loss``: both engines forward and backward in one run, on the same input."""

import argparse
import gc
import json
import platform
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from experiments.table import to_markdown
from losses import GatedCRFLoss

SIZES = ((8, 21, 64, 64), (2, 19, 192, 192))  # a sixth of the paper's VOC batch, a quarter of its Cityscapes batch
ENGINES = ("tensor", "shifted")


def run(args: Sequence[str]) -> None:
    """Measure the engines, and print and write the table.

    Args:
        args: Command line without "benchmark".
    """
    parser = argparse.ArgumentParser("gatedcrf benchmark", allow_abbrev=False)
    commands = parser.add_subparsers(required=True)
    loss = commands.add_parser("loss", help="time and memory of the Gated CRF loss per engine")
    loss.add_argument("--repeats", type=int, default=7, help="counted runs of each engine, taken in turn")
    loss.add_argument("--out", default="runs/benchmark", help="folder of loss.json and loss.md")
    options = parser.parse_args(args)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    results = [_measure(size, device, options.repeats) for size in SIZES]
    text = f"{_title(device)}\n\n{to_markdown(_lines(results))}"
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "loss.json").write_text(json.dumps({"title": _title(device), "results": results}, indent=2) + "\n")
    (out / "loss.md").write_text(text)
    Console().print(text, highlight=False, soft_wrap=True)


def _title(device: torch.device) -> str:
    hardware = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU {platform.machine()}"
    threads = f"{torch.get_num_threads()} threads"
    return f"{hardware}, {threads}, torch {torch.__version__}; r = 5, float32, forward and backward, median"


def _lines(results: Sequence[dict[str, Any]]) -> list[list[str]]:
    lines = [["N, C, H, W", "engine", "ms", "extra MiB", "times faster", "times less memory"]]
    for result in results:
        reference = result["tensor"]
        for engine in ENGINES:
            ms, mib = result[engine]["ms"], result[engine]["mib"]
            ratios = [f"{reference['ms'] / ms:.1f}", f"{reference['mib'] / mib:.1f}"]
            lines.append([", ".join(map(str, result["size"])), engine, f"{ms:.1f}", f"{mib:.1f}", *ratios])
    return lines


def _measure(size: tuple[int, int, int, int], device: torch.device, repeats: int) -> dict[str, Any]:
    """Return the median time and the peak of extra memory of each engine, and how far their gradients differ."""
    generator = torch.Generator().manual_seed(0)
    n, _, h, w = size
    probs = torch.randn(size, generator=generator).softmax(1).to(device).requires_grad_()
    image = torch.randn(n, 3, h, w, generator=generator).mul(0.3).to(device)
    losses = {engine: GatedCRFLoss(engine=engine) for engine in ENGINES}
    gradients: dict[str, Tensor] = {}

    def step(engine: str) -> None:
        (gradients[engine],) = torch.autograd.grad(losses[engine](probs, {"rgb": image}), probs)
        if device.type == "cuda":
            torch.cuda.synchronize()

    memory = {engine: peak_memory(partial(step, engine), device) for engine in ENGINES}  # also the warm-up
    times: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    for _ in range(repeats):
        for engine in ENGINES:
            start = time.perf_counter()
            step(engine)
            times[engine].append(1e3 * (time.perf_counter() - start))
    difference = (gradients["tensor"] - gradients["shifted"]).norm() / gradients["tensor"].norm()
    figures = {e: {"ms": median(times[e]), "mib": memory[e]} for e in ENGINES}
    return {"size": list(size), "gradient_difference": difference.item(), **figures}


def peak_memory(step: Callable[[], None], device: torch.device) -> float:
    """Return the most tensor memory, MiB, that was held during ``step`` beyond what was held before."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    result = profile.profiler.kineto_results if profile.profiler else None
    events = [event for event in result.events() if event.name() == "[memory]"] if result else []
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 2**20
