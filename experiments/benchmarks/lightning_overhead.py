"""Overhead of Lightning and logging: ``gatedcrf fit`` compared with a plain loop on the same batches."""

import logging
import os
import time
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from experiments.benchmarks.measure import synchronize
from experiments.benchmarks.photographs import PhotographFolder
from experiments.benchmarks.plain_loop import PlainLoop, seconds_per_step
from experiments.benchmarks.settings import WARMUP, Variant
from experiments.cli import main

CONFIGS = ("datasets/folder.yaml", "supervision/clicks.yaml")
LOG_EVERY = 10  # steps, five times as often as in base.yaml


class StepClock(Callback):
    """Write the seconds per step of a run to a file, measured like ``seconds_per_step``.

    Args:
        path: File to write.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._start = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start after the warmup and stop before the last step."""
        if batch_idx not in (WARMUP, trainer.max_steps - 1):
            return
        synchronize(pl_module.device)
        if batch_idx == WARMUP:
            self._start = time.perf_counter()
        else:
            self.path.write_text(str((time.perf_counter() - self._start) / (batch_idx - WARMUP)))


def measure_overhead(data: PhotographFolder, device: torch.device, steps: int, repeats: int) -> dict[str, list[float]]:
    """Return the ms per step of each run of ``steps`` steps; runs without and with Lightning alternate."""
    times: dict[str, list[float]] = {"plain_ms": [], "lightning_ms": []}
    for _ in range(repeats):
        plain = PlainLoop(data.size, Variant(), device, steps)
        times["plain_ms"].append(1e3 * seconds_per_step(plain, data.loader(steps)))
        del plain
        with TemporaryDirectory() as name:
            times["lightning_ms"].append(1e3 * fit(data, Path(name), steps))
    return times


def fit(data: PhotographFolder, folder: Path, steps: int) -> float:
    """Run ``gatedcrf fit`` with its callbacks, loggers and progress bar, and return the seconds per step.

    Args:
        data: Images to train on.
        folder: Folder for the run and its output, log.txt.
        steps: Length of the run.
    """
    clock = folder / "seconds"
    options = {
        "data.root": data.root,
        "data.augmentation.crop": data.size.crop,
        "data.loader.batch_size": data.size.batch,
        "data.loader.num_workers": data.num_workers,
        "model.network.init_args.backbone": data.size.backbone,
        "model.network.init_args.channels": data.size.channels,
        "model.network.init_args.pretrained": "false",
        "trainer.max_steps": steps,
        "trainer.val_check_interval": steps,
        "trainer.log_every_n_steps": LOG_EVERY,
        "trainer.default_root_dir": folder / "run",
        "trainer.callbacks+": f"{__name__}.StepClock",
        "trainer.callbacks.path": clock,
    }
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    configs = [part for name in CONFIGS for part in ("-c", name)]
    environment = dict(os.environ)
    os.environ["FORCE_COLOR"] = "1"  # rich draws the progress bar although the output is a file
    try:
        with (folder / "log.txt").open("w") as log, redirect_stdout(log):
            main(["fit", *configs, *(f"--{name}={value}" for name, value in options.items())])
    finally:
        os.environ.clear()  # a run sets variables of its own
        os.environ.update(environment)
    return float(clock.read_text())
