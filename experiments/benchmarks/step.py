"""What a training step takes, and which part of it waits for data or goes into the CRF term."""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader

from datamodules.sample import Sample
from experiments.benchmarks.cost import step_flops
from experiments.benchmarks.loss import DoesNotFitError, Size, tensor_form_bytes
from experiments.benchmarks.measure import free_memory, median_ms, out_of_memory_as, peak_memory
from experiments.benchmarks.plain_loop import WARM, PlainLoop, Setting, Variant, synchronize
from experiments.benchmarks.training_data import make_loader

STEPS = 10  # of a turn, after the first ones
BUDGET = 60.0  # seconds for the turns of one row

Row = dict[str, Any] | str


class Pace(NamedTuple):
    """Seconds per step, and those of them in which it waited for data."""

    step: float
    wait: float


def measure(
    setting: Setting,
    variants: Mapping[str, Variant],
    root: Path,
    device: torch.device,
    repeats: int,
    num_workers: int,
) -> dict[str, Row]:
    """Return the figures of each row, or why there are none.

    Args:
        setting: Network and batch.
        variants: By row, how a step is run.
        root: Images and clicks.
        device: Where.
        repeats: Turns.
        num_workers: Loader processes.
    """
    batch = next(iter(make_loader(root, setting, 1, num_workers)))
    missing: dict[str, str] = {}
    started: dict[str, tuple[PlainLoop, dict[str, Any]]] = {}
    for name, variant in variants.items():
        try:
            with out_of_memory_as(DoesNotFitError()):
                started[name] = _start(setting, variant, batch, device)
        except ModuleNotFoundError:
            missing[name] = "not installed"
        except DoesNotFitError:
            missing[name] = "does not fit"
    paces: dict[str, list[Pace]] = {name: [] for name in started}
    for _ in range(repeats):
        for name, (loop, _) in started.items():
            if sum(pace.step for pace in paces[name]) * (STEPS + WARM) < BUDGET:
                paces[name].append(_pace(loop, make_loader(root, setting, WARM + STEPS, num_workers)))
    measured = {name: figures | _summary(paces[name], setting.batch) for name, (_, figures) in started.items()}
    return {name: missing.get(name) or measured[name] for name in variants}


def _start(setting: Setting, variant: Variant, batch: Sample, device: torch.device) -> tuple[PlainLoop, dict[str, Any]]:
    """Return a loop that has made its first steps, with its memory, operations, and share of the CRF term."""
    size = Size((setting.batch, setting.classes, setting.crop // 4, setting.crop // 4))
    if variant.engine == "tensor" and tensor_form_bytes(size) > 0.8 * free_memory(device):
        raise DoesNotFitError  # a CPU would end the process
    loop = PlainLoop(setting, variant, device, steps=90_000)
    for _ in range(WARM):
        loop.step(batch)
    loop.optimizer.zero_grad()
    mib = loop.held_mib() + peak_memory(partial(loop.step, batch), device)
    logits = torch.randn(size.shape, device=device, requires_grad=True)
    image, valid = loop.standardize(batch["image"].to(device)), batch["valid"].to(device)

    def term() -> None:
        loop.energy(logits, image, valid).backward()  # type: ignore[no-untyped-call]

    term()
    flops = step_flops(variant.network(setting), setting.batch, setting.crop)
    times = median_ms({"resident_ms": partial(loop.step, batch), "term_ms": term}, device, 5, BUDGET / 4)
    return loop, {"mib": mib, "flops": flops, **times}


def _pace(loop: PlainLoop, loader: DataLoader[Sample]) -> Pace:
    """Run over a loader; what a device has to do is done before the next batch is asked for."""
    batches = iter(loader)
    for _ in range(WARM):
        loop.step(next(batches))
    synchronize(loop.device)
    start, wait = time.perf_counter(), 0.0
    for _ in range(STEPS):
        asked = time.perf_counter()
        batch = next(batches)
        wait += time.perf_counter() - asked
        loop.step(batch)
        synchronize(loop.device)
    return Pace((time.perf_counter() - start) / STEPS, wait / STEPS)


def _summary(paces: list[Pace], batch: int) -> dict[str, float]:
    step, wait = median(pace.step for pace in paces), median(pace.wait for pace in paces)
    return {"step_ms": 1e3 * step, "wait_ms": 1e3 * wait, "images_per_second": batch / step}
