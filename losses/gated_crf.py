"""The Gated CRF loss, Eqs. 1 to 11, as a module and as a function."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from losses import checks
from losses.autograd import FILTERS, choose_engine, pairwise_energy
from losses.engines import tensor as tensor_form
from losses.global_batch import global_mean
from losses.kernel_mosaic import mosaic
from losses.kernels import GaussianKernel, mix, radius_for

ENGINES = ("auto", *FILTERS, "tensor")


class GatedCRFLoss(nn.Module):
    """Gated pairwise energy per destination pixel, Eqs. 4, 5 and 10, of the batch of all processes together.

    Computed in float32 or wider, also under autocast: exponents reach hundreds and sums 120 terms. Differentiable once,
    in the predictions and in features that require it. As 1 - y y cancels for confident predictions, the value is exact
    to about 1e-7 of the sum of the kernel, 92 for that of Sec. 4.1, and no better; the gradient is not affected.

    Beside the gradient, "fused" and "shifted" need less than half of its size at 19 classes and more, in maps of one
    channel. A compatibility adds a copy of the predictions, an asymmetric one two, and so do other layouts than NCHW.

    Args:
        kernels: Terms of the mixture K. ``None`` is the single RGBXY kernel of Sec. 4.1.
        radius: Neighborhood radius r >= 1 in pixels of the logits grid; the window has side 2r + 1. ``None`` is 5, or
            what ``epsilon`` asks for.
        compatibility: mu, (C, C), non-negative with a zero diagonal. ``None`` is the Potts model, Eq. 2.
        authors_denominator: Divide as the authors' code does when there is a source mask but no destination mask: by
            the number of source pixels. Otherwise, and by default, by the number of destination pixels, Eq. 10.
        engine: "auto" takes the fastest for the device: "fused" (a Triton kernel) on GPUs, "banded" (matrix products)
            on CPUs, "shifted" elsewhere and where Triton is missing. "tensor" is the form of Sec. 6.2, the reference.
        epsilon: Instead of ``radius``, the tolerated loss of signal, in (0, 1), see :func:`losses.radius_for`.
        debug: Check at every call that predictions and features are finite, and predictions probabilities. It waits
            for the device and cannot be compiled.

    Raises:
        ValueError: A radius below 1, or one beside an epsilon; an unknown engine; a compatibility that is not as above.
    """

    compatibility: Tensor | None

    def __init__(
        self,
        kernels: Sequence[GaussianKernel] | None = None,
        radius: int | None = None,
        compatibility: Sequence[Sequence[float]] | Tensor | None = None,
        authors_denominator: bool = False,
        engine: str = "auto",
        epsilon: float | None = None,
        debug: bool = False,
    ) -> None:
        super().__init__()
        self.kernels = [GaussianKernel()] if kernels is None else list(kernels)
        checks.settings(self.kernels, radius, epsilon, engine, ENGINES)
        if radius is None:
            radius = 5 if epsilon is None else radius_for(self.kernels, epsilon)
        self.radius = radius
        self.authors_denominator = authors_denominator
        self.engine = engine
        self.debug = debug
        mu = None if compatibility is None else checks.compatibility(compatibility)
        self.symmetric = mu is not None and not torch.compiler.is_compiling() and torch.equal(mu, mu.T)
        self.register_buffer("compatibility", mu)

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
            features: Per modality, float (N, D, H', W'): ``{"rgb": standardized image}``. "xy" is implied. Larger maps
                than ``probs`` are average-pooled to it. Values may be anything where both gates are closed.
            source: m^src, bool (N, H', W'): pixels that may send energy. ``None`` is all. At another size than
                ``probs``, a cell is set only if all its pixels are.
            destination: m^dst, likewise: pixels that may receive it.

        Raises:
            ValueError: A missing feature map; maps, masks or classes of another type or shape than above.
        """
        checks.inputs(probs, features, source, destination, self.kernels, self.compatibility)
        with torch.autocast(probs.device.type, enabled=False):
            size = probs.shape[-2:]
            wide = torch.promote_types(probs.dtype, torch.float32)
            used = [name for name in features if any(name in kernel.modalities for kernel in self.kernels)]
            maps = {name: _pool(features[name].to(wide), size) for name in used}
            src, dst = (_pool_gate(mask, probs) for mask in (source, destination))
            if source is not None and destination is not None:
                hidden = ~(src | dst).unsqueeze(1)  # missing depth, say, may be NaN there
                maps = {name: x.masked_fill(hidden, 0) for name, x in maps.items()}
            if self.debug:
                checks.values(probs, maps)
            energy = self._energy(probs, maps, src, dst)
            by_source = self.authors_denominator and destination is None
            return global_mean(energy, (src if by_source else dst).sum())

    def draw_kernels(self, features: Mapping[str, Tensor], size: Sequence[int]) -> Tensor:
        """Return K, relative to its value at the anchors, around anchors one window apart, for a picture.

        Args:
            features: As for :meth:`forward`.
            size: (H, W) of the logits grid.

        Returns:
            float (N, H', W') in [0, 1], see :func:`losses.kernel_mosaic.mosaic`.
        """
        used = {name for kernel in self.kernels for name in kernel.modalities}
        maps = {name: _pool(features[name].float(), torch.Size(size)) for name in features if name in used or not used}
        kernels = mosaic(maps, self.kernels, self.radius)
        return (kernels / sum(kernel.weight for kernel in self.kernels)).clamp(0, 1)

    def _energy(self, probs: Tensor, maps: Mapping[str, Tensor], source: Tensor, destination: Tensor) -> Tensor:
        wide = torch.promote_types(probs.dtype, torch.float32)
        mu = None if self.compatibility is None else self.compatibility.to(probs.device, wide)
        engine = choose_engine(probs.device) if self.engine == "auto" else self.engine
        if engine == "tensor":
            src, dst = (gate.unsqueeze(1).to(wide) for gate in (source, destination))
            return tensor_form.pairwise_energy(probs.to(wide), maps, self.kernels, self.radius, mu, src, dst)
        features = list(maps.values()) or [probs[:, :0].to(wide)]
        stacked = features[0] if len(features) == 1 else torch.cat(features, dim=1)
        mixture = mix(self.kernels, {name: x.shape[1] for name, x in maps.items()})
        return pairwise_energy(probs, stacked, source, destination, mu, self.symmetric, mixture, self.radius, engine)


