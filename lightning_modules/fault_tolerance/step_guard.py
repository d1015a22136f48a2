"""Stops all processes after a step whose loss or gradient is not finite, and on signals."""

from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from lightning_modules.fault_tolerance import stop_signals
from lightning_modules.fault_tolerance.step_flags import Flags, StepFlags, flags_of


class NonFiniteError(FloatingPointError):
    """The loss or gradient of a step is not finite. Nothing was saved or evaluated after that step."""


class StepGuard(Callback):
    """Stops all processes if the loss or the Euclidean norm of the gradient of any of them is not finite.

    The processes learn of it with the counts of the next step, which costs no communication of its own. Before a
    checkpoint, an evaluation and the end of the training they are asked at once. With float16, infinite gradients are
    expected while the loss scale adapts, so they stop the run only if the scale falls below 1.
    """

    def __init__(self) -> None:
        self._names: list[str] = []  # samples of the step
        self._previous_names: list[str] = []
        self._losses: list[Tensor] = []  # one per batch accumulated into the step

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's signal handlers, which act in one process only and exit with status 0."""
        stop_signals.install()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's signal handlers in a run without a sanity check, and forget an earlier run."""
        stop_signals.install()
        pl_module.flags = StepFlags(pl_module.device)  # type: ignore[assignment]
        # In every step, Lightning broadcasts whether process 0 has received SIGTERM, and waits for the GPU.
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note the names of the samples and the signals that have arrived."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._previous_names, self._names, self._losses = self._names, [], []
        self._names += batch["name"]
        signum = stop_signals.received()
        requeue = signum == stop_signals.REQUEUE
        flags = flags_of(pl_module)
        flags.own = flags.own._replace(terminate=bool(signum) and not requeue, requeue=requeue)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Keep the loss."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Check the previous step in all processes, and this one on the device.

        Raises:
            NonFiniteError: In all processes. The message names the samples.
        """
        flags = flags_of(pl_module)
        self._refuse(trainer, flags, flags.read(), self._previous_names)
        finite_loss = torch.stack(self._losses).isfinite().all()
        if (scaler := getattr(trainer.precision_plugin, "scaler", None)) is not None:
            finite_gradient = torch.full_like(finite_loss, scaler.get_scale() >= 1)  # halved at each bad gradient
        else:
            parameters = (p for group in optimizer.param_groups for p in group["params"])
            finite_gradient = get_total_norm([p.grad for p in parameters if p.grad is not None]).isfinite()
        flags.bad = (~torch.stack([finite_loss, finite_gradient])).long()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the last step before it is evaluated."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self.check_now(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the last step."""
        self.check_now(trainer, pl_module)

    def check_now(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the last step in all processes. Waits for the device and for all processes, which must call this.

        Raises:
            NonFiniteError: In all processes. The message names the samples.
        """
        flags = flags_of(pl_module)
        self._refuse(trainer, flags, flags.read_bad(), self._names)

    def _refuse(self, trainer: Trainer, flags: StepFlags, found: Flags, names: list[str]) -> None:
        """Raise the error if ``found`` has a bad loss or gradient. ``names`` are the samples of that step.

        The message names the samples of the processes with a bad loss. If only the gradient is bad, it names those of
        all processes, since gradients are averaged.
        """
        if not (found.bad_loss or found.bad_gradient):
            return
        shares = [(bool(flags.bad[0]), names)]
        if trainer.world_size > 1:
            shares *= trainer.world_size
            dist.all_gather_object(shares, shares[0])
        samples = [name for bad, share in shares for name in share if bad or not found.bad_loss]
        raise NonFiniteError(
            f"The {'loss' if found.bad_loss else 'gradient'} of step {trainer.global_step} is not finite. Its samples: "
            f"{', '.join(samples)}. Checkpoints are from before that step."
        )
