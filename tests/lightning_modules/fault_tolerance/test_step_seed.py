"""Random numbers of a step."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from datamodules.sample import Sample
from lightning_modules.fault_tolerance.step_seed import StepSeed
from lightning_modules.weak_segmentation import WeakSegmentation

Draws = list[tuple[float, float, float]]


class Draw(pl.Callback):
    """Draws from each generator at each step, once more before some of them."""

    def __init__(self, before: int = -1) -> None:
        self.before, self.draws = before, Draws()

    def on_before_backward(self, trainer: pl.Trainer, *_: Any) -> None:
        self.draws.append((random.random(), np.random.rand(), torch.rand(()).item()))

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.before:
            self.on_before_backward(trainer)
            self.draws.pop()


def draws(
    trainer: Callable[..., pl.Trainer],
    module: Callable[..., WeakSegmentation],
    data: DataLoader[Sample],
    seed: int = 0,
    before: int = -1,
) -> Draws:
    draw, model = Draw(before), module()
    pl.seed_everything(seed)
    trainer(max_steps=3, callbacks=[StepSeed(), draw]).fit(model, data)
    return draw.draws


def test_a_step_draws_the_same_whatever_was_drawn_before(
    trainer: Callable[..., pl.Trainer],
    module: Callable[..., WeakSegmentation],
    loader: Callable[..., DataLoader[Sample]],
) -> None:
    data = loader((12, 16), (12, 16), (12, 16))
    first = draws(trainer, module, data)
    assert draws(trainer, module, data, before=2) == first
    assert len({number for draw in first for number in draw}) == 9
    assert not set(draws(trainer, module, data, seed=1)) & set(first)
