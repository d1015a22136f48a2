"""What the losses on all pairs of pixels have in common."""

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from losses import checks
from losses.all_pairs import pairwise_energies, scaled_features
from losses.errors import ArgumentError
from losses.first_call import FirstCall
from losses.kernels import SPATIAL, GaussianKernel
from losses.pooling import pool, pool_gate


class AllPairsLoss(nn.Module):
    """Base class of losses on all pairs of pixels. It maps their common arguments to those of the product.

    Args:
        kernel: K, with its weight. ``None`` has the published bandwidths, 15 gray levels of 255 and 100 pixels of the
            image, as 0.26 in standardized colors and 25 pixels of a logits grid of stride 4.
        scale: Size of the grid of the loss, relative to that of the predictions, which are interpolated bilinearly. The
            bandwidth of "xy" stays in pixels of the predictions.

    Raises:
        ArgumentError: ``scale`` is not positive.
    """

    def __init__(self, kernel: GaussianKernel | None = None, scale: float = 1.0) -> None:
        super().__init__()
        if not scale > 0:
            raise ArgumentError(f"scale is {scale}; it must be positive, for example 0.5.")
        self.kernel = GaussianKernel({"rgb": 0.26, SPATIAL: 25.0}) if kernel is None else kernel
        self.scale = scale
        self.first_call = FirstCall()

    def count(
        self,
        probs: Tensor,
        features: Mapping[str, Tensor],
        source: Tensor | None = None,
        destination: Tensor | None = None,
    ) -> Tensor:
        """Return the number of images, int64 (1,), the denominator of the mean."""
        return torch.full((1,), len(probs), device=probs.device)

    def energies(
        self, probs: Tensor, features: Mapping[str, Tensor], source: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the energies and degrees of :func:`pairwise_energies`, and the probabilities and mask of the grid.

        The arguments are those of a loss; ``source`` is the region of interest.

        Raises:
            ArgumentError: A feature map requires a gradient, or :func:`losses.checks.inputs` refuses an argument.
        """
        checks.inputs(probs, features, source, None, [self.kernel], None)
        for name in self.kernel.modalities:
            if features[name].requires_grad:
                raise ArgumentError(f"features[{name!r}] requires a gradient, but the loss gives it none; detach it.")
        wide = torch.promote_types(probs.dtype, torch.float32)
        mask = pool_gate(source, probs)
        read = {name: features[name] for name in self.kernel.modalities}
        self.first_call.check_pairwise(probs, read, [self.kernel], mask, mask)
        y, kernel = probs.to(wide), self.kernel
        if self.scale != 1:
            size = [max(1, round(self.scale * side)) for side in probs.shape[-2:]]
            inside = mask.unsqueeze(1).to(wide)
            y, inside = (F.interpolate(x, size, mode="bilinear", antialias=True) for x in (y, inside))
            mask = inside.squeeze(1) > 1 - 1e-4  # up to rounding, cells that read no pixel outside
            kernel = replace(kernel, sigma={n: s * self.scale if n == SPATIAL else s for n, s in kernel.sigma.items()})
        maps = {name: _resample(features[name].to(wide), y.shape[-2:]) for name in kernel.modalities}
        y, mask, scaled = y.flatten(2), mask.flatten(1), scaled_features(maps, kernel, mask)
        energies, degrees = pairwise_energies(y, scaled, mask)
        return kernel.weight * energies, kernel.weight * degrees, y, mask


def _resample(feature: Tensor, size: torch.Size) -> Tensor:
    if feature.shape[-2] >= size[0] and feature.shape[-1] >= size[1]:
        return pool(feature, size)
    return F.interpolate(feature, (size[0], size[1]), mode="bilinear")
