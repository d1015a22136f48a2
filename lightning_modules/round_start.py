"""New label maps for each round of training."""

from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_modules.fault_tolerance.step_guard import StepGuard


class RoundStart(Callback):
    """Makes the label maps of a round with the predictions of the network, when the round begins.

    It does nothing if the datamodule has one round. Processes share the images. A run that is resumed at the beginning
    of a round makes the label maps that are missing. A :class:`StepGuard` must precede it.
    """

    def __init__(self) -> None:
        self._rounds: Any = None  # datamodules.proposals.rounds.ProposalRounds
        self._number = 1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the round of the next step."""
        datamodule = getattr(trainer, "datamodule", None)
        self._rounds, self._number = datamodule and datamodule.proposal_rounds(), 1
        self._begin(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Begin the next round after the last step of a round."""
        self._begin(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Release the loader processes that wait for a round."""
        if self._rounds is not None:
            self._rounds.abandon()

    def _begin(self, trainer: Trainer, module: LightningModule) -> None:
        if self._rounds is None or trainer.global_step == trainer.max_steps:
            return
        number = self._rounds.round_of(trainer.global_step)
        if number == self._number:
            return
        self._number = number
        if not self._rounds.is_complete(number):
            for guard in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(guard, StepGuard):
                    guard.check_now(trainer, module)
            indices = range(trainer.global_rank, len(self._rounds.dataset), trainer.world_size)
            self._make(number, indices, module)
            trainer.strategy.barrier()
            if trainer.is_global_zero:
                self._rounds.mark_complete(number)

    def _make(self, number: int, indices: range, module: LightningModule) -> None:
        """Make label maps in threads, with the network in evaluation mode.

        They are of whole images. Outside the crop of an evaluation, probabilities are 0, and would become class 0.
        """
        module.share_buffers()  # type: ignore[operator]
        inference = replace(module.inference, crop=None)  # type: ignore[type-var]
        training, lock = {child: child.training for child in module.modules()}, Lock()

        def predict(image: NDArray[np.uint8]) -> NDArray[np.float32]:
            batch = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].to(module.device)
            with lock, torch.no_grad(), module.trainer.precision_plugin.forward_context():
                return np.asarray(module(batch, inference)[0].float().cpu().numpy())

        module.eval()
        self._rounds.make(number, indices, predict)
        for child, mode in training.items():
            child.training = mode
