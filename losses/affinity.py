"""The Gaussian kernel mixture K of Eqs. 1 and 2, shared by every engine."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

SPATIAL = "xy"


@dataclass(frozen=True)
class GaussianKernel:
    """One term w k(f_a, f_b) of the mixture, Eqs. 1 and 2.

    Args:
        sigma: Bandwidth per modality, > 0. "xy" is in pixels of the logits grid and needs no feature map; every other
            key names a feature map and is in its units. The default is the RGBXY kernel of Sec. 4.1, where color is
            standardized, so that 0.1 is about 5.8 of 255 grey levels.
        weight: w, any sign.

    Raises:
        ValueError: No bandwidth, or one that is not positive.
    """

    sigma: Mapping[str, float] = field(default_factory=lambda: {"rgb": 0.1, SPATIAL: 6.0})
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.sigma:
            raise ValueError(
                "A GaussianKernel needs at least one bandwidth, for example sigma={'rgb': 0.1, 'xy': 6.0}."
            )
        for modality, sigma in self.sigma.items():
            if not sigma > 0:
                raise ValueError(f"sigma[{modality!r}] is {sigma}; a bandwidth must be positive.")

    @property
    def modalities(self) -> list[str]:
        """Names of the feature maps that this kernel reads."""
        return [name for name in self.sigma if name != SPATIAL]

    def scale(self, features: Mapping[str, Tensor]) -> Tensor | None:
        """Concatenate the modalities, each divided by its bandwidth.

        Args:
            features: Per modality, float (N, D, H, W).

        Returns:
            (N, sum of D, H, W), or ``None`` for a kernel of position alone.
        """
        maps = [features[name] / self.sigma[name] for name in self.modalities]
        return torch.cat(maps, dim=1) if maps else None

    def at_distance(self, dy: int, dx: int) -> float:
        """Half the squared spatial distance in units of the bandwidth, 0 without "xy"; offsets in pixels."""
        return (dy**2 + dx**2) / (2 * self.sigma[SPATIAL] ** 2) if SPATIAL in self.sigma else 0.0


def check_features(kernels: Sequence[GaussianKernel], features: Mapping[str, Tensor]) -> None:
    """Raise ``ValueError`` for a kernel whose feature map is missing."""
    for name in {name for kernel in kernels for name in kernel.modalities} - set(features):
        raise ValueError(f"A kernel has a bandwidth for {name!r} but features has only {sorted(features)}; pass it.")


def half_window(radius: int) -> Iterator[tuple[int, int]]:
    """Yield (dy, dx) of one half of the window Omega_r without its center; the other half is its mirror image."""
    for dy in range(radius + 1):
        for dx in range(-radius, radius + 1):
            if dy > 0 or dx > 0:
                yield dy, dx
