"""The loss of each CPU engine against its definition, closed forms and invariants."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from losses import GatedCRFLoss, GaussianKernel, PartialCrossEntropyLoss

every_engine = pytest.mark.parametrize("engine", ["shifted", "banded", "tensor"])
ASYMMETRIC = torch.tensor([[0, 0.25, 1], [0.5, 0, 0.75], [2, 0.125, 0]])
MIXTURES = {
    "color and position": ([GaussianKernel({"rgb": 1.5, "xy": 2.0}, 0.7)], 2),
    "two kernels, depth": (
        [GaussianKernel({"rgb": 2.0, "depth": 0.8, "xy": 1.5}), GaussianKernel({"depth": 1.0}, 0.5)],
        3,
    ),
    "radius beyond the image": ([GaussianKernel({"rgb": 1.5, "xy": 4.0})], 9),
    "no position": ([GaussianKernel({"rgb": 1.5})], 1),
    "position alone": ([GaussianKernel({"xy": 1.5})], 2),
    "repelling kernel": ([GaussianKernel({"xy": 3.0}), GaussianKernel({"rgb": 2.0, "xy": 1.0}, -0.5)], 2),
}


@every_engine
@pytest.mark.parametrize("compatibility", [None, ASYMMETRIC, ASYMMETRIC + ASYMMETRIC.T], ids=["Potts", "skew", "even"])
@pytest.mark.parametrize("mixture", MIXTURES.values(), ids=MIXTURES)
def test_value_and_gradient_equal_the_definition(
    mixture: tuple[list[GaussianKernel], int],
    compatibility: Tensor | None,
    engine: str,
    scene: Callable[..., dict[str, Any]],
    psi: Callable[..., Tensor],
) -> None:
    kernels, radius = mixture
    given = scene()
    logits = given.pop("probs").log().requires_grad_()
    expected = psi(logits.softmax(1), **given, kernels=kernels, radius=radius, compatibility=compatibility)
    expected = expected / given["destination"].sum()
    loss = GatedCRFLoss(kernels, radius, compatibility, engine=engine)(logits.softmax(1), **given)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    of_loss, of_definition = (torch.autograd.grad(value, logits)[0] for value in (loss, expected))
    torch.testing.assert_close(of_loss, of_definition, rtol=1e-10, atol=1e-10 * of_definition.abs().max().item())


@every_engine
def test_gradient_is_the_filtered_prediction(
    engine: str, scene: Callable[..., dict[str, Any]], affinity: Callable[..., float]
) -> None:
    """Potts: dL/dy_a = -1/D sum over b of (G_ab + G_ba) K_ab y_b."""
    given, kernels = scene(n=1), [GaussianKernel({"rgb": 1.5, "xy": 2.0})]
    probs, pixels = given["probs"].requires_grad_(), list(product(range(4), range(5)))
    src, dst = (dict(zip(pixels, given[name].flatten().tolist(), strict=True)) for name in ("source", "destination"))
    (gradient,) = torch.autograd.grad(GatedCRFLoss(kernels, 2, engine=engine)(**given), probs)
    expected = torch.zeros_like(gradient)
    for a, b in product(pixels, pixels):
        if a != b and max(abs(a[0] - b[0]), abs(a[1] - b[1])) <= 2:
            gates = int(dst[a] and src[b]) + int(dst[b] and src[a])
            w = gates * affinity(given["features"], kernels, 0, a, b)
            expected[0, :, *a] -= w * probs.detach()[0, :, *b] / sum(dst.values())
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)


@every_engine
@pytest.mark.parametrize("compatibility", [None, ASYMMETRIC], ids=["Potts", "skew"])
def test_gradcheck(engine: str, compatibility: Tensor | None, scene: Callable[..., dict[str, Any]]) -> None:
    given = scene(n=1, h=3, w=4)
    loss = GatedCRFLoss([GaussianKernel({"rgb": 2.0, "xy": 2.0})], 2, compatibility, engine=engine)
    probs = given.pop("probs").requires_grad_()
    assert torch.autograd.gradcheck(lambda p: loss(p, **given), probs)


@every_engine
@pytest.mark.parametrize(
    ("radius", "sigma", "total"),
    [(5, 6, 92.008633), (5, 3, 48.384127), (5, 10, 108.697214), (3, 3, 31.563629), (8, 10, 228.882949)],
)
def test_single_pixel_in_a_flat_image_costs_the_whole_kernel(
    radius: int, sigma: float, total: float, engine: str
) -> None:
    side = 2 * radius + 3  # one pixel wider than the window on each side
    labels, center = torch.zeros(1, side, side, dtype=torch.long), torch.zeros(1, side, side, dtype=torch.bool)
    labels[0, radius + 1, radius + 1], center[0, radius + 1, radius + 1] = 1, True
    probs = F.one_hot(labels, 2).movedim(-1, 1).double()
    loss = GatedCRFLoss([GaussianKernel({"rgb": 0.1, "xy": sigma})], radius, engine=engine)
    flat = {"rgb": torch.ones(1, 3, side, side)}
    assert loss(probs, flat, destination=center).item() == pytest.approx(total, abs=1e-6)


@every_engine
def test_uniform_prediction_in_a_flat_image(engine: str) -> None:
    probs, flat = torch.full((1, 21, 16, 16), 1 / 21, dtype=torch.float64), {"rgb": torch.zeros(1, 3, 16, 16)}
    interior = torch.zeros(1, 16, 16, dtype=torch.bool)
    interior[0, 7, 8] = True
    loss = GatedCRFLoss(engine=engine)
    assert loss(probs, flat).item() == pytest.approx(61.70891, abs=1e-5)
    assert loss(probs, flat, destination=interior).item() == pytest.approx(87.627269, abs=1e-6)


@every_engine
def test_two_opposite_pixels_cost_one_kernel_value(engine: str) -> None:
    probs = torch.eye(2, dtype=torch.float64).view(1, 2, 1, 2)
    loss = GatedCRFLoss(engine=engine)(probs, {"rgb": torch.zeros(1, 3, 1, 2)})
    assert loss.item() == pytest.approx(0.9862071, abs=1e-7)  # exp(-1 / 72)


@every_engine
def test_equal_labels_cost_nothing(engine: str, scene: Callable[..., dict[str, Any]]) -> None:
    given = scene()
    given["probs"] = torch.tensor([0.0, 1.0, 0.0]).double().view(1, 3, 1, 1).expand(2, 3, 4, 5)
    assert GatedCRFLoss(engine=engine)(**given).item() == pytest.approx(0, abs=1e-14)


@every_engine
def test_loss_is_the_same_in_a_mirror(engine: str, scene: Callable[..., dict[str, Any]]) -> None:
    given = scene()
    mirrored = {k: v.flip(-1) for k, v in given.items() if k != "features"}
    mirrored["features"] = {k: v.flip(-1) for k, v in given["features"].items()}
    loss = GatedCRFLoss([GaussianKernel({"rgb": 1.5, "xy": 2.0})], 2, ASYMMETRIC, engine=engine)
    torch.testing.assert_close(loss(**given), loss(**mirrored), rtol=1e-12, atol=0)


@every_engine
@pytest.mark.parametrize("compatibility", [None, ASYMMETRIC / 3], ids=["Potts", "skew"])
def test_float32_under_autocast(
    compatibility: Tensor | None, engine: str, scene: Callable[..., dict[str, Any]]
) -> None:
    """With a compatibility, the engines multiply matrices; autocast must not do this in bfloat16."""
    given, kernels = scene(h=9, w=8), [GaussianKernel({"rgb": 1.0, "xy": 6.0})]
    loss = GatedCRFLoss(kernels, 5, compatibility, engine=engine)
    given["probs"], expected = given["probs"].bfloat16(), loss(**{**given, "probs": given["probs"].bfloat16().float()})
    given["probs"].requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(**given)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected)
    (gradient,) = torch.autograd.grad(value, given["probs"])
    assert gradient.dtype == torch.bfloat16
    assert gradient.isfinite().all()


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_spreads_clicks_to_the_color_edge(weight: float) -> None:
    """Sec. 3: the local energy spreads two clicks across the image and stops at the edge."""
    halves = torch.arange(16).expand(1, 16, 16) // 8
    target = torch.full((1, 16, 16), 255)
    target[0, 4, 1], target[0, 12, 14] = 0, 1
    color = {"rgb": halves.unsqueeze(1).float()}
    logits = torch.zeros(1, 2, 16, 16, requires_grad=True)
    supervised, regularizer = PartialCrossEntropyLoss(), GatedCRFLoss()
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        (supervised(logits, target) + weight * regularizer(logits.softmax(1), color)).backward()
        optimizer.step()
    assert torch.equal(logits.argmax(1), halves) == (weight > 0)
