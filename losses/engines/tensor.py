"""Reference engine: the tensor form of Sec. 6.2. Eqs. 6 to 9 and 11 are written out here."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.kernels import SPATIAL, GaussianKernel


def pairwise_energy(
    probs: Tensor,
    features: Mapping[str, Tensor],
    kernels: Sequence[GaussianKernel],
    radius: int,
    compatibility: Tensor | None,
    source: Tensor,
    destination: Tensor,
) -> Tensor:
    """Return Psi of Eq. 5, a scalar, differentiable any number of times in ``probs`` and ``features``.

    Every window is unfolded, so memory grows with (2r + 1)^2.

    Args:
        probs: y, float (N, C, H, W). All tensors have its dtype.
        features: One map per modality, (N, D, H, W).
        kernels: Terms of the mixture K.
        radius: r, pixels.
        compatibility: mu, (C, C). ``None`` is the Potts model in the form of Eq. 11.
        source: m^src, 0 or 1, (N, 1, H, W).
        destination: m^dst, same format as ``source``.
    """
    n, _, h, w = probs.shape
    side = 2 * radius + 1

    def unfold(x: Tensor) -> Tensor:  # U_r, Eq. 7: (N, D, H, W) -> (N, D, side^2, H, W), zeros outside the map
        return F.unfold(x, side, padding=radius).view(n, x.shape[1], side**2, h, w)

    rows = torch.arange(h, dtype=probs.dtype, device=probs.device).view(h, 1).expand(h, w)
    columns = torch.arange(w, dtype=probs.dtype, device=probs.device).expand(h, w)
    modalities = {**features, SPATIAL: torch.stack([columns, rows]).expand(n, 2, h, w)}

    mixture = torch.zeros((), dtype=probs.dtype, device=probs.device)
    for kernel in kernels:
        exponent = torch.zeros((), dtype=probs.dtype, device=probs.device)
        for name, sigma in kernel.sigma.items():
            difference = (unfold(modalities[name]) - modalities[name].unsqueeze(2)) / sigma
            exponent = exponent - 0.5 * difference.square().sum(1, keepdim=True)
        mixture = mixture + kernel.weight * exponent.exp()  # Eqs. 1 and 2

    not_self = torch.ones(side**2, 1, 1, dtype=probs.dtype, device=probs.device)
    not_self[side**2 // 2] = 0  # b != a
    gated = destination.unsqueeze(2) * unfold(source) * not_self * mixture  # Eq. 6
    accumulated = (gated * unfold(probs)).sum(2)  # Eq. 8: (N, C, H, W)
    if compatibility is None:
        return gated.sum() - (probs * accumulated).sum()  # Eq. 11
    return torch.einsum("nihw,ij,njhw->", probs, compatibility, accumulated)  # Eq. 9
