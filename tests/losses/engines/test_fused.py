"""The engine for GPUs, interpreted where there is none: keep the cases small, each step of a window takes 15 ms."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from losses import GatedCRFLoss, GaussianKernel
from losses.kernels import Mixture, mix

pytest.importorskip("triton", reason="Triton comes with torch on Linux only")

from losses.engines.fused import gated_filter

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SKEW = [[0, 0.25, 1], [0.5, 0, 0.75], [2, 0.125, 0]]
EVEN = [[0, 0.75, 3], [0.75, 0, 0.875], [3, 0.875, 0]]
TWO = mix(
    [GaussianKernel({"rgb": 1.5, "xy": 3.0}), GaussianKernel({"depth": 0.8, "rgb": 3.0}, -0.5)], {"rgb": 3, "depth": 1}
)
WIDE = mix([GaussianKernel({"depth": 0.8, "xy": 2.0}), GaussianKernel({"f": 4.0})], {"f": 9, "depth": 1})
POSITION = mix([GaussianKernel({"xy": 1.5}, 0.3)], {})
Filter = Callable[..., tuple[Tensor, Tensor]]


@pytest.mark.parametrize(
    ("size", "radius", "mixture", "dtype"),
    [
        ((2, 3, 4, 5), 2, TWO, torch.float64),
        ((1, 3, 4, 5), 2, TWO, torch.float32),
        ((1, 3, 4, 5), 1, WIDE, torch.float64),
        ((1, 3, 4, 5), 1, POSITION, torch.float64),
        ((1, 1, 4, 5), 1, TWO, torch.float64),
        ((2, 35, 3, 4), 1, TWO, torch.float64),  # two blocks of classes
        ((1, 2, 2, 130), 1, TWO, torch.float64),  # more columns than lanes
        ((1, 2, 5, 70), 1, TWO, torch.float32),  # several tiles of rows
        ((1, 3, 1, 6), 2, TWO, torch.float64),
        ((1, 3, 40, 1), 1, TWO, torch.float64),
        ((1, 2, 2, 2), 2, TWO, torch.float64),  # a radius beyond the image
    ],
)
def test_filter_and_energy_equal_the_dense_matrix(
    size: tuple[int, int, int, int],
    radius: int,
    mixture: Mixture,
    dtype: torch.dtype,
    sweep: Callable[..., list[Tensor]],
    dense_filter: Filter,
) -> None:
    given = [x.to(dtype) if x.is_floating_point() else x for x in sweep(*size, d=sum(mixture.widths))]
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-5}[dtype]
    for sign, constant in ((1, 1), (-1, 0)):
        expected = dense_filter(*given, mixture, radius, sign, constant)
        filtered = gated_filter(*(x.to(DEVICE) for x in given), mixture, radius, sign, constant)
        for x, y in zip(filtered, expected, strict=True):
            assert x.dtype == dtype
            torch.testing.assert_close(x.cpu().double(), y, rtol=tolerance, atol=tolerance * max(1.0, y.abs().max()))


@pytest.mark.parametrize("compatibility", [None, EVEN, SKEW], ids=["Potts", "even", "skew"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_loss_and_gradients_equal_the_tensor_form(
    dtype: torch.dtype,
    tolerance: float,
    compatibility: list[list[float]] | None,
    scene: Callable[..., dict[str, Any]],
) -> None:
    given = scene()
    kernels = [GaussianKernel({"rgb": 2.0, "depth": 0.8, "xy": 1.5}), GaussianKernel({"depth": 1.0}, 0.5)]
    results = []
    for engine, device, precision in (("tensor", "cpu", torch.float64), ("fused", DEVICE, dtype)):
        probs, rgb = (x.to(device, precision).requires_grad_() for x in (given["probs"], given["features"]["rgb"]))
        features = {"rgb": rgb, "depth": given["features"]["depth"].to(device, precision)}
        masks = [given[name].to(device) for name in ("source", "destination")]
        loss = GatedCRFLoss(kernels, 1, compatibility, engine=engine)(probs, features, *masks)
        results.append([loss, *torch.autograd.grad(loss, (probs, rgb))])
    for expected, x in zip(*results, strict=True):
        assert x.dtype == dtype
        atol = tolerance * expected.abs().max().item()
        torch.testing.assert_close(x.cpu().double(), expected, rtol=tolerance, atol=atol)


@pytest.mark.parametrize("compatibility", [None, SKEW], ids=["Potts", "skew"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_read_and_computed_with_in_float32(
    dtype: torch.dtype, compatibility: list[list[float]] | None, scene: Callable[..., dict[str, Any]]
) -> None:
    given = scene(n=1)
    given["probs"] = given["probs"].to(dtype)
    results = []
    for engine, device, precision in (("tensor", "cpu", torch.float64), ("fused", DEVICE, dtype)):
        probs = given["probs"].to(device, precision).requires_grad_()
        features = {name: x.to(device).requires_grad_() for name, x in given["features"].items()}
        masks = [given[name].to(device) for name in ("source", "destination")]
        kernels = [GaussianKernel({"rgb": 1.5, "depth": 1.0, "xy": 2.0})]
        loss = GatedCRFLoss(kernels, 1, compatibility, engine=engine)(probs, features, *masks)
        results.append((loss, *torch.autograd.grad(loss, (probs, features["rgb"]))))
    loss, gradient, _ = results[1]
    assert (loss.dtype, gradient.dtype) == (torch.float32, dtype)
    for value, expected, tolerance in zip(results[1], results[0], (1e-5, 1e-2, 1e-5), strict=True):
        assert (value.cpu() - expected).norm() <= tolerance * expected.norm()


def test_layout_in_memory_does_not_matter(sweep: Callable[..., list[Tensor]]) -> None:
    given = [x.to(DEVICE) for x in sweep(1, 3, 4, 5)]
    filtered, energy = gated_filter(*(x.mT.contiguous().mT for x in given), TWO, 1, 1, 1)
    expected, expected_energy = gated_filter(*given, TWO, 1, 1, 1)
    assert torch.equal(filtered, expected)
    assert torch.equal(energy, expected_energy)


def test_two_runs_give_the_same_bits(sweep: Callable[..., list[Tensor]]) -> None:
    given = [x.float() if x.is_floating_point() else x for x in sweep(2, 3, 4, 70)]
    given = [x.to(DEVICE) for x in given]
    first, second = (gated_filter(*given, TWO, 1, 1, 1) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize("compatibility", [None, SKEW], ids=["Potts", "skew"])
def test_gradcheck(compatibility: list[list[float]] | None, scene: Callable[..., dict[str, Any]]) -> None:
    given = scene(n=1, h=2, w=3)
    features = {"rgb": given["features"]["rgb"].to(DEVICE)}
    loss = GatedCRFLoss([GaussianKernel({"rgb": 2.0, "xy": 2.0})], 1, compatibility, engine="fused")
    probs = given["probs"].to(DEVICE).requires_grad_()
    masks = [given[name].to(DEVICE) for name in ("source", "destination")]
    assert torch.autograd.gradcheck(lambda p: loss(p, features, *masks), probs, fast_mode=True)
