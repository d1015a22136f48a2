"""Overhead of Lightning and logging: ``gatedcrf fit`` compared with a plain loop on the same batches."""

import logging
import os
import time
from contextlib import redirect_stdout
from io import TextIOWrapper
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from unittest.mock import patch

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from experiments.benchmarks.measure import synchronize
from experiments.benchmarks.photographs import PhotographFolder
from experiments.benchmarks.plain_loop import PlainLoop, seconds_per_step
from experiments.benchmarks.settings import PRESETS, WARMUP
from experiments.cli import main


class Terminal(TextIOWrapper):
    """A file on which the progress bar is drawn, as on a terminal."""

    def isatty(self) -> bool:
        """Return true."""
        return True


class StepClock(Callback):
    """Record the start of the first step after the warmup and of the last step, as ``seconds_per_step`` does."""

    marks: ClassVar[list[float]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Read the clock."""
        if batch_idx in (WARMUP, trainer.max_steps - 1):
            synchronize(pl_module.device)
            self.marks.append(time.perf_counter())


def measure_overhead(
    data: PhotographFolder, device: torch.device, steps: int, repeats: int, preset: str
) -> dict[str, list[float]]:
    """Return the ms per step of each run, without and with Lightning, both with a preset. The runs alternate."""
    times: dict[str, list[float]] = {"plain_ms": [], "lightning_ms": []}
    for _ in range(repeats):
        plain = PlainLoop(data.size, PRESETS[preset], device, steps)
        times["plain_ms"].append(1e3 * seconds_per_step(plain, data.loader(steps)))
        del plain
        with TemporaryDirectory() as name:
            times["lightning_ms"].append(1e3 * fit(data, Path(name), steps, preset))
    return times


def fit(data: PhotographFolder, folder: Path, steps: int, preset: str) -> float:
    """Run ``gatedcrf fit`` with its callbacks, loggers and progress bar, and return the seconds per step.

    Args:
        data: Training images.
        folder: Folder of the run and of its output, log.txt.
        steps: Number of steps.
        preset: Preset of the run, "gpu" or "none".
    """
    options = {
        "preset": preset,
        "data.root": data.root,
        "data.loader.image_cache": data.cache,
        "data.augmentation.crop": data.size.crop,
        "data.loader.batch_size": data.size.batch,
        "data.loader.num_workers": data.num_workers,
        "model.network.init_args.backbone": data.size.backbone,
        "model.network.init_args.channels": data.size.channels,
        "model.network.init_args.pretrained": "false",
        "trainer.max_steps": steps,
        "trainer.val_check_interval": steps,
        "trainer.log_every_n_steps": 10,  # five times as often as in base.yaml
        "trainer.default_root_dir": folder / "run",
        "trainer.callbacks+": f"{__name__}.StepClock",
    }
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    arguments = ["fit", "-c", "datasets/folder.yaml", "-c", "supervision/clicks.yaml"]
    arguments += [f"--{name}={value}" for name, value in options.items()]
    StepClock.marks.clear()
    tf32 = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    color = patch.dict(os.environ, FORCE_COLOR="1")  # for the progress bar; also restores what the run sets
    with Terminal((folder / "log.txt").open("wb"), encoding="utf-8") as log, redirect_stdout(log), color:
        main(arguments)
    torch.set_float32_matmul_precision(tf32[0])  # the preset changed both for this process
    torch.backends.cudnn.allow_tf32 = tf32[1]
    start, end = StepClock.marks
    return (end - start) / (steps - 1 - WARMUP)
