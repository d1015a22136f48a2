"""Steps that are not finite and stop signals, in one process and in two.

Run as a script, this file is the second process.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from datamodules.sample import Sample
from lightning_modules.fault_tolerance import (
    DurableCheckpointIO,
    NonFiniteError,
    RegularCheckpoint,
    StepGuard,
    Stopped,
    stop_signals,
)
from lightning_modules.weak_segmentation import WeakSegmentation
from losses import PartialCrossEntropyLoss

Trainer = Callable[..., pl.Trainer]
Loader = Callable[..., DataLoader[Sample]]
SIZES = 8 * [(12, 16)]


class Poison(nn.Module):
    """A regularizer that is 0, except that the loss or gradient of one call is not finite."""

    def __init__(self, call: int, kind: str) -> None:
        super().__init__()
        self.calls, self.call, self.kind = 0, call, kind

    def forward(self, probs: Tensor, *_: Any) -> Tensor:
        self.calls += 1
        zero = 0 * probs.sum()
        if self.calls != self.call:
            return zero
        return {"loss": zero * torch.nan, "infinite loss": zero + torch.inf, "gradient": zero.sqrt()}[self.kind]


class SendSignal(pl.Callback):
    """Sends SIGTERM to process 1 during the second step."""

    def on_before_backward(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 1 and trainer.global_rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def make_module(call: int = 0, kind: str = "loss") -> WeakSegmentation:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4, padding=1), nn.BatchNorm2d(4))
    options = {"class_names": "abcd", "mean": [120.0, 110, 100], "std": [60.0, 50, 40]}
    return WeakSegmentation(
        network, PartialCrossEntropyLoss(), regularizer=Poison(call, kind), regularizer_weight=1.0, **options
    )


def load(folder: Path, name: str = "last") -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return checkpoint


@pytest.fixture
def checkpointed(trainer: Trainer) -> Trainer:
    def build(folder: str = "run", plugins: Sequence[Any] = (), **options: Any) -> pl.Trainer:
        options |= {"callbacks": [StepGuard(), RegularCheckpoint(0)], "plugins": [DurableCheckpointIO(), *plugins]}
        return trainer(folder, max_steps=4, enable_checkpointing=True, **options)

    return build


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("kind", ["loss", "infinite loss", "gradient"])
def test_nothing_is_saved_after_a_step_that_is_not_finite(
    kind: str, precision: str, checkpointed: Trainer, loader: Loader, tmp_path: Path
) -> None:
    """The checkpoint equals, bit for bit, that of a finite run before this step, including BatchNorm statistics."""
    data = loader(*SIZES, batch_size=2)
    checkpointed(folder="finite", precision=precision).fit(make_module(), data)
    with pytest.raises(NonFiniteError, match=rf"The {kind.split()[-1]} of step 4 .* image6, image7\."):
        checkpointed(precision=precision).fit(make_module(4, kind), data)
    expected, left = load(tmp_path / "finite", "previous"), load(tmp_path / "run")
    for name in ("global_step", "state_dict", "optimizer_states", "lr_schedulers", "loops"):
        torch.testing.assert_close(left[name], expected[name], rtol=0, atol=0)


def test_a_step_that_is_not_finite_stops_the_next_one(trainer: Trainer, loader: Loader) -> None:
    """Without a checkpoint or an evaluation, it is found before the next optimizer step."""
    fitted = trainer(max_steps=4, callbacks=[StepGuard()])
    with pytest.raises(NonFiniteError, match=r"step 2 .* image2, image3\."):
        fitted.fit(make_module(2), loader(*SIZES, batch_size=2))
    assert fitted.global_step == 2


def test_a_step_that_is_not_finite_is_not_evaluated(trainer: Trainer, loader: Loader) -> None:
    options = {"val_check_interval": 2, "num_sanity_val_steps": 0}
    fitted, module, data = trainer(max_steps=4, callbacks=[StepGuard()], **options), make_module(2), loader(*SIZES)
    with pytest.raises(NonFiniteError, match="step 2"):
        fitted.fit(module, data, data)
    assert module.evaluation is None


def test_samples_of_accumulated_batches_are_all_named(checkpointed: Trainer, loader: Loader, tmp_path: Path) -> None:
    """The first of the two batches of the second step is not finite."""
    with pytest.raises(NonFiniteError, match=r"step 2 .* image4, image5, image6, image7\."):
        checkpointed(accumulate_grad_batches=2).fit(make_module(3), loader(*SIZES, batch_size=2))
    assert load(tmp_path / "run")["global_step"] == 1


def test_float16_leaves_infinite_gradients_to_its_scale(checkpointed: Trainer, loader: Loader) -> None:
    """Infinite gradients only lower the loss scale, but a loss that is not finite stops the run."""
    plugin = pl.plugins.MixedPrecision("16-mixed", "cpu")
    module, data = make_module(3, "gradient"), loader(*SIZES, batch_size=2)
    fitted = checkpointed(plugins=[plugin])
    fitted.fit(module, data)
    assert fitted.global_step == 4
    assert all(parameter.isfinite().all() for parameter in module.parameters())
    with pytest.raises(NonFiniteError, match="loss of step 3"):
        checkpointed(plugins=[pl.plugins.MixedPrecision("16-mixed", "cpu")]).fit(make_module(3), data)


def test_float16_stops_when_its_scale_falls_below_one(checkpointed: Trainer, loader: Loader) -> None:
    """The third gradient halves the scale to 1/2; the fourth step is refused."""
    plugin = pl.plugins.MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=1.0))
    with pytest.raises(NonFiniteError, match="gradient"):
        checkpointed(plugins=[plugin]).fit(make_module(3, "gradient"), loader(*SIZES, batch_size=2))


def run_process(folder: Path) -> None:
    """Train twice: process 1 has a loss that is not finite at its second step, then it receives a signal in
    its second step, which all processes learn in the third."""
    torch.manual_seed(0)
    images = torch.randint(256, (8, 3, 12, 16), dtype=torch.uint8)
    labels = torch.randint(4, (8, 12, 16), dtype=torch.uint8)
    samples = [
        {"image": image, "target": target, "valid": target < 9, "name": f"image{index}"}
        for index, (image, target) in enumerate(zip(images, labels, strict=True))
    ]
    ended = {}
    for name in ("poisoned", "stopped"):
        callbacks: list[pl.Callback] = [StepGuard(), RegularCheckpoint()]
        callbacks += [SendSignal()] if name == "stopped" else []
        strategy = pl.strategies.DDPStrategy(timeout=timedelta(seconds=200))
        options: dict[str, Any] = {"accelerator": "cpu", "devices": 2, "strategy": strategy, "logger": False}
        options |= dict.fromkeys(("enable_progress_bar", "enable_model_summary", "use_distributed_sampler"), False)
        trainer = pl.Trainer(**options, max_steps=4, callbacks=callbacks, default_root_dir=folder / name)
        rank = trainer.global_rank
        module = make_module(2 if name == "poisoned" and rank == 1 else 0)
        try:
            with stop_signals.deferred():
                trainer.fit(module, DataLoader(samples[rank::2], batch_size=1))
        except (NonFiniteError, Stopped) as error:
            ended[name] = f"{type(error).__name__} {trainer.global_step} {error}"
    (folder / f"{rank}.txt").write_text("\n".join(f"{name}: {end}" for name, end in ended.items()))


def test_two_processes_stop_at_the_same_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only process 1 has a loss that is not finite, or receives the signal. It trains on every second sample."""
    port = str(20_000 + os.getpid() % 10_000)  # below the range of ephemeral ports
    shared = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": port, "NODE_RANK": "0"}
    for name, value in {**shared, "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, __file__, str(tmp_path)]
    environment = {**os.environ, "LOCAL_RANK": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as other:
        try:
            run_process(tmp_path)
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
        _, errors = other.communicate(timeout=200)
    assert other.returncode == 0, errors[-2000:]
    ends = [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)]
    assert ends[0] == ends[1]
    poisoned, stopped = ends[0].splitlines()
    assert poisoned.startswith("poisoned: NonFiniteError 2 The loss of step 2 is not finite. Its samples: image3.")
    assert stopped == "stopped: Stopped 3 SIGTERM"
    assert not (tmp_path / "poisoned" / "checkpoints").exists()
    assert load(tmp_path / "stopped")["global_step"] == 3


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_process(Path(sys.argv[1]))
