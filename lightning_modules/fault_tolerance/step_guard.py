"""What all processes agree on before every optimizer step: that it is sound, and whether it is the last one."""

from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from lightning_modules.fault_tolerance import stop_signals


class NonFiniteError(FloatingPointError):
    """The loss or the gradient of a step is not finite; weights, momentum and buffers are those before it."""


class StepGuard(Callback):
    """Stops all processes before an optimizer step with a loss or gradient that is not finite in one of them.

    What the forward pass has changed, the statistics of BatchNorm, is put back. With float16 infinite gradients are
    how the scale of the loss is found, and stop a run only where they have brought it below 1. It waits for the device
    once a step.

    Attributes:
        stop: The signal by which any process has been asked to stop, as agreed at the last step; 0 for none.
    """

    def __init__(self) -> None:
        self.stop = 0
        self._buffers: list[Tensor] = []  # before the step
        self._names: list[str] = []  # of the samples of the step
        self._losses: list[Tensor] = []  # of the batches that are accumulated into it

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals from Lightning, which would act upon them in one process and without a status."""
        stop_signals.install()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do so where nothing has been checked before."""
        self.stop = 0
        stop_signals.install()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keep the buffers and the names of the samples."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._buffers = [buffer.clone() for buffer in pl_module.buffers()]
            self._names, self._losses = [], []
        self._names += batch["name"]

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Keep the loss."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Compare with the other processes.

        Raises:
            NonFiniteError: In all of them, with the names of the samples.
        """
        sound_loss = torch.stack(self._losses).isfinite().all()
        sound_gradient = torch.ones_like(sound_loss)
        if (scaler := getattr(trainer.precision_plugin, "scaler", None)) is not None:
            sound_gradient &= scaler.get_scale() >= 1  # it is halved at each gradient that is not finite
        else:
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            sound_gradient = get_total_norm(gradients, norm_type=torch.inf).isfinite()
        stop = torch.full_like(sound_loss, stop_signals.received(), dtype=torch.uint8)
        flags = torch.stack([(~sound_loss).to(torch.uint8), (~sound_gradient).to(torch.uint8), stop])
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(flags, dist.ReduceOp.MAX)
        unsound_loss, unsound_gradient, self.stop = flags.tolist()
        if unsound_loss or unsound_gradient:
            for buffer, before in zip(pl_module.buffers(), self._buffers, strict=True):
                buffer.copy_(before)
            what = "loss" if unsound_loss else "gradient"
            samples = self._name_samples(bool(sound_loss))
            raise NonFiniteError(f"The {what} of step {trainer.global_step + 1} is not finite. Its samples: {samples}.")

    def _name_samples(self, sound: bool) -> str:
        """Name those of the processes whose loss is not finite; gradients have been averaged and tell no process."""
        shares = [(sound, self._names)]
        if dist.is_available() and dist.is_initialized():
            shares *= dist.get_world_size()
            dist.all_gather_object(shares, shares[0])
        unsound = [names for sound, names in shares if not sound] or [names for _, names in shares]
        return ", ".join(name for names in unsound for name in names)
