"""Engine for any device: the same energy by shifted slices, exact, in O(NHW) memory beside the result.

The weights w_ab = K_ab (G_ab + G_ba) are symmetric, so each unordered pair of offsets is visited once (60 at r = 5) and
serves both of its ends. One sweep yields S = W y, hence both the energy and its gradient; nothing of the size of the
window is ever stored, and beside the result only maps of one channel.

Per ordered pair of neighbors it makes C multiply-adds, and per unordered pair D more and an exponential. But each of
its tensor operations goes through memory: 3 C values per ordered pair, which is what its time is spent on.
"""

from collections.abc import Iterator
from functools import reduce
from math import exp, log
from types import EllipsisType

import torch
from torch import Tensor

from losses.kernels import Mixture, half_window

Window = tuple[EllipsisType, slice, slice]


def gated_filter(
    probs: Tensor,
    values: Tensor,
    features: Tensor,
    source: Tensor,
    destination: Tensor,
    mixture: Mixture,
    radius: int,
    sign: int,
    constant: int,
) -> tuple[Tensor, Tensor]:
    """Return S and an energy, where S_a = sum over b in Omega_r(a) without a of w_ab values_b.

    The weights are w_ab = K_ab (G_ab + sign G_ba), and the energy is 1/2 sum_ab w_ab (probs_a . values_b - constant).

    Args:
        probs: Float (N, C, H, W).
        values: (N, C, H, W), same dtype.
        features: (N, D, H, W), same dtype, the modalities of ``mixture`` side by side.
        source: m^src, bool (N, H, W).
        destination: m^dst, likewise.
        mixture: The kernels K.
        radius: r, pixels.
        sign: 1 for the symmetric part of the gate, -1 for the antisymmetric one.
        constant: Subtracted from each product of predictions; 1 gives the Potts model.

    Returns:
        (N, C, H, W) and a scalar.
    """
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


def pair_energy(probs: Tensor, filtered: Tensor, total: Tensor, constant: int) -> Tensor:
    """Return 1/2 sum_a (probs_a . filtered_a - constant total_a), by bands of rows to need little memory."""
    bands = zip(*(x.chunk(16, dim=2) for x in (probs, filtered, total)), strict=True)
    return 0.5 * torch.stack([((p * s).sum(1, keepdim=True) - constant * t).sum() for p, s, t in bands]).sum()


def pairs(radius: int, height: int, width: int) -> Iterator[tuple[int, int, Window, Window]]:
    """Yield each offset (dy, dx) of half the window with the two slices of the image that it brings together."""
    for dy, dx in half_window(radius):
        if dy < height and abs(dx) < width:
            a = (..., slice(0, height - dy), slice(max(0, -dx), width - max(0, dx)))
            b = (..., slice(dy, height), slice(max(0, dx), width - max(0, -dx)))
            yield dy, dx, a, b


def kernels_between(
    features: Tensor, mixture: Mixture, dy: int, dx: int, a: Window, b: Window
) -> Iterator[tuple[Tensor, list[tuple[int, float]]]]:
    """Yield each term w k(f_a, f_b) of K, (N, 1, h, w), with the channels that it reads and their precisions."""
    floor = 0.5 * log(torch.finfo(features.dtype).tiny)  # far below rounding; denormal weights would slow the sweep
    for weight, spatial, channels in mixture.terms():
        exponent = torch.zeros_like(features[:, :1][a]) if channels else features.new_zeros(())
        for channel, precision in channels:
            maps = features[:, channel : channel + 1]
            difference = maps[a] - maps[b]
            exponent.addcmul_(difference, difference, value=-precision)
        yield exponent.clamp_(min=floor).exp_().mul_(weight * exp(-spatial * (dy**2 + dx**2))), channels
