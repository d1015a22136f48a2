"""Gradients of the features against autograd through the tensor form."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from losses import GatedCRFLoss, GaussianKernel

SKEW = [[0, 0.25, 1], [0.5, 0, 0.75], [2, 0.125, 0]]
SHARED = [GaussianKernel({"rgb": 2.0, "depth": 0.8, "xy": 1.5}), GaussianKernel({"depth": 1.0}, -0.5)]
every_engine = pytest.mark.parametrize("engine", ["shifted", "banded", "tensor"])
either_matrix = pytest.mark.parametrize("compatibility", [None, SKEW], ids=["Potts", "skew"])


@either_matrix
@pytest.mark.parametrize("engine", ["shifted", "banded"])
@pytest.mark.parametrize(("h", "w", "radius"), [(4, 5, 2), (1, 7, 3), (6, 3, 9)])
def test_equals_autograd_through_the_tensor_form(
    h: int,
    w: int,
    radius: int,
    engine: str,
    compatibility: list[list[float]] | None,
    scene: Callable[..., dict[str, Any]],
) -> None:
    """Two kernels share a modality, and the gates differ."""
    given = scene(h=h, w=w)
    inputs = [given["probs"], *given["features"].values()]
    for x in inputs:
        x.requires_grad_()
    gradients = []
    for name in ("tensor", engine):
        loss = GatedCRFLoss(SHARED, radius, compatibility, engine=name)(**given)
        gradients.append(torch.autograd.grad(2 * loss, inputs))
    for expected, gradient in zip(*gradients, strict=True):
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


@either_matrix
@every_engine
def test_gradcheck(engine: str, compatibility: list[list[float]] | None, scene: Callable[..., dict[str, Any]]) -> None:
    given = scene(n=1, h=3, w=3)
    loss = GatedCRFLoss(SHARED, 2, compatibility, engine=engine)

    def energy(probs: Tensor, rgb: Tensor, depth: Tensor) -> Tensor:
        return loss(probs, {"rgb": rgb, "depth": depth}, given["source"], given["destination"])

    inputs = [x.requires_grad_() for x in (given["probs"], *given["features"].values())]
    assert torch.autograd.gradcheck(energy, inputs)


@every_engine
def test_gradient_goes_through_the_pooling_of_a_map(engine: str, scene: Callable[..., dict[str, Any]]) -> None:
    """A pixel of a map at three times the resolution has a ninth of its cell's gradient."""
    given, large, loss = scene(), scene(h=12, w=15, seed=1)["features"], GatedCRFLoss(SHARED, 2, engine=engine)
    pooled = {name: F.avg_pool2d(x, 3).requires_grad_() for name, x in large.items()}
    of_cells = torch.autograd.grad(loss(**{**given, "features": pooled}), list(pooled.values()))
    large = {name: x.requires_grad_() for name, x in large.items()}
    of_pixels = torch.autograd.grad(loss(**{**given, "features": large}), list(large.values()))
    for cell, pixel in zip(of_cells, of_pixels, strict=True):
        expected = cell.repeat_interleave(3, -2).repeat_interleave(3, -1) / 9
        torch.testing.assert_close(pixel, expected, rtol=1e-10, atol=1e-14)


@either_matrix
@every_engine
def test_closed_gates_give_no_gradient_even_to_missing_features(
    engine: str, compatibility: list[list[float]] | None, scene: Callable[..., dict[str, Any]]
) -> None:
    given = scene(h=6, w=7)
    hidden = ~(given["source"] | given["destination"]).unsqueeze(1)
    depth = given["features"]["depth"].masked_fill(hidden, torch.nan).requires_grad_()
    given["features"]["depth"] = depth
    GatedCRFLoss(SHARED, 2, compatibility, engine=engine)(**given).backward()
    assert hidden.any()
    assert not depth.grad[hidden].any()
    assert depth.grad[~hidden].isfinite().all()
    assert depth.grad[~hidden].any()


@every_engine
def test_modality_without_a_bandwidth_receives_no_gradient(engine: str, scene: Callable[..., dict[str, Any]]) -> None:
    given = scene()
    features = {name: x.requires_grad_() for name, x in given["features"].items()}
    GatedCRFLoss([GaussianKernel({"rgb": 1.5, "xy": 2.0})], 2, engine=engine)(**given).backward()
    assert features["rgb"].grad.any()
    assert features["depth"].grad is None


@every_engine
def test_features_learn_without_predictions_that_do(engine: str, scene: Callable[..., dict[str, Any]]) -> None:
    """Two opposite pixels cost one kernel value, K, and at the distance d of their colors dK/dd = -d / sigma^2 K."""
    probs, sigma, distance = torch.eye(2).double().view(1, 2, 1, 2), 0.5, 0.3
    color = torch.tensor([0, distance]).double().view(1, 1, 1, 2).requires_grad_()
    loss = GatedCRFLoss([GaussianKernel({"rgb": sigma})], 1, engine=engine)(probs, {"rgb": color})
    (gradient,) = torch.autograd.grad(loss, color)
    pull = distance / sigma**2 * torch.tensor(-(distance**2) / (2 * sigma**2)).double().exp()
    torch.testing.assert_close(gradient.flatten(), torch.stack([pull, -pull]), rtol=1e-6, atol=0)
    assert loss > 0


@every_engine
def test_half_precision_learns_like_float32(engine: str, scene: Callable[..., dict[str, Any]]) -> None:
    given = scene()
    probs = given.pop("probs").bfloat16()
    rgb = given["features"]["rgb"].bfloat16().requires_grad_()
    results = []
    for y, color in ((probs, rgb), (probs.double(), rgb.detach().double().requires_grad_())):
        features = {**given["features"], "rgb": color}
        loss = GatedCRFLoss(SHARED, 2, SKEW, engine=engine)(y, features, given["source"], given["destination"])
        results.append(torch.autograd.grad(loss, color)[0])
    assert results[0].dtype == torch.bfloat16
    assert (results[0] - results[1]).norm() <= 1e-2 * results[1].norm()
