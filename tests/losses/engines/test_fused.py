"""The engine for GPUs, interpreted without a GPU. Keep the cases small: each step of a window takes 15 ms."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from losses import GatedCRFLoss, GaussianKernel
from losses.kernels import Mixture, Neighborhood, mix

pytest.importorskip("triton", reason="Triton comes with torch on Linux only")

from losses.engines.fused import Tile, gated_filter

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SKEW = [[0, 0.25, 1], [0.5, 0, 0.75], [2, 0.125, 0]]
EVEN = [[0, 0.75, 3], [0.75, 0, 0.875], [3, 0.875, 0]]
TWO = mix(
    [GaussianKernel({"rgb": 1.5, "xy": 3.0}), GaussianKernel({"depth": 0.8, "rgb": 3.0}, -0.5)], {"rgb": 3, "depth": 1}
)
WIDE = mix([GaussianKernel({"depth": 0.8, "xy": 2.0}), GaussianKernel({"f": 4.0})], {"f": 9, "depth": 1})
POSITION = mix([GaussianKernel({"xy": 1.5}, 0.3)], {})
pytestmark = pytest.mark.gpu
Filter = Callable[..., tuple[Tensor, Tensor]]
Input = Callable[..., tuple[Tensor, Tensor, Neighborhood]]
TENSORS = ("features", "source", "destination")


@pytest.mark.parametrize(
    ("size", "radius", "mixture", "dtype"),
    [
        ((2, 3, 4, 5), 2, TWO, torch.float64),
        ((1, 3, 4, 5), 1, WIDE, torch.float64),
        ((1, 3, 4, 5), 1, POSITION, torch.float64),
        ((1, 1, 4, 5), 1, TWO, torch.float32),
        ((2, 35, 3, 4), 1, POSITION, torch.float64),  # two blocks of classes
        ((1, 21, 2, 3), 1, POSITION, torch.float64),  # 16 classes and 5 of 8
        ((1, 2, 2, 130), 1, POSITION, torch.float64),  # more columns than lanes
        ((1, 2, 5, 70), 1, TWO, torch.float32),  # several tiles of rows
        ((1, 3, 40, 1), 1, POSITION, torch.float64),
        ((1, 2, 1, 2), 2, POSITION, torch.float64),  # a radius beyond the image
    ],
)
def test_filter_and_energy_equal_the_dense_matrix(
    size: tuple[int, int, int, int],
    radius: int,
    mixture: Mixture,
    dtype: torch.dtype,
    filter_input: Input,
    dense_filter: Filter,
) -> None:
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-5}[dtype]
    for sign, constant in ((1, 1), (-1, 0)):
        probs, values, neighborhood = filter_input(size, mixture, radius, sign, dtype, DEVICE)
        results = gated_filter(probs, values, neighborhood, constant)
        on_cpu = neighborhood._replace(**{name: getattr(neighborhood, name).cpu() for name in TENSORS})
        for x, y in zip(results, dense_filter(probs.cpu(), values.cpu(), on_cpu, constant), strict=True):
            assert x.dtype == dtype
            torch.testing.assert_close(x.cpu().double(), y, rtol=tolerance, atol=tolerance * max(1.0, y.abs().max()))


@pytest.mark.parametrize(
    ("dtype", "tolerance", "compatibility"),
    [(torch.float64, 1e-10, None), (torch.float32, 1e-5, EVEN), (torch.float64, 1e-10, SKEW)],
    ids=["Potts", "even", "skew"],
)
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


@pytest.mark.parametrize(("dtype", "compatibility"), [(torch.bfloat16, None), (torch.float16, SKEW)])
def test_half_precision_is_computed_in_float32(
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


def test_layout_in_memory_does_not_matter(filter_input: Input) -> None:
    probs, values, neighborhood = filter_input((1, 3, 3, 4), POSITION, 1, device=DEVICE)
    transposed = neighborhood._replace(**{name: getattr(neighborhood, name).mT.contiguous().mT for name in TENSORS})
    results = gated_filter(*(x.mT.contiguous().mT for x in (probs, values)), transposed, 1)
    for x, y in zip(results, gated_filter(probs, values, neighborhood, 1), strict=True):
        assert torch.equal(x, y)


def test_two_runs_give_the_same_bits(filter_input: Input) -> None:
    arguments = filter_input((2, 3, 2, 70), POSITION, 1, dtype=torch.float32, device=DEVICE)
    for x, y in zip(gated_filter(*arguments, 1), gated_filter(*arguments, 1), strict=True):
        assert torch.equal(x, y)


def test_tile_changes_no_sum(filter_input: Input) -> None:
    arguments = filter_input((1, 3, 5, 70), TWO, 1, dtype=torch.float32, device=DEVICE)
    filtered, energy = gated_filter(*arguments, 1)
    for tile in (Tile(rows=4, lanes=32), Tile(rows=1, lanes=256)):
        other, other_energy = gated_filter(*arguments, 1, tile)
        assert torch.equal(other, filtered)
        torch.testing.assert_close(other_energy, energy)


def test_image_of_two_billion_elements_is_refused() -> None:
    probs = torch.empty(1).expand(1, 1, 2**16, 2**15)
    gate = torch.empty(1, dtype=torch.bool).expand(1, 2**16, 2**15)
    with pytest.raises(ValueError, match=r"shape \(1, 65536, 32768\) .* 2\^31 elements or more"):
        gated_filter(probs, probs, Neighborhood(probs, gate, gate, mix([GaussianKernel()], {"rgb": 1}), 1), 1)
