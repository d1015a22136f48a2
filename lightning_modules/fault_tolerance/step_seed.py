"""The random numbers of a step."""

import random
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class StepSeed(Callback):
    """Seeds the global random generators at each step from the run's seed, the batch and the process.

    Random numbers, as in dropout, do not depend on earlier steps, so resuming needs no generator state.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the seed of the run."""
        self._seed = torch.initial_seed()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed Python, NumPy and torch, on the CPU and on the device."""
        seed = int(np.random.SeedSequence([self._seed, batch_idx, trainer.global_rank]).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed takes 1 ms, as it notes its caller for each GPU
        if pl_module.device.type != "cpu":
            getattr(torch, pl_module.device.type).manual_seed(seed)
