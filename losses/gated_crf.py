"""The Gated CRF loss, Eqs. 1 to 11, as a module and as a function.

Eqs. 6 to 9 and 11 are written out in :mod:`losses.engines.tensor`, the reference.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from losses import checks
from losses.autograd import pairwise_energy
from losses.engines import choose_engine
from losses.engines import tensor as tensor_form
from losses.first_call import FirstCall
from losses.global_batch import global_mean, sum_over_processes
from losses.kernels import GaussianKernel, Neighborhood, mix, mosaic, radius_for
from losses.pooling import pool, pool_gate


class GatedCRFLoss(nn.Module):
    """Gated pairwise energy per destination pixel, Eqs. 4, 5 and 10, over the batch of all processes.

    The loss is computed in float32 or wider, also under autocast. It is differentiable once, in the predictions and in
    features that require a gradient. For confident predictions, 1 - y . y is subject to cancellation: the value is
    exact to about 1e-7 of the kernel's sum over the window (92 for the kernel of Sec. 4.1). The gradient is not
    affected.

    The first call warns if predictions are not probabilities or an image is not standardized.

    For C >= 19, "fused" and "shifted" need extra memory of less than half the size of the gradient. A symmetric
    ``compatibility`` adds one copy of the predictions, an asymmetric one adds two, and a memory layout other than NCHW
    adds one.

    Args:
        kernels: Terms of the mixture K. ``None`` is the single RGBXY kernel of Sec. 4.1.
        radius: r >= 1, pixels of the logits grid; windows have side 2r + 1. ``None`` is 5, or follows from ``epsilon``.
        compatibility: mu, (C, C), non-negative with a zero diagonal. ``None`` is the Potts model, Eq. 2.
        authors_denominator: Divide by the number of source pixels if there is a source mask only, as the authors' code
            does. The default is the number of destination pixels, Eq. 10.
        engine: "auto" is the fastest one for the device: "fused" (a Triton kernel) on GPUs, "banded" (matrix products)
            on CPUs, and "shifted" elsewhere or without Triton. "tensor" is the reference, Sec. 6.2.
        epsilon: Tolerated loss of signal, in (0, 1), instead of ``radius``; see :func:`losses.radius_for`.
        debug: Check in every call that predictions are probabilities and features are finite. This synchronizes with
            the device and cannot be compiled.

    Raises:
        ArgumentError: If ``radius`` is below 1 or given together with ``epsilon``, the engine is unknown, or
            ``compatibility`` is not as described.
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
        checks.settings(self.kernels, radius, epsilon, engine)
        if radius is None:
            radius = 5 if epsilon is None else radius_for(self.kernels, epsilon)
        self.radius = radius
        self.authors_denominator = authors_denominator
        self.engine = engine
        self.debug = debug
        self.first_call = FirstCall()
        mu = None if compatibility is None else checks.compatibility(compatibility)
        self.symmetric = mu is not None and not torch.compiler.is_compiling() and torch.equal(mu, mu.T)
        self.register_buffer("compatibility", mu)

    def forward(
        self,
        probs: Tensor,
        features: Mapping[str, Tensor],
        source: Tensor | None = None,
        destination: Tensor | None = None,
        count: Tensor | None = None,
    ) -> Tensor:
        """Return the scalar loss.

        Args:
            probs: y, class probabilities, float (N, C, H, W), summing to 1 over C.
            features: Feature maps by modality, float (N, D, H', W'), for example ``{"rgb": standardized image}``. "xy"
                is implicit. Larger maps are average-pooled to the size of ``probs``. Values may be NaN where both gates
                are closed.
            source: m^src, bool (N, H', W'): pixels that may send energy. ``None`` is all pixels. A larger mask is
                pooled: a cell is set if all its pixels are.
            destination: m^dst, same format as ``source``: pixels that may receive energy.
            count: The sum of :meth:`count` over all processes. ``None`` computes it here.

        Raises:
            ArgumentError: If a feature map is missing, or types, shapes or devices are not as described.
        """
        checks.inputs(probs, features, source, destination, self.kernels, self.compatibility)
        with torch.autocast(probs.device.type, enabled=False):
            size, wide = probs.shape[-2:], torch.promote_types(probs.dtype, torch.float32)
            used = {name for kernel in self.kernels for name in kernel.modalities}
            maps = {name: pool(x.to(wide), size) for name, x in features.items() if name in used}
            src, dst = (pool_gate(mask, probs) for mask in (source, destination))
            if source is not None and destination is not None:
                hidden = ~(src | dst).unsqueeze(1)  # there, missing values such as depth may be NaN
                maps = {name: x.masked_fill(hidden, 0) for name, x in maps.items()}
            if self.debug:
                checks.values(probs, maps)
            self.first_call.check_pairwise(probs, maps, self.kernels, src, dst)
            energy = self._energy(probs, maps, src, dst)
            if count is None:
                count = sum_over_processes(self.count(probs, features, source, destination))
            return global_mean(energy, count.sum())

    def count(
        self,
        probs: Tensor,
        features: Mapping[str, Tensor],
        source: Tensor | None = None,
        destination: Tensor | None = None,
    ) -> Tensor:
        """Return the denominator of Eq. 10 for the arguments of :meth:`forward`, int64 (1,)."""
        gate = source if self.authors_denominator and destination is None else destination
        return pool_gate(gate, probs).sum().view(1)

    def draw_kernels(self, features: Mapping[str, Tensor], size: Sequence[int]) -> Tensor:
        """Return a picture of the kernels: :func:`losses.kernels.mosaic` relative to K at the anchor, in [0, 1].

        Args:
            features: As in :meth:`forward`.
            size: (H, W) of the logits grid.
        """
        used = {name for kernel in self.kernels for name in kernel.modalities}
        maps = {name: pool(x.float(), torch.Size(size)) for name, x in features.items() if name in used or not used}
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
        neighborhood = Neighborhood(stacked, source, destination, mixture, self.radius)
        return pairwise_energy(probs, neighborhood, mu, self.symmetric, engine)


def gated_crf_loss(
    probs: Tensor,
    features: Mapping[str, Tensor],
    source: Tensor | None = None,
    destination: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """Return the loss of a :class:`GatedCRFLoss` with these ``options``."""
    loss = GatedCRFLoss(**options)
    loss.first_call = _FUNCTION_FIRST_CALL
    return loss(probs, features, source, destination)  # type: ignore[no-any-return]


_FUNCTION_FIRST_CALL = FirstCall()
