"""Default engine: the same energy by shifted slices, exact, on any device, in O(NCHW) memory.

The weights w_ab = K_ab (G_ab + G_ba) are symmetric, so each unordered pair of offsets is visited once (60 at r = 5) and
serves both of its ends. One sweep yields S = W y, hence both the energy and its gradient; nothing of the size of the
window is ever stored.
"""

from collections.abc import Callable, Mapping, Sequence
from math import exp, log
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from losses.affinity import GaussianKernel, half_window


def gated_filter(
    values: Tensor,
    features: Mapping[str, Tensor],
    kernels: Sequence[GaussianKernel],
    radius: int,
    source: Tensor,
    destination: Tensor,
    sign: int,
) -> Tensor:
    """Return S_a = sum over b in Omega_r(a) without a of K_ab (G_ab + sign G_ba) values_b.

    Args:
        values: (N, V, H, W).
        features: Per modality, (N, D, H, W).
        kernels: The mixture K.
        radius: r, pixels.
        source: m^src as 0 or 1, (N, 1, H, W).
        destination: m^dst, likewise.
        sign: 1 for the symmetric part of the gate, -1 for the antisymmetric one.

    Returns:
        (N, V, H, W). Padding each row by r makes every shift of the image one contiguous shift of the flat row.
    """
    stride = values.shape[-1] + radius

    def flatten(x: Tensor) -> Tensor:  # (N, D, H, W) -> (N, D, H * stride); gates are closed in the padding
        return F.pad(x, (0, radius)).flatten(2)

    flat, src, dst = flatten(values), flatten(source), flatten(destination)
    scaled = [kernel.scale(features) for kernel in kernels]
    maps = [None if x is None else flatten(x * 0.5**0.5) for x in scaled]
    total = torch.zeros_like(flat)
    for dy, dx in half_window(radius):
        shift = dy * stride + dx
        if shift < flat.shape[-1]:
            a, b = slice(None, -shift), slice(shift, None)
            weight = dst[..., a] * src[..., b]
            weight.addcmul_(dst[..., b], src[..., a], value=sign)
            weight.mul_(_mixture(kernels, maps, a, b, dy, dx, weight.dtype))
            total[..., a].addcmul_(weight, flat[..., b])
            total[..., b].addcmul_(weight, flat[..., a], value=sign)
    return total.view(*values.shape[:-1], stride)[..., :-radius]


def _mixture(
    kernels: Sequence[GaussianKernel],
    maps: Sequence[Tensor | None],
    a: slice,
    b: slice,
    dy: int,
    dx: int,
    dtype: torch.dtype,
) -> Tensor | float:
    """K_ab between two slices of the flat image; ``maps`` are (N, D, L), in units of sqrt(2) sigma."""
    mixture: Tensor | float = 0.0
    floor = 0.5 * log(torch.finfo(dtype).tiny)  # far below rounding; denormal weights would slow the sweep threefold
    for kernel, x in zip(kernels, maps, strict=True):
        scale = kernel.weight * exp(-kernel.at_distance(dy, dx))
        if x is None:
            mixture = mixture + scale
        else:
            exponent = (x[..., a] - x[..., b]).square_().sum(1, keepdim=True).neg_()
            mixture = exponent.clamp_(min=floor).exp_().mul_(scale).add_(mixture)
    return mixture


Filter = Callable[[Tensor, int], Tensor]
"""``gated_filter`` with everything but the values and the sign given."""


class _PairwiseEnergy(torch.autograd.Function):
    """The energy and, from the same sweep, its gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, probs: Tensor, compatibility: Tensor | None, filtered: Filter) -> Tensor:
        if compatibility is None:  # Eq. 11; a channel of ones carries the sum of the weights
            sums = filtered(F.pad(probs, (0, 0, 0, 0, 0, 1), value=1.0), 1)
            gradient = -sums[:, :-1]
            energy = 0.5 * (sums[:, -1] + (probs * gradient).sum(1)).sum()
        else:  # Eq. 9; an asymmetric mu also meets the antisymmetric part of the gate
            symmetric = (compatibility + compatibility.T) / 2
            gradient = torch.einsum("ij,njhw->nihw", symmetric, filtered(probs, 1))
            skew = compatibility - symmetric
            if skew.any():
                gradient += torch.einsum("ij,njhw->nihw", skew, filtered(probs, -1))
            energy = 0.5 * (probs * gradient).sum()
        ctx.save_for_backward(gradient)
        return energy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_output, None, None


def pairwise_energy(
    probs: Tensor,
    features: Mapping[str, Tensor],
    kernels: Sequence[GaussianKernel],
    radius: int,
    compatibility: Tensor | None,
    source: Tensor,
    destination: Tensor,
) -> Tensor:
    """Return Psi of Eq. 5; arguments as in :func:`losses.tensor_form.pairwise_energy`.

    Raises:
        ValueError: A feature map requires a gradient, which this engine does not compute.
    """
    for name, feature in features.items():
        if feature.requires_grad:
            raise ValueError(
                f"features[{name!r}] requires a gradient, which the engine 'shifted' does not compute; "
                "detach it, or use GatedCRFLoss(engine='tensor')."
            )

    def filtered(values: Tensor, sign: int) -> Tensor:
        return gated_filter(values, features, kernels, radius, source, destination, sign)

    energy: Tensor = _PairwiseEnergy.apply(probs, compatibility, filtered)  # type: ignore[no-untyped-call]
    return energy
