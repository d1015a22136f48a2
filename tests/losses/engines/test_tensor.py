"""What only the reference engine supports."""

from collections.abc import Callable
from typing import Any

import torch

from losses import GatedCRFLoss, GaussianKernel


def test_can_be_differentiated_twice(scene: Callable[..., dict[str, Any]]) -> None:
    given = scene(n=1, h=2, w=3)
    kernels = [GaussianKernel({"rgb": 2.0, "xy": 2.0}), GaussianKernel({"depth": 1.0}, 0.5)]
    loss = GatedCRFLoss(kernels, 2, engine="tensor")
    probs, rgb, depth = (x.requires_grad_() for x in (given["probs"], *given["features"].values()))

    def energy(probs: torch.Tensor, rgb: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        return loss(probs, {"rgb": rgb, "depth": depth}, given["source"], given["destination"])

    assert torch.autograd.gradgradcheck(energy, (probs, rgb, depth))
