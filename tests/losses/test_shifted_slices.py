"""What only the default engine does."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from experiments.benchmark import peak_memory
from losses import GatedCRFLoss, GaussianKernel
from losses.shifted_slices import gated_filter


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("radius", [1, 5, 30])
def test_equals_the_tensor_form(radius: int, seed: int, scene: Callable[..., dict[str, Any]]) -> None:
    given = scene(n=2, c=4, h=13, w=17, seed=seed)
    probs = given.pop("probs").requires_grad_()
    kernels = [GaussianKernel({"rgb": 1.5, "xy": 6.0}), GaussianKernel({"depth": 0.5, "xy": 2.0}, 0.3)]
    mu = torch.randint(8, (4, 4), generator=torch.Generator().manual_seed(seed)).fill_diagonal_(0) / 8
    for compatibility in (None, mu):
        values = [GatedCRFLoss(kernels, radius, compatibility, engine=e)(probs, **given) for e in ("tensor", "shifted")]
        tensor, shifted = (torch.autograd.grad(value, probs)[0] for value in values)
        torch.testing.assert_close(values[1], values[0], rtol=1e-10, atol=0)
        torch.testing.assert_close(shifted, tensor, rtol=1e-10, atol=1e-10 * tensor.abs().max().item())


def test_filter_is_symmetric_or_antisymmetric(scene: Callable[..., dict[str, Any]]) -> None:
    """<x, W y> = sign <W x, y>: what lets one sweep serve both ends of a pair."""
    given = scene()
    x, y = given["probs"][:, :1], given["probs"][:, 1:2]
    gates = [given[name].unsqueeze(1).double() for name in ("source", "destination")]
    for sign in (1, -1):
        window = (given["features"], [GaussianKernel({"rgb": 2.0})], 2, *gates, sign)
        left, right = (x * gated_filter(y, *window)).sum(), (gated_filter(x, *window) * y).sum()
        torch.testing.assert_close(left, sign * right, rtol=1e-12, atol=0)
        assert left.abs() > 1e-3


def test_refuses_features_that_require_a_gradient(scene: Callable[..., dict[str, Any]]) -> None:
    given = scene()
    given["features"]["rgb"].requires_grad_()
    with pytest.raises(ValueError, match=r"'rgb'.*engine='tensor'"):
        GatedCRFLoss()(**given)


def test_stores_nothing_of_the_size_of_the_window() -> None:
    probs = torch.rand(1, 21, 32, 32).softmax(1).requires_grad_()
    image, device = {"rgb": torch.rand(1, 3, 32, 32)}, probs.device
    mib = probs.numel() * 4 / 2**20
    peak = {
        engine: peak_memory(lambda engine=engine: GatedCRFLoss(engine=engine)(probs, image).backward(), device) / mib
        for engine in ("tensor", "shifted")
    }
    assert peak["shifted"] < 8
    assert peak["tensor"] > 121  # the window at r = 5, so the meter does see it
