"""The random numbers of a step."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from datamodules.sample import Sample
from lightning_modules.fault_tolerance import StepSeed
from lightning_modules.weak_segmentation import WeakSegmentation

Trainer = Callable[..., pl.Trainer]
Module = Callable[..., WeakSegmentation]
Loader = Callable[..., DataLoader[Sample]]
Draws = list[tuple[float, float, float]]
SIZES = 4 * [(12, 16)]


class Draw(pl.Callback):
    """Draws from each generator in each step, and once more after step ``extra``."""

    def __init__(self, extra: int = -1) -> None:
        self.extra, self.draws = extra, Draws()

    def on_before_backward(self, trainer: pl.Trainer, *_: Any) -> None:
        self.draws.append((random.random(), np.random.rand(), torch.rand(()).item()))

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.extra:
            self.on_before_backward(trainer)
            self.draws.pop()


def test_random_numbers_of_a_step_do_not_depend_on_earlier_draws(
    trainer: Trainer, module: Module, loader: Loader
) -> None:
    data = loader(*SIZES)

    def draws(seed: int = 0, extra: int = -1) -> Draws:
        draw, model = Draw(extra), module()
        torch.manual_seed(seed)
        trainer(max_steps=3, callbacks=[StepSeed(), draw]).fit(model, data)
        return draw.draws

    first = draws()
    assert draws(extra=2) == first
    assert len({number for draw in first for number in draw}) == 9
    assert not set(draws(seed=1)) & set(first)
