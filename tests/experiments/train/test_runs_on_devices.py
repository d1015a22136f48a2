"""``gatedcrf fit`` and ``validate`` on a CPU and on a GPU, with the settings of ``presets/gpu.yaml``."""

import csv
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from experiments.cli import main
from experiments.train.run import Run

ACCELERATORS = {"cpu": "cpu", "cuda": "gpu"}
Fit = Callable[..., Path]


class Stop(Callback):
    """Sends SIGTERM to this process in the second step."""

    def on_before_backward(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 1:
            os.kill(os.getpid(), signal.SIGTERM)


class CountSynchronizations(Callback):
    """Collects the warnings of torch when the host waits for the GPU between the start of steps 3 and 6.

    ``found`` has them, and one of a transfer on purpose.
    """

    found: list[str]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == 2:
            self.context = warnings.catch_warnings(record=True)
            self.caught: Any = self.context.__enter__()
            warnings.simplefilter("always")
            set_sync_debug_mode("warn")
        elif trainer.global_step == 5:
            next(pl_module.parameters()).sum().item()
            set_sync_debug_mode("default")
            self.context.__exit__(None, None, None)
            messages = (str(warning.message) for warning in self.caught)
            CountSynchronizations.found = [message for message in messages if "synchronizing CUDA" in message]


def set_sync_debug_mode(mode: str) -> None:
    if torch.cuda.is_available():
        torch.cuda.set_sync_debug_mode(mode)


@pytest.fixture
def reset_determinism() -> Iterator[None]:
    """Undo what ``trainer.deterministic`` sets for the whole process."""
    yield
    torch.use_deterministic_algorithms(False)


def weights(run: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return loaded


def test_preset_of_the_device_is_applied_and_saved(device: str, fit: Fit, tmp_path: Path) -> None:
    run = fit(f"--trainer.accelerator={ACCELERATORS[device]}", run=tmp_path / "auto")
    fast = device == "cuda"
    config = Run(run).config
    assert config["preset"] == ("gpu" if fast else "none")
    assert config["trainer"]["precision"] == ("bf16-mixed" if fast else "32-true")
    assert bool(weights(run)["optimizer_states"][0]["param_groups"][0]["fused"]) == fast


def test_interrupted_and_repeated_runs_have_the_same_bits(
    device: str, fit: Fit, tmp_path: Path, reset_determinism: None
) -> None:
    """With the preset gpu, except that cuDNN does not choose its algorithms by their speed."""
    options = [f"--trainer.accelerator={ACCELERATORS[device]}", "--preset=gpu", "--trainer.benchmark=false"]
    options += ["--trainer.deterministic=warn"]
    runs = [fit(*options, run=tmp_path / name) for name in ("first", "second")]
    with pytest.raises(SystemExit, match="143"):
        fit(*options, f"--trainer.callbacks+={__name__}.Stop", run=tmp_path / "stopped")
    assert weights(tmp_path / "stopped")["global_step"] < 4
    runs.append(fit(*options, "--ckpt_path=last", run=tmp_path / "stopped"))
    first, *others = (weights(run) for run in runs)
    assert first["global_step"] == 4
    assert first["optimizer_states"][0]["param_groups"][0]["fused"]
    for other in others:
        torch.testing.assert_close(other["state_dict"], first["state_dict"], rtol=0, atol=0)


def test_evaluation_counts_the_same_pixels_on_every_device(device: str, finished: Path, tmp_path: Path) -> None:
    """Up to 0.1 % of the pixels, where two classes are equally probable."""
    counts = []
    for accelerator in ("cpu", ACCELERATORS[device]):
        folder = tmp_path / accelerator
        options = [f"--trainer.accelerator={accelerator}", f"--trainer.default_root_dir={folder}", "--preset=none"]
        checkpoint = finished / "checkpoints" / "last.ckpt"
        main(["validate", "-c", str(finished / "config.yaml"), f"--ckpt_path={checkpoint}", *options])
        with (folder / "validate" / "confusion_matrix.csv").open() as file:
            counts.append(torch.tensor([[int(value) for value in row[1:]] for row in list(csv.reader(file))[1:]]))
    assert counts[0].sum() == counts[1].sum() > 0
    assert (counts[1] - counts[0]).abs().sum() / 2 <= 1e-3 * counts[0].sum()


def test_a_step_that_is_not_logged_does_not_wait_for_the_device(device: str, fit: Fit, tmp_path: Path) -> None:
    """Except for events. All callbacks of base.yaml take part."""
    options = ["--trainer.max_steps=6", "--trainer.val_check_interval=6", "--trainer.log_every_n_steps=100"]
    options += [f"--trainer.callbacks+={__name__}.CountSynchronizations", "--preset=gpu"]
    fit(f"--trainer.accelerator={ACCELERATORS[device]}", *options, run=tmp_path / "run")
    on_purpose = 1 if device == "cuda" else 0
    assert len(CountSynchronizations.found) == on_purpose, CountSynchronizations.found
