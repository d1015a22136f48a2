"""Sums and means over the global batch: the batches of all processes together."""

import torch
import torch.distributed as dist
from torch import Tensor


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
        count: Scalar, its number of summands. If it is 0 in all processes, the sum is returned.
    """
    count = sum_over_processes(count)
    processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    return total * processes / torch.where(count > 0, count, 1)