def gated_crf_loss(
    probs: Tensor,
    features: Mapping[str, Tensor],
    source: Tensor | None = None,
    destination: Tensor | None = None,
    *,
    kernels: Sequence[GaussianKernel] | None = None,
    radius: int | None = None,
    compatibility: Sequence[Sequence[float]] | Tensor | None = None,
    authors_denominator: bool = False,
    engine: str = "auto",
    epsilon: float | None = None,
    debug: bool = False,
) -> Tensor:
    """Return the scalar loss: :class:`GatedCRFLoss` for one call, with the same arguments, shapes and errors."""
    loss = GatedCRFLoss(kernels, radius, compatibility, authors_denominator, engine, epsilon, debug)
    return loss(probs, features, source, destination)  # type: ignore[no-any-return]


def _pool(feature: Tensor, size: torch.Size) -> Tensor:
    return feature if feature.shape[-2:] == size else F.adaptive_avg_pool2d(feature, (size[0], size[1]))


def _pool_gate(mask: Tensor | None, probs: Tensor) -> Tensor:
    """Bring a bool mask (N, H', W') to the grid of ``probs``: set where all pixels of a cell are."""
    n, _, height, width = probs.shape
    if mask is None:
        return torch.ones(n, height, width, dtype=torch.bool, device=probs.device)
    if mask.shape[-2:] == probs.shape[-2:]:
        return mask.clone()  # what is saved for the backward pass may not change under it
    if mask.shape[-2] % height == 0 and mask.shape[-1] % width == 0:  # without a copy of the mask in floats
        return mask.reshape(n, height, mask.shape[-2] // height, width, -1).all(-1).all(2)
    return F.adaptive_max_pool2d((~mask).unsqueeze(1).float(), (height, width)).squeeze(1) == 0
