"""The product S = K y over all pairs of pixels of an image, and the energy sum_k y_k . S_k.

K is computed exactly, in blocks of rows: S = K y is two matrix products per block, and K is never in memory as a whole.
K is symmetric, so each pair is computed once. There is no approximation by a lattice.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from losses.autograd import Once
from losses.kernels import SPATIAL, GaussianKernel

BLOCK = {"cpu": 2**19, "cuda": 2**25}
"""Number of elements of K that are computed at a time, by device. On a CPU, they stay in its cache."""
MASKED = -1e4  # exponent of a pair that is not counted
NEGLIGIBLE = -60.0  # smaller exponents are raised to it: below float32's range, numbers are denormal and slow


def scaled_features(maps: Mapping[str, Tensor], kernel: GaussianKernel, mask: Tensor) -> Tensor:
    """Return the features in units of their bandwidths, so that K_ab = exp(-|f_a - f_b|^2 / 2), float (N, D, P).

    Args:
        maps: Feature maps by modality, float (N, D, h, w), with P = h w.
        kernel: Bandwidths. Its weight is not applied.
        mask: bool (N, h, w). Elsewhere, features are 0.
    """
    n, height, width = mask.shape
    stacked = [maps[name] / kernel.sigma[name] for name in kernel.modalities]
    if SPATIAL in kernel.sigma:
        like = next(iter(maps.values())) if maps else torch.zeros(1, device=mask.device)
        rows, columns = (torch.arange(side, device=mask.device, dtype=like.dtype) for side in (height, width))
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")) / kernel.sigma[SPATIAL]
        stacked.append(grid.expand(n, -1, -1, -1))
    return torch.cat(stacked, dim=1).masked_fill(~mask.unsqueeze(1), 0).flatten(2)


def pairwise_energies(probs: Tensor, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return sum_ab K_ab y_a y_b of each class, and the degrees sum_b K_ab.

    The sums run over all pairs of pixels in the mask, including a = b.

    Args:
        probs: y, float (N, C, P), of the dtype of ``features``.
        features: As returned by :func:`scaled_features`, float32 or float64 (N, D, P).
        mask: bool (N, P).

    Returns:
        Energies (N, C), differentiable once in ``probs``, and degrees (N, P), 0 outside the mask.
    """
    energies, degrees = _Energies.apply(probs, features, mask)  # type: ignore[no-untyped-call]
    return energies, degrees


@torch.library.custom_op("gated_crf::all_pairs", mutates_args=())
def all_pairs_product(probs: Tensor, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return S = K y, (N, C, P), and the degrees K 1, (N, P), over the pixels in the mask. S is 0 elsewhere."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(probs.device.type, enabled=False):
            return _product(probs, features, mask)
    finally:
        torch.set_float32_matmul_precision(precision)


@all_pairs_product.register_fake
def _(probs: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return probs.new_empty(probs.shape), probs.new_empty(probs[:, 0].shape)


def _product(probs: Tensor, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    count, _, pixels = probs.shape
    filtered, degrees = torch.zeros_like(probs), torch.zeros_like(probs[:, 0])
    elements = BLOCK.get(probs.device.type, BLOCK["cuda"])
    images = max(1, min(count, elements // (64 * pixels)))  # so many that a block has at least 64 rows
    rows = max(1, min(pixels, elements // (images * pixels)))
    buffer = features.new_empty(images * rows * pixels, dtype=torch.float64)
    for group in (slice(first, first + images) for first in range(0, count, images)):
        left, right = _factors(features[group], mask[group])
        for start in range(0, pixels, rows):
            a, later = left[:, start : start + rows], right[:, :, start:]
            exponents = buffer[: len(a) * a.shape[1] * later.shape[2]].view(len(a), a.shape[1], later.shape[2])
            torch.bmm(a, later, out=exponents)
            weights = exponents.clamp_(NEGLIGIBLE, 0).to(probs.dtype).exp_()
            _accumulate(probs[group], weights, start, filtered[group], degrees[group])
    return filtered.mul_(mask.unsqueeze(1)), degrees.mul_(mask)


def _factors(features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the factors of the exponents -|f_a - f_b|^2 / 2, float64 (n, P, D + 2) and (n, D + 2, P).

    They are (f_a, -|f_a|^2 / 2, 1) and (f_b, 1, -|f_b|^2 / 2). The terms of the product cancel, hence float64.
    """
    features = features.double()
    norms = features.square().sum(1, keepdim=True).div_(-2).masked_fill_(~mask.unsqueeze(1), MASKED)
    ones = torch.ones_like(norms)
    return torch.cat([features, norms, ones], 1).mT.contiguous(), torch.cat([features, ones, norms], 1)


def _accumulate(probs: Tensor, weights: Tensor, start: int, filtered: Tensor, degrees: Tensor) -> None:
    """Add a block of K, rows from ``start`` and columns from ``start`` on, and its mirror image below the diagonal."""
    rows = weights.shape[1]
    here, after = slice(start, start + rows), slice(start + rows, None)
    filtered[..., here].baddbmm_(probs[..., start:], weights.mT)
    degrees[:, here] += weights.sum(2)
    if weights.shape[2] > rows:
        mirrored = weights[:, :, rows:]
        filtered[..., after].baddbmm_(probs[..., here], mirrored)
        degrees[:, after] += mirrored.sum(1)


class _Energies(torch.autograd.Function):
    """y . S with its gradient 2 S."""

    @staticmethod
    def forward(ctx: Any, probs: Tensor, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        ctx.filtered, degrees = all_pairs_product(probs, features, mask)
        ctx.save_for_backward(probs, features, mask)
        ctx.mark_non_differentiable(degrees)
        return torch.einsum("ncp,ncp->nc", probs, ctx.filtered), degrees

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        compiling = torch.compiler.is_compiling()
        twice = torch.is_grad_enabled() and not compiling  # create_graph=True
        with torch.no_grad():
            filtered: Tensor | None = ctx.filtered
            if filtered is None:  # the first call has scaled it in place, to avoid a copy
                filtered, _ = all_pairs_product(*ctx.saved_tensors)
            factor = (2 * grad).unsqueeze(2)
            gradient = filtered * factor if compiling else filtered.mul_(factor)
        if not compiling:
            ctx.filtered = None
        if twice:
            gradient = Once.apply(gradient, ctx.saved_tensors[0])  # type: ignore[no-untyped-call]
        return gradient, None, None
