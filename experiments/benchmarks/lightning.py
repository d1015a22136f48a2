"""What Lightning and logging cost: a run of ``gatedcrf fit`` beside a plain loop over the same batches."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from experiments.benchmarks.plain_loop import WARM, PlainLoop, Setting, Variant, seconds_per_step, synchronize
from experiments.benchmarks.training_data import make_loader
from experiments.cli import main

CONFIGS = ("base.yaml", "datasets/folder.yaml", "supervision/clicks.yaml", "losses/gcrf_s.yaml")
LOG_EVERY = 10  # steps, as on small machines: five times as often as in base.yaml


class StepClock(Callback):
    """Writes the seconds from batch to batch of a run, as :func:`seconds_per_step` measures them.

    Args:
        path: File to write.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._start = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start after the first steps and stop before the last."""
        if batch_idx not in (WARM, trainer.max_steps - 1):
            return
        synchronize(pl_module.device)
        if batch_idx == WARM:
            self._start = time.perf_counter()
        else:
            self.path.write_text(str((time.perf_counter() - self._start) / (batch_idx - WARM)))


def measure(
    setting: Setting, root: Path, device: torch.device, steps: int, repeats: int, num_workers: int
) -> dict[str, list[float]]:
    """Return ms per step of each turn, the two in alternation.

    Args:
        setting: Network and batch.
        root: Images and clicks.
        device: Where.
        steps: Of each run.
        repeats: Turns.
        num_workers: Loader processes.
    """
    turns: dict[str, list[float]] = {"plain_ms": [], "lightning_ms": []}
    for _ in range(repeats):
        plain = PlainLoop(setting, Variant(), device, steps)
        turns["plain_ms"].append(1e3 * seconds_per_step(plain, make_loader(root, setting, steps, num_workers)))
        del plain
        with TemporaryDirectory() as name:
            turns["lightning_ms"].append(1e3 * fit(setting, root, Path(name), steps, num_workers))
    return turns


def fit(setting: Setting, root: Path, folder: Path, steps: int, num_workers: int) -> float:
    """Run ``gatedcrf fit`` with everything that it shows and logs, as on a terminal, and return seconds per step.

    Args:
        setting: Network and batch.
        root: Images and clicks.
        folder: For the run.
        steps: Of the run.
        num_workers: Loader processes.
    """
    clock = folder / "seconds"
    options = {
        "data.root": root,
        "data.augmentation.crop": setting.crop,
        "data.loader.batch_size": setting.batch,
        "data.loader.num_workers": num_workers,
        "model.network.init_args.backbone": setting.backbone,
        "model.network.init_args.channels": setting.channels,
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
    with (folder / "log.txt").open("w") as log, redirect_stdout(log), _as_on_a_terminal():
        configs = [part for name in CONFIGS for part in ("-c", name)]
        main(["fit", *configs, *(f"--{name}={value}" for name, value in options.items())])
    return float(clock.read_text())


@contextmanager
def _as_on_a_terminal() -> Iterator[None]:
    """Let rich draw what it leaves out where the output is a file."""
    before = dict(os.environ)
    os.environ["FORCE_COLOR"] = "1"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
