"""Checks of all processes before every optimizer step: finite loss and gradient, and stop signals."""

from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from lightning_modules.fault_tolerance import stop_signals


class NonFiniteError(FloatingPointError):
    """The loss or gradient of a step is not finite. Weights, momentum and buffers are those before the step."""


class StepGuard(Callback):
    """Stops all processes before an optimizer step if the loss or gradient of any of them is not finite.

    It then restores the buffers that the forward pass has changed, such as BatchNorm statistics. With float16, infinite
    gradients are expected while the loss scale adapts, so they stop the run only if the scale falls below 1. The check
    synchronizes with the device once per step.

    Attributes:
        stop: Signal that any process received before the last step, or 0.
    """

    def __init__(self) -> None:
        self.stop = 0
        self._buffers: list[Tensor] = []  # before the step
        self._names: list[str] = []  # samples of the step
        self._losses: list[Tensor] = []  # one per batch accumulated into the step

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's signal handlers, which act in one process only and exit with status 0."""
        stop_signals.install()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's signal handlers in a run without a sanity check."""
        self.stop = 0
        stop_signals.install()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keep the buffers and the sample names."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._buffers = [buffer.clone() for buffer in pl_module.buffers()]
            self._names, self._losses = [], []
        self._names += batch["name"]

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Keep the loss."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Check loss, gradient and signals of all processes.

        Raises:
            NonFiniteError: In all processes. The message names the samples.
        """
        finite_loss = torch.stack(self._losses).isfinite().all()
        if (scaler := getattr(trainer.precision_plugin, "scaler", None)) is not None:
            finite_gradient = torch.full_like(finite_loss, scaler.get_scale() >= 1)  # halved at each bad gradient
        else:
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            finite_gradient = get_total_norm(gradients, norm_type=torch.inf).isfinite()
        stop = torch.full_like(finite_loss, stop_signals.received(), dtype=torch.uint8)
        flags = torch.stack([(~finite_loss).to(torch.uint8), (~finite_gradient).to(torch.uint8), stop])
        if trainer.world_size > 1:
            dist.all_reduce(flags, dist.ReduceOp.MAX)
        bad_loss, bad_gradient, self.stop = flags.tolist()
        if bad_loss or bad_gradient:
            for buffer, before in zip(pl_module.buffers(), self._buffers, strict=True):
                buffer.copy_(before)
            what = "loss" if bad_loss else "gradient"
            samples = self._sample_names(trainer.world_size, bool(finite_loss))
            raise NonFiniteError(f"The {what} of step {trainer.global_step + 1} is not finite. Its samples: {samples}.")

    def _sample_names(self, processes: int, finite_loss: bool) -> str:
        """Return the names of the samples on processes with a non-finite loss.

        If only the gradient is non-finite, return the names on all processes, since gradients are averaged.
        """
        shares = [(finite_loss, self._names)]
        if processes > 1:
            shares *= processes
            dist.all_gather_object(shares, shares[0])
        bad = [names for finite, names in shares if not finite] or [names for _, names in shares]
        return ", ".join(name for names in bad for name in names)
