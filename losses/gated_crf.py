"""The Gated CRF loss, Eqs. 1 to 11."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from losses import shifted_slices, tensor_form
from losses.affinity import GaussianKernel, check_features

ENGINES = {"shifted": shifted_slices.pairwise_energy, "tensor": tensor_form.pairwise_energy}


class GatedCRFLoss(nn.Module):
    """Gated pairwise energy per destination pixel, Eqs. 4, 5 and 10.

    Always computed in float32 or wider, also under autocast: exponents reach hundreds and sums 120 terms.

    Args:
        kernels: Terms of the mixture K. ``None`` is the single RGBXY kernel of Sec. 4.1.
        radius: Neighborhood radius r >= 1 in pixels of the logits grid; the window has side 2r + 1.
        compatibility: mu, (C, C), non-negative with a zero diagonal. ``None`` is the Potts model, Eq. 2.
        authors_denominator: Divide as the authors' code does when there is a source mask but no destination mask: by
            the number of source pixels. Otherwise, and by default, by the number of destination pixels, Eq. 10.
        engine: "shifted" (default, O(NCHW) memory) or "tensor" (Sec. 6.2, the reference, also differentiates features).

    Raises:
        ValueError: A radius below 1, an unknown engine, a compatibility that is not as above.
    """

    compatibility: Tensor | None

    def __init__(
        self,
        kernels: Sequence[GaussianKernel] | None = None,
        radius: int = 5,
        compatibility: Sequence[Sequence[float]] | Tensor | None = None,
        authors_denominator: bool = False,
        engine: str = "shifted",
    ) -> None:
        super().__init__()
        if radius < 1:
            raise ValueError(f"radius is {radius}; the neighborhood needs a radius of at least 1 pixel.")
        if engine not in ENGINES:
            raise ValueError(f"engine is {engine!r}; choose one of {sorted(ENGINES)}.")
        self.kernels = [GaussianKernel()] if kernels is None else list(kernels)
        if not self.kernels:
            raise ValueError("kernels is empty; name at least one GaussianKernel, or None for that of Sec. 4.1.")
        self.radius = radius
        self.authors_denominator = authors_denominator
        self.engine = engine
        self.register_buffer("compatibility", None if compatibility is None else _check_compatibility(compatibility))

    def forward(
        self,
        probs: Tensor,
        features: Mapping[str, Tensor],
        source: Tensor | None = None,
        destination: Tensor | None = None,
    ) -> Tensor:
        """Return the scalar loss.

        Args:
            probs: Class probabilities, float (N, C, H, W), summing to 1 over C.
            features: Per modality, float (N, D, H', W'): ``{"rgb": standardized image}``. "xy" is implied. Maps of
                another size than ``probs`` are average-pooled to it. Values may be anything where both gates are
                closed.
            source: m^src, bool (N, H', W'): pixels that may send energy. ``None`` is all. At another size than
                ``probs``, a cell is set only if all its pixels are.
            destination: m^dst, likewise: pixels that may receive it.

        Raises:
            ValueError: A missing feature map, a mask that is not boolean, a batch or class count that does not match.
        """
        dtype = torch.promote_types(probs.dtype, torch.float32)
        with torch.autocast(probs.device.type, enabled=False):
            self._check(probs, features, source, destination)
            height, width = probs.shape[-2:]
            probs = probs.to(dtype)
            used = {name for kernel in self.kernels for name in kernel.modalities}
            pooled = {name: F.adaptive_avg_pool2d(features[name].to(dtype), (height, width)) for name in sorted(used)}
            src, dst = (_gate(mask, probs) for mask in (source, destination))
            hidden = (src == 0) & (dst == 0)  # missing depth, say, may be NaN there
            pooled = {name: feature.masked_fill(hidden, 0) for name, feature in pooled.items()}
            mu = None if self.compatibility is None else self.compatibility.to(probs)
            energy = ENGINES[self.engine](probs, pooled, self.kernels, self.radius, mu, src, dst)
            by_source = self.authors_denominator and destination is None
            count = (src if by_source else dst).sum()
            return energy / count.clamp(min=1)  # no pixel, no energy

    def _check(
        self, probs: Tensor, features: Mapping[str, Tensor], source: Tensor | None, destination: Tensor | None
    ) -> None:
        if not isinstance(features, Mapping):
            raise ValueError('features is no mapping; pass maps by name: {"rgb": standardized image}.')
        check_features(self.kernels, features)
        for name, feature in features.items():
            if not feature.is_floating_point():
                raise ValueError(
                    f"features[{name!r}] is {feature.dtype}; pass floats in units of the bandwidth's scale."
                )
        n, c = probs.shape[:2]
        for name, x in {**features, "source": source, "destination": destination}.items():
            if x is not None and len(x) != n:
                raise ValueError(f"{name!r} holds {len(x)} samples but probs holds {n}; they must be the same batch.")
        for name, mask in {"source": source, "destination": destination}.items():
            if mask is not None and (mask.dtype != torch.bool or mask.ndim != 3):
                raise ValueError(
                    f"The {name} mask is {mask.dtype} of shape {tuple(mask.shape)}; pass bool of shape (N, H, W)."
                )
        if self.compatibility is not None and len(self.compatibility) != c:
            raise ValueError(f"compatibility is for {len(self.compatibility)} classes but probs has {c}.")


def _gate(mask: Tensor | None, like: Tensor) -> Tensor:
    """Bring a bool mask (N, H', W') to the grid of ``like``: 1 where all pixels of a cell are set, (N, 1, H, W)."""
    if mask is None:
        return torch.ones_like(like[:, :1])
    return 1 - F.adaptive_max_pool2d((~mask).unsqueeze(1).to(like.dtype), like.shape[-2:])


def _check_compatibility(compatibility: Sequence[Sequence[float]] | Tensor) -> Tensor:
    matrix = torch.as_tensor(compatibility, dtype=torch.get_default_dtype())
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"compatibility has shape {tuple(matrix.shape)}; pass a square (C, C) matrix.")
    if not (matrix >= 0).all() or matrix.diagonal().any():
        raise ValueError(f"compatibility must be non-negative with a zero diagonal, not {matrix.tolist()}.")
    return matrix
