"""The engine for CPUs: rows of pixels, tiles and blocks must not show in the result."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from losses import GatedCRFLoss, GaussianKernel
from losses.engines import banded as banded_products
from losses.engines.banded import gated_filter
from losses.kernels import mix

WIDTHS = {"rgb": 3, "depth": 1}
KERNELS = [
    GaussianKernel({"rgb": 1.5, "xy": 3.0}),
    GaussianKernel({"depth": 0.8, "rgb": 3.0, "xy": 2.0}, -0.5),
    GaussianKernel({"xy": 1.5}, 0.3),
]
Filter = Callable[..., tuple[Tensor, Tensor]]


def assert_equal(ours: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    for x, y in zip(ours, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-10 * max(1.0, y.abs().max().item()))


@pytest.mark.parametrize("kernels", [KERNELS[:1], KERNELS], ids=["one kernel", "three kernels"])
@pytest.mark.parametrize(
    ("size", "radius"),
    [
        ((1, 1, 1, 1), 1),
        ((2, 3, 3, 4), 5),
        ((1, 2, 6, 5), 15),
        ((1, 2, 1, 40), 15),
        ((2, 2, 40, 1), 15),
        ((1, 2, 1, 7), 3),
        ((2, 3, 7, 1), 2),
        ((3, 2, 6, 14), 2),  # with the closed pixels between the rows, as long as a tile
        ((1, 2, 5, 15), 2),
        ((1, 2, 5, 16), 2),
        ((2, 2, 5, 17), 1),
        ((1, 1, 3, 33), 4),
        ((2, 21, 9, 11), 5),
    ],
)
def test_equals_the_dense_matrix_at_any_shape(
    size: tuple[int, int, int, int],
    radius: int,
    kernels: list[GaussianKernel],
    sweep: Callable[..., list[Tensor]],
    dense_filter: Filter,
) -> None:
    for sign, constant in product((1, -1), (0, 1)):
        arguments = (*sweep(*size), mix(kernels, WIDTHS), radius, sign, constant)
        assert_equal(gated_filter(*arguments), dense_filter(*arguments))


@pytest.mark.parametrize("radius", range(1, 16))
def test_equals_the_dense_matrix_at_any_radius(
    radius: int, sweep: Callable[..., list[Tensor]], dense_filter: Filter
) -> None:
    for sign in (1, -1):
        arguments = (*sweep(2, 2, 9, 10, seed=radius), mix(KERNELS, WIDTHS), radius, sign, 1)
        assert_equal(gated_filter(*arguments), dense_filter(*arguments))


@pytest.mark.parametrize("size", [(2, 3, 5, 6), (1, 1, 1, 20)])
def test_kernel_of_position_alone_needs_no_features(
    size: tuple[int, int, int, int], sweep: Callable[..., list[Tensor]], dense_filter: Filter
) -> None:
    arguments = (*sweep(*size, d=0), mix([GaussianKernel({"xy": 2.0})], {}), 3, 1, 1)
    assert_equal(gated_filter(*arguments), dense_filter(*arguments))


@pytest.mark.parametrize(
    ("size", "radius", "block", "count"),
    [
        ((2, 2, 11, 5), 1, 1, 6),  # four rows to a block and three in the last of each image
        ((1, 3, 17, 6), 2, 1, 3),  # one row in the last
        ((1, 2, 12, 3), 3, 1, 1),  # all rows are less than are worth cutting
        ((1, 2, 30, 7), 2, 126, 3),  # ten rows to a block
        ((5, 2, 4, 6), 2, 128, 3),  # two images to a block and one in the last
        ((3, 2, 9, 4), 4, 35, 3),  # a block holds less than an image
    ],
)
def test_blocks_do_not_show(
    size: tuple[int, int, int, int],
    radius: int,
    block: int,
    count: int,
    sweep: Callable[..., list[Tensor]],
    dense_filter: Filter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(banded_products, "BLOCK", block)
    n, _, height, width = size
    assert len(list(banded_products._blocks(n, height, width, radius))) == count
    for sign, constant in product((1, -1), (0, 1)):
        arguments = (*sweep(*size), mix(KERNELS, WIDTHS), radius, sign, constant)
        assert_equal(gated_filter(*arguments), dense_filter(*arguments))


@pytest.mark.parametrize("compatibility", [None, [[0, 0.25, 1], [0.5, 0, 0.75], [2, 0.125, 0]]])
def test_loss_of_many_blocks_equals_the_tensor_form(
    compatibility: list[list[float]] | None, scene: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(banded_products, "BLOCK", 300)
    given = scene(n=3, h=45, w=20)
    probs = given.pop("probs").requires_grad_()
    tensor, banded = (GatedCRFLoss(KERNELS, 5, compatibility, engine=e)(probs, **given) for e in ("tensor", "banded"))
    torch.testing.assert_close(banded, tensor, rtol=1e-10, atol=0)
    expected, gradient = (torch.autograd.grad(loss, probs)[0] for loss in (tensor, banded))
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-10 * expected.abs().max().item())


def test_faint_weights_are_not_denormal_numbers(sweep: Callable[..., list[Tensor]], dense_filter: Filter) -> None:
    """exp(-95) is one in float32, and processors take a hundred times longer over each."""
    probs, _, features, source, destination = (x.float() if x.is_floating_point() else x for x in sweep(1, 3, 6, 7))
    features = features.sign() * 95**0.5 / 2  # so that a channel adds 95 or 0
    arguments = (probs, probs, features, source, destination, mix([GaussianKernel({"f": 0.5**0.5})], {"f": 4}), 2, 1, 1)
    filtered, energy = gated_filter(*arguments)
    expected, expected_energy = dense_filter(*arguments)
    torch.testing.assert_close(filtered.double(), expected, rtol=1e-5, atol=1e-15)
    torch.testing.assert_close(energy.double(), expected_energy, rtol=1e-5, atol=1e-15)
    assert filtered[filtered > 0].min() >= torch.finfo(torch.float32).tiny


@pytest.mark.parametrize("distance", [1e3, 1e15, 1e25])
def test_features_far_apart_have_no_affinity(distance: float) -> None:
    """The squares of the last are infinite in float32."""
    probs, color = torch.eye(2).view(1, 2, 1, 2), torch.tensor([0, distance]).view(1, 1, 1, 2)
    loss = GatedCRFLoss([GaussianKernel({"rgb": 0.1, "xy": 6.0})], engine="banded")(probs, {"rgb": color})
    assert 0 <= loss.item() < 1e-15
