"""Means over the global batch: the batches of all processes together."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

Sum = Callable[[Tensor], Tensor]
"""Sums a tensor over all processes."""
Call = tuple[nn.Module, Sequence[Any]]
"""A loss and its arguments. The first argument is a tensor."""


def sum_over_processes(count: Tensor) -> Tensor:
    """Return the sum of ``count`` over all processes, without a gradient. Every process must call this function."""
    if not (dist.is_available() and dist.is_initialized()):
        return count.detach()
    total = count.detach().clone()
    dist.all_reduce(total)
    return total


def global_mean(total: Tensor, count: Tensor) -> Tensor:
    """Return this process's part of the mean over the global batch, times the number of processes.

    The average over processes is the global mean, and DDP averages gradients in the same way. Averaging per-process
    means would underweight the labels of processes with many labels.

    Args:
        total: Scalar, the sum over the samples of this process.
        count: Scalar, the number of summands in all processes. If it is 0, the sum is returned.
    """
    processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    return total * processes / torch.where(count > 0, count, 1)


def compute_losses(calls: Sequence[Call], sum_counts: Sum) -> list[Tensor]:
    """Call several losses and return their values, with one sum over processes for all of them.

    A loss that is a mean over the global batch has a method ``count``. It is called with the arguments of the loss and
    returns what the loss must know of the global batch, int64 (K,). The loss takes the sum over processes as the
    argument ``count``. Other losses are called as they are.

    Args:
        calls: The losses.
        sum_counts: Called once, with all counts, int64; :func:`sum_over_processes`, for example.
    """
    counts: list[Tensor] = [
        loss.count(*inputs) if hasattr(loss, "count") else inputs[0].new_empty(0, dtype=torch.int64)  # type: ignore[operator]
        for loss, inputs in calls
    ]
    sums = torch.split(sum_counts(torch.cat(counts)), [len(count) for count in counts])
    return [
        loss(*inputs, count=total) if hasattr(loss, "count") else loss(*inputs)
        for (loss, inputs), total in zip(calls, sums, strict=True)
    ]
