"""Time and memory of a training step, and its shares of data loading and of the CRF term."""

import time
from collections.abc import Mapping
from functools import partial
from statistics import median
from typing import Any

import torch
from torch.utils.data import DataLoader

from datamodules.sample import Sample
from experiments.benchmarks.measure import check_memory, if_it_fits, median_ms, peak_memory, synchronize
from experiments.benchmarks.photographs import PhotographFolder
from experiments.benchmarks.plain_loop import PlainLoop
from experiments.benchmarks.settings import WARMUP, LossSize, TrainSize, Variant

STEPS = 10  # per repeat, after the warmup
BUDGET = 60.0  # seconds for the repeats of one variant

Figures = dict[str, Any]


def measure_steps(
    data: PhotographFolder, variants: Mapping[str, Variant], device: torch.device, repeats: int
) -> dict[str, Figures | str]:
    """Return the figures of each variant, or why there are none. The variants alternate, ``repeats`` times."""
    batch = next(iter(data.loader(1)))
    started = {
        name: if_it_fits(partial(_start, data.size, variant, batch, device)) for name, variant in variants.items()
    }
    running = {name: start for name, start in started.items() if not isinstance(start, str)}
    paces: dict[str, list[tuple[float, float]]] = {name: [] for name in running}
    for _ in range(repeats):
        for name, (loop, _) in running.items():
            if sum(step for step, _ in paces[name]) * (STEPS + WARMUP) < BUDGET:
                paces[name].append(_measure_pace(loop, data.loader(WARMUP + STEPS)))
    return {
        name: start if isinstance(start, str) else start[1] | _summarize(paces[name], data.size.batch)
        for name, start in started.items()
    }


def _start(size: TrainSize, variant: Variant, batch: Sample, device: torch.device) -> tuple[PlainLoop, Figures] | str:
    """Return a warm loop, with its memory and the time of the CRF term."""
    predictions = LossSize((size.batch, size.classes, size.crop // 4, size.crop // 4))
    check_memory(variant.engine, predictions, device)
    try:
        loop = PlainLoop(size, variant, device, steps=90_000)
    except ModuleNotFoundError:
        return "not installed"
    for _ in range(WARMUP):
        loop.step(batch)
    loop.optimizer.zero_grad()
    mib = loop.held_mib() + peak_memory(partial(loop.step, batch), device)
    logits = torch.randn(predictions.shape, device=device, requires_grad=True)
    image, valid = loop.standardize(batch["image"].to(device)), batch["valid"].to(device)

    def term() -> None:
        loop.energy(logits, image, valid).backward()  # type: ignore[no-untyped-call]

    term()
    times = median_ms({"resident_ms": partial(loop.step, batch), "term_ms": term}, device, 5, BUDGET / 4)
    return loop, {"mib": mib, **times}


def _measure_pace(loop: PlainLoop, loader: DataLoader[Sample]) -> tuple[float, float]:
    """Return the seconds per step, and those of them spent waiting for data.

    Each step ends before the next batch is requested, so that only real waiting counts.
    """
    batches = iter(loader)
    for _ in range(WARMUP):
        loop.step(next(batches))
    synchronize(loop.device)
    start, wait = time.perf_counter(), 0.0
    for _ in range(STEPS):
        asked = time.perf_counter()
        batch = next(batches)
        wait += time.perf_counter() - asked
        loop.step(batch)
        synchronize(loop.device)
    return (time.perf_counter() - start) / STEPS, wait / STEPS


def _summarize(paces: list[tuple[float, float]], batch: int) -> dict[str, float]:
    step, wait = (median(times) for times in zip(*paces, strict=True))
    return {"step_ms": 1e3 * step, "wait_ms": 1e3 * wait, "images_per_second": batch / step}
