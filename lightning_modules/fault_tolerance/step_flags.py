"""What each process tells all others about a step, in the same sum over processes as the counts of the losses."""

from typing import NamedTuple

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from losses.global_batch import sum_over_processes


class Flags(NamedTuple):
    """Numbers of processes, int.

    Attributes:
        bad_loss: The loss of the previous step was not finite.
        bad_gradient: The gradient of the previous step was not finite.
        terminate: SIGTERM, SIGHUP or Ctrl-C has arrived.
        requeue: SIGUSR1 has arrived.
        save: A checkpoint is due.
        save_failed: A checkpoint could not be written.
    """

    bad_loss: int = 0
    bad_gradient: int = 0
    terminate: int = 0
    requeue: int = 0
    save: int = 0
    save_failed: int = 0


class StepFlags:
    """Exchanges flags between processes. A GPU is waited for only until its forward pass is done.

    Callbacks set :attr:`own` and :attr:`bad`. The training step calls :meth:`exchange`, and callbacks read the sums
    before the optimizer step.

    Args:
        device: Device of the training.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.own = Flags()  # of this process; bad_loss and bad_gradient are in ``bad``
        self.bad = torch.zeros(2, dtype=torch.int64, device=device)  # bad_loss and bad_gradient
        self._sums = torch.zeros(len(Flags._fields), dtype=torch.int64)
        self._copied: torch.cuda.Event | None = None

    def exchange(self, counts: Tensor) -> Tensor:
        """Return the sum of ``counts``, int64 (K,), over all processes, and sum the flags with them."""
        own = torch.tensor(self.own[2:])
        own = (own.pin_memory() if counts.is_cuda else own).to(counts.device, non_blocking=True)
        sums = sum_over_processes(torch.cat([counts, self.bad.to(counts.device), own]))
        counts, flags = torch.split(sums, [len(counts), len(Flags._fields)])
        if flags.is_cuda:
            self._sums = torch.empty_like(flags, device="cpu", pin_memory=True).copy_(flags, non_blocking=True)
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record()
        else:
            self._sums = flags
        return counts

    def read(self) -> Flags:
        """Return the sums of the last :meth:`exchange`. Waits until the GPU has reached it, not for later work."""
        if self._copied is not None:
            self._copied.synchronize()
        return Flags(*self._sums.tolist())

    def read_bad(self) -> Flags:
        """Return ``bad_loss`` and ``bad_gradient`` of the last step. Waits for the device and for all processes."""
        return Flags(*sum_over_processes(self.bad).tolist())


def flags_of(module: LightningModule) -> StepFlags:
    """Return the flags of a module that exchanges them, as ``WeakSegmentation`` does."""
    flags: StepFlags = module.flags  # type: ignore[assignment]
    return flags
