"""What only the reference engine does."""

from collections.abc import Callable
from typing import Any

import torch

from losses import GatedCRFLoss, GaussianKernel


def test_features_receive_a_gradient(scene: Callable[..., dict[str, Any]]) -> None:
    given = scene(n=1, h=3, w=3)
    kernels = [GaussianKernel({"rgb": 2.0, "xy": 2.0}), GaussianKernel({"depth": 1.0}, 0.5)]
    loss = GatedCRFLoss(kernels, 2, engine="tensor")
    rgb, depth = (given["features"][name].requires_grad_() for name in ("rgb", "depth"))

    def of_features(rgb: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        return loss(**{**given, "features": {"rgb": rgb, "depth": depth}})

    assert torch.autograd.gradcheck(of_features, (rgb, depth))
