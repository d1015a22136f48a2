"""Faster ways to compute the same training."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from timm.layers import BatchNormAct2d, SyncBatchNormAct
from torch import nn
from torch._dynamo.utils import counters
from torch.utils.data import DataLoader

from datamodules.sample import Sample
from lightning_modules.speed import Speed
from lightning_modules.weak_segmentation import WeakSegmentation

Trainer = Callable[..., pl.Trainer]
Module = Callable[..., WeakSegmentation]
Loader = Callable[..., DataLoader[Sample]]
SIZE = (12, 16)


@pytest.fixture(autouse=True)
def no_graphs() -> None:
    torch._dynamo.reset()
    counters.clear()


@pytest.mark.parametrize("speed", [Speed(compile=True), Speed(channels_last=True), Speed(fused_optimizer=True)])
def test_training_is_the_same_and_names_stay(speed: Speed, trainer: Trainer, module: Module, loader: Loader) -> None:
    plain, fast, data = module(), module(speed=speed), loader(SIZE, SIZE)
    for model in (plain, fast):
        trainer(max_steps=2).fit(model, data)
    torch.testing.assert_close(fast.state_dict(), plain.state_dict())


def test_one_static_graph_is_compiled_and_evaluations_are_not(trainer: Trainer, module: Module, loader: Loader) -> None:
    """The sanity check and the evaluations have images of other sizes and batches."""
    options = {"val_check_interval": 1, "num_sanity_val_steps": 2}
    validation = loader((20, 16), (24, 28))
    trainer(max_steps=3, **options).fit(module(speed=Speed(compile=True)), loader(SIZE, SIZE, batch_size=2), validation)
    assert counters["stats"]["unique_graphs"] == 1


def test_batchnorm_is_synchronized_over_gpus_once_and_keeps_its_activation(module: Module) -> None:
    """The network is still on the CPU when it is converted."""
    model = module()
    model.network = nn.Sequential(nn.Conv2d(3, 4, 3), BatchNormAct2d(4))
    gpus = SimpleNamespace(world_size=2, training=True, strategy=SimpleNamespace(root_device=torch.device("cuda")))
    model._trainer = gpus
    model.configure_model()
    gpus.training = False  # as in the evaluation that follows
    model.configure_model()
    assert isinstance(model.network[1], SyncBatchNormAct)
    assert isinstance(model.network[1].act, nn.ReLU)


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False)])
def test_a_run_continues_with_its_own_settings(
    before: bool, after: bool, trainer: Trainer, module: Module, loader: Loader, tmp_path: Path
) -> None:
    """A checkpoint holds momentum in the memory layout of its run, and whether the optimizer was fused."""

    def train(fast: bool, steps: int, checkpoint: Path | None = None) -> pl.Trainer:
        model = module(speed=Speed(channels_last=fast, fused_optimizer=fast), learning_rate=0.1)
        fitted = trainer(max_steps=steps)
        model.decay = lambda step: 1.0  # type: ignore[method-assign]
        fitted.fit(model, loader(SIZE), ckpt_path=checkpoint)
        return fitted

    train(before, 2).save_checkpoint(tmp_path / "half.ckpt")
    continued, whole = train(after, 4, tmp_path / "half.ckpt"), train(after, 4)
    torch.testing.assert_close(continued.model.state_dict(), whole.model.state_dict())
    assert bool(continued.optimizers[0].param_groups[0]["fused"]) == after
