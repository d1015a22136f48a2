"""Kernels made visible: K around anchors that lie one window apart, Fig. 2."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from losses.kernels import GaussianKernel


def mosaic(features: Mapping[str, Tensor], kernels: Sequence[GaussianKernel], radius: int) -> Tensor:
    """Return K_ab of Eq. 1 for every pixel b and the anchor a at the center of its window.

    Args:
        features: Per modality, float (N, D, H, W) on the logits grid.
        kernels: Terms of the mixture.
        radius: r; the grid is cut into windows of side 2 r + 1, and an incomplete one at the border is left out.

    Returns:
        float (N, H', W') of the cut grid; at an anchor it is the sum of the weights.
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
