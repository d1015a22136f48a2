"""Gaussian kernels, their mixture K (Eqs. 1 and 2), its visualization, and gated neighborhoods."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, count
from math import exp, isfinite
from typing import NamedTuple

import torch
from torch import Tensor

from losses.errors import ArgumentError

SPATIAL = "xy"


@dataclass(frozen=True)
class GaussianKernel:
    """One term w k(f_a, f_b) of the mixture, Eqs. 1 and 2.

    Args:
        sigma: Bandwidths, > 0. The one of "xy", the position, is in pixels of the logits grid. Every other key names a
            feature map, and its bandwidth has the units of that map. The default is the RGBXY kernel of Sec. 4.1 for
            standardized colors, where 0.1 is about 5.8 gray levels of 255.
        weight: w, of any sign.

    Raises:
        ArgumentError: If there is no bandwidth, a bandwidth is not positive and finite, or the weight is not finite.
    """

    sigma: Mapping[str, float] = field(default_factory=lambda: {"rgb": 0.1, SPATIAL: 6.0})
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.sigma:
            raise ArgumentError("sigma is empty; give a bandwidth, for example sigma={'rgb': 0.1, 'xy': 6.0}.")
        for modality, sigma in self.sigma.items():
            if not 1e-9 < sigma < 1e9:
                raise ArgumentError(f"sigma[{modality!r}] is {sigma}; a bandwidth must be positive and finite.")
        if not isfinite(self.weight):
            raise ArgumentError(f"weight is {self.weight}; the weight of a kernel must be finite.")

    @property
    def modalities(self) -> list[str]:
        """Names of the feature maps that this kernel reads."""
        return [name for name in self.sigma if name != SPATIAL]

    def at_distance(self, dy: int, dx: int) -> float:
        """Return (dy^2 + dx^2) / (2 sigma_xy^2) for an offset in pixels; 0 without "xy"."""
        return (dy**2 + dx**2) / (2 * self.sigma[SPATIAL] ** 2) if SPATIAL in self.sigma else 0.0


class Mixture(NamedTuple):
    """The mixture K as plain numbers, for the engines. Channels are those of all feature maps concatenated.

    K_ab = sum_p weights[p] exp(-sum_d precision_pd (f_a,d - f_b,d)^2 - spatial[p] |a - b|^2).
    """

    weights: list[float]
    """w of each kernel."""
    spatial: list[float]
    """1 / (2 sigma_xy^2) of each kernel, in 1 / pixel^2; 0 without "xy"."""
    precisions: list[float]
    """1 / (2 sigma^2) of each kernel and modality, kernel by kernel; 0 where a kernel does not read the modality."""
    widths: list[int]
    """Number of channels of each modality."""

    def terms(self) -> Iterator[tuple[float, float, list[tuple[int, float]]]]:
        """Yield the weight and the spatial precision of each kernel, and its channels with their precisions."""
        starts = list(accumulate(self.widths, initial=0))
        for p, (weight, spatial) in enumerate(zip(self.weights, self.spatial, strict=True)):
            precisions = self.precisions[p * len(self.widths) : (p + 1) * len(self.widths)]
            channels = [
                (channel, precision)
                for precision, start, width in zip(precisions, starts, self.widths, strict=False)
                for channel in range(start, start + width)
                if precision > 0
            ]
            yield weight, spatial, channels


class Neighborhood(NamedTuple):
    """The operator W: the weights w_ab = K_ab (G_ab + sign G_ba) of all pairs of pixels.

    G_ab is 1 if b != a is in the window Omega_r(a), ``destination`` is open at a, and ``source`` is open at b.
    """

    features: Tensor
    """f, float (N, D, H, W): the modalities of ``mixture``, concatenated."""
    source: Tensor
    """m^src, bool (N, H, W)."""
    destination: Tensor
    """m^dst, bool (N, H, W)."""
    mixture: Mixture
    """The kernels K."""
    radius: int
    """r, pixels."""
    sign: int = 1
    """1 for the symmetric part of the gates, -1 for the antisymmetric part."""


def mix(kernels: Sequence[GaussianKernel], widths: Mapping[str, int]) -> Mixture:
    """Return the mixture of ``kernels`` over modalities with these numbers of channels, in this order."""
    return Mixture(
        [kernel.weight for kernel in kernels],
        [kernel.at_distance(0, 1) for kernel in kernels],
        [1 / (2 * kernel.sigma[name] ** 2) if name in kernel.sigma else 0.0 for kernel in kernels for name in widths],
        list(widths.values()),
    )


def radius_for(kernels: Sequence[GaussianKernel], epsilon: float) -> int:
    """Return the smallest radius whose window loses at most ``epsilon`` of the signal, Sec. 3, observation (3).

    The signal of a pixel is the sum of |K_ab| over all b != a in an unbounded image of one color. Contributions from
    outside Omega_r(a) are lost. With sigma_xy = 6 of Sec. 4.1, the paper's r = 5 loses 59 %, and r = 17 less than 1 %.

    Raises:
        ArgumentError: If ``epsilon`` is not in (0, 1), or a kernel has no bandwidth for "xy", so it does not decay.
    """
    if not 0 < epsilon < 1:
        raise ArgumentError(f"epsilon is {epsilon}; it must be between 0 and 1 (exclusive), for example 0.05.")
    for kernel in kernels:
        if SPATIAL not in kernel.sigma:
            raise ArgumentError(
                f"{kernel} has no bandwidth for 'xy' and does not decay with distance; add one, or pass radius."
            )

    def signal(kernel: GaussianKernel, radius: int) -> float:  # a square window separates into its two axes
        line = sum(exp(-kernel.at_distance(0, x)) for x in range(-radius, radius + 1))
        return abs(kernel.weight) * (line**2 - 1)

    total = sum(signal(kernel, int(10 * kernel.sigma[SPATIAL]) + 1) for kernel in kernels)  # beyond: below exp(-50)
    return next(r for r in count(1) if sum(signal(k, r) for k in kernels) >= (1 - epsilon) * total)


def mosaic(features: Mapping[str, Tensor], kernels: Sequence[GaussianKernel], radius: int) -> Tensor:
    """Return K_ab of Eq. 1, float (N, H', W'), for every pixel b and the anchor a at the center of its window.

    Args:
        features: Feature maps by modality, float (N, D, H, W) on the logits grid.
        kernels: Terms of the mixture.
        radius: r, pixels. The grid is cut into windows of side 2r + 1; incomplete ones at the border are dropped.
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
