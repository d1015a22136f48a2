"""Means over the global batch, whatever number of processes shares it."""

import torch
import torch.distributed as dist
from torch import Tensor


def sum_over_processes(count: Tensor) -> Tensor:
    """Return the sum of ``count`` over all processes, without a gradient; alone, ``count`` itself.

    Args:
        count: Of any shape and dtype, the same in every process. Every process must call.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return count.detach()
    total = count.detach().clone()
    dist.all_reduce(total)
    return total


def global_mean(total: Tensor, count: Tensor) -> Tensor:
    """Return the share of this process in the mean over the global batch, times the number of processes.

    DDP averages gradients over the processes, so theirs become those of the mean over the global batch, and the average
    of the returned values is that mean. A mean within each process would give labels less weight where there are more.

    Args:
        total: Scalar, summed over the samples of this process.
        count: Scalar, what to divide by, likewise. If it is 0 in all processes, the sum is returned.
    """
    count = sum_over_processes(count)
    processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    return total * processes / torch.where(count > 0, count, 1)
