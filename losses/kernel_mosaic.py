"""Pictures of the kernel mixture K, Fig. 2."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from losses.kernels import GaussianKernel


def mosaic(features: Mapping[str, Tensor], kernels: Sequence[GaussianKernel], radius: int) -> Tensor:
    """Return K_ab of Eq. 1 for every pixel b and the anchor a at the center of its window.

    Args:
        features: Feature maps by modality, float (N, D, H, W) on the logits grid.
        kernels: Terms of the mixture.
        radius: r, pixels. The grid is cut into windows of side 2r + 1; incomplete windows at the border are dropped.

    Returns:
        Float (N, H', W') of the cut grid. The value at an anchor is the sum of the weights.
    """
    side, offsets = 2 * radius + 1, range(-radius, radius + 1)
    first = next(iter(features.values()))
    n, rows, columns = len(first), first.shape[-2] // side, first.shape[-1] // side
    total = first.new_zeros((n, rows, columns, side, side))
    for kernel in kernels:
        exponent = first.new_tensor([[kernel.at_distance(dy, dx) for dx in offsets] for dy in offsets])
        for name in kernel.modalities:
            cut = features[name][..., : rows * side, : columns * side] / kernel.sigma[name]
            windows = cut.reshape(n, cut.shape[1], rows, side, columns, side).transpose(3, 4)
            difference = windows - windows[..., radius, radius, None, None]
            exponent = exponent + difference.square().sum(1) / 2
        total = total + kernel.weight * torch.exp(-exponent)
    return total.transpose(2, 3).reshape(n, rows * side, columns * side)
