"""Training on a CPU and on a GPU: half precision with the step guard, and a group of one process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn
from torch.utils.data import DataLoader

from datamodules.sample import Sample
from lightning_modules.fault_tolerance import NonFiniteError, StepGuard
from lightning_modules.speed import Speed
from lightning_modules.weak_segmentation import WeakSegmentation
from losses import GatedCRFLoss, GaussianKernel, PartialCrossEntropyLoss

Loader = Callable[..., DataLoader[Sample]]
SIZES = 8 * [(12, 16)]
REGULARIZER = GatedCRFLoss([GaussianKernel({"rgb": 2.0, "xy": 6.0})], radius=2)


class Poison(nn.Module):
    """A regularizer whose second value is not a number."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, probs: Tensor, *_: Any) -> Tensor:
        self.calls += 1
        return probs.sum() * (torch.nan if self.calls == 2 else 0)


def make_module(regularizer: nn.Module = REGULARIZER) -> WeakSegmentation:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, padding=1), BatchNormAct2d(8), nn.Conv2d(8, 4, 1))
    speed = Speed(channels_last=True, fused_optimizer=True, tf32=True)
    return WeakSegmentation(network, PartialCrossEntropyLoss(), "abcd", regularizer=regularizer, speed=speed)


def make_trainer(device: str, folder: Path, precision: str = "32-true", **options: Any) -> pl.Trainer:
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary", "use_distributed_sampler")
    options |= dict.fromkeys(quiet, False) | {"accelerator": {"cpu": "cpu", "cuda": "gpu"}[device], "devices": 1}
    if precision == "16-mixed":
        scaler = torch.amp.GradScaler(device, init_scale=16.0)  # so that no step is left out
        options["plugins"] = [pl.plugins.MixedPrecision("16-mixed", device, scaler)]
    else:
        options["precision"] = precision
    return pl.Trainer(max_steps=4, default_root_dir=folder, callbacks=[StepGuard()], **options)


def update(model: WeakSegmentation) -> Tensor:
    """Return what the training has changed in all weights."""
    pairs = zip(model.network.parameters(), make_module().network.parameters(), strict=True)
    return torch.cat([(after.detach().cpu() - before.detach()).flatten() for after, before in pairs])


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_half_precision_trains_nearly_like_float32(precision: str, device: str, loader: Loader, tmp_path: Path) -> None:
    models = [make_module(), make_module()]
    for model, chosen in zip(models, ("32-true", precision), strict=True):
        trainer = make_trainer(device, tmp_path, chosen)
        trainer.fit(model, loader(*SIZES, batch_size=2))
        assert trainer.optimizers[0].param_groups[0]["fused"]
    exact, rounded = map(update, models)
    assert 0 < (rounded - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_loss_that_is_not_finite_stops_the_training(
    precision: str, device: str, loader: Loader, tmp_path: Path
) -> None:
    trainer = make_trainer(device, tmp_path, precision)
    with pytest.raises(NonFiniteError, match=r"The loss of step 2 .* image2, image3\."):
        trainer.fit(make_module(Poison()), loader(*SIZES, batch_size=2))
    assert trainer.global_step == 2


def test_a_trainer_without_callbacks_trains_the_same(device: str, loader: Loader, tmp_path: Path) -> None:
    """The flags are exchanged, but nobody reads them."""
    guarded, plain = make_module(), make_module()
    make_trainer(device, tmp_path).fit(guarded, loader(*SIZES, batch_size=2))
    trainer = make_trainer(device, tmp_path)
    trainer.callbacks.clear()  # type: ignore[attr-defined]
    trainer.fit(plain, loader(*SIZES, batch_size=2))
    torch.testing.assert_close(update(plain), update(guarded), rtol=0, atol=0)


def test_a_group_of_one_process_trains_like_a_process_alone(device: str, loader: Loader, tmp_path: Path) -> None:
    """On a GPU with NCCL and synchronized BatchNorm."""
    updates = []
    for strategy in ("auto", "ddp"):
        model = make_module()
        if strategy == "ddp" and device == "cuda":  # torch synchronizes on GPUs only
            model.network = convert_sync_batchnorm(model.network)  # type: ignore[no-untyped-call]
        try:
            make_trainer(device, tmp_path, strategy=strategy).fit(model, loader(*SIZES, batch_size=2))
            assert strategy == "auto" or dist.get_backend() == {"cpu": "gloo", "cuda": "nccl"}[device]
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
        updates.append(update(model))
    assert (updates[1] - updates[0]).norm() <= 1e-4 * updates[0].norm()
