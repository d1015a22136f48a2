"""Engine for any device: S = W y by shifted slices of the image.

The weights w_ab = K_ab (G_ab + G_ba) are symmetric, so each pair of pixels is visited once, in 60 shifts at r = 5. Only
single-channel maps are stored; memory does not grow with the window. The engine is bound by memory bandwidth: 3 C
values per ordered pair.
"""

from collections.abc import Iterator
from functools import reduce
from itertools import product
from math import exp, log
from types import EllipsisType

import torch
from torch import Tensor

from losses.kernels import Mixture, Neighborhood

Window = tuple[EllipsisType, slice, slice]


def gated_filter(probs: Tensor, values: Tensor, neighborhood: Neighborhood, constant: int) -> tuple[Tensor, Tensor]:
    """Return S = W v and the energy 1/2 sum_ab w_ab (y_a . v_b - constant).

    Args:
        probs: y, float (N, C, H, W).
        values: v, (N, C, H, W), same dtype.
        neighborhood: The weights w_ab; features of the same dtype.
        constant: 1 for the Potts model, else 0.

    Returns:
        S, (N, C, H, W), and the energy, a scalar.
    """
    features, source, destination, mixture, radius, sign = neighborhood
    src, dst = source.unsqueeze(1), destination.unsqueeze(1)
    filtered, total = values.new_zeros(values.shape), values.new_zeros(src.shape)
    for dy, dx, a, b in pairs(radius, *probs.shape[-2:]):
        weight = reduce(torch.add, (kernel for kernel, _ in kernels_between(features, mixture, dy, dx, a, b)))
        weight = weight * (dst[a] & src[b]).to(values.dtype).add_(dst[b] & src[a], alpha=sign)
        filtered[a].addcmul_(weight, values[b])
        filtered[b].addcmul_(weight, values[a], value=sign)
        total[a].add_(weight)
        total[b].add_(weight, alpha=sign)
    return filtered, pair_energy(probs, filtered, total, constant)


def feature_gradient(
    probs: Tensor, values: Tensor, transposed: Tensor, neighborhood: Neighborhood, constant: int
) -> Tensor:
    """Return dPsi/df, (N, D, H, W), for Psi = sum_ab G_ab K_ab e_ab with e_ab = y_a . v_b + constant.

    dPsi/df_a = -sum_pb 2 precision (f_a - f_b) w_p k_p(f_a, f_b) (G_ab e_ab + G_ba e_ba). A pair adds to its two ends
    with opposite signs.

    Args:
        probs: y, float (N, C, H, W).
        values: v = mu y, (N, C, H, W); -y for the Potts model.
        transposed: mu^T y, (N, C, H, W), so that e_ba = y_a . transposed_b + constant.
        neighborhood: The weights; features of the same dtype.
        constant: 1 for the Potts model, else 0.
    """
    features, source, destination, mixture, radius, _ = neighborhood
    src, dst = (gate.unsqueeze(1).to(probs.dtype) for gate in (source, destination))
    gradient = features.new_zeros(features.shape)
    for dy, dx, a, b in pairs(radius, *probs.shape[-2:]):
        forward = (probs[a] * values[b]).sum(1, keepdim=True).add_(constant).mul_(dst[a]).mul_(src[b])
        backward = (probs[a] * transposed[b]).sum(1, keepdim=True).add_(constant).mul_(dst[b]).mul_(src[a])
        energy = forward.add_(backward)
        for kernel, channels in kernels_between(features, mixture, dy, dx, a, b):
            pull = kernel * energy
            for channel, precision in channels:
                f, g = features[:, channel : channel + 1], gradient[:, channel : channel + 1]
                step = (f[a] - f[b]).mul_(pull).mul_(2 * precision)
                g[a].sub_(step)
                g[b].add_(step)
    return gradient


def pair_energy(probs: Tensor, filtered: Tensor, total: Tensor, constant: int) -> Tensor:
    """Return 1/2 sum_a (y_a . S_a - constant total_a), in bands of rows to save memory."""
    bands = zip(*(x.chunk(16, dim=2) for x in (probs, filtered, total)), strict=True)
    return 0.5 * torch.stack([((p * s).sum(1, keepdim=True) - constant * t).sum() for p, s, t in bands]).sum()


def pairs(radius: int, height: int, width: int) -> Iterator[tuple[int, int, Window, Window]]:
    """Yield (dy, dx, a, b) for one offset of each opposite pair; slices a and b select the paired pixels."""
    for dy, dx in product(range(min(radius + 1, height)), range(-radius, radius + 1)):
        if (dy > 0 or dx > 0) and abs(dx) < width:
            a = (..., slice(0, height - dy), slice(max(0, -dx), width - max(0, dx)))
            b = (..., slice(dy, height), slice(max(0, dx), width - max(0, -dx)))
            yield dy, dx, a, b


def kernels_between(
    features: Tensor, mixture: Mixture, dy: int, dx: int, a: Window, b: Window
) -> Iterator[tuple[Tensor, list[tuple[int, float]]]]:
    """Yield each term w k(f_a, f_b) of K, (N, 1, h, w), and the channels that it reads with their precisions."""
    floor = 0.5 * log(torch.finfo(features.dtype).tiny)  # negligible, yet not denormal: denormal numbers are slow
    for weight, spatial, channels in mixture.terms():
        exponent = torch.zeros_like(features[:, :1][a]) if channels else features.new_zeros(())
        for channel, precision in channels:
            maps = features[:, channel : channel + 1]
            difference = maps[a] - maps[b]
            exponent.addcmul_(difference, difference, value=-precision)
        yield exponent.clamp_(min=floor).exp_().mul_(weight * exp(-spatial * (dy**2 + dx**2))), channels
