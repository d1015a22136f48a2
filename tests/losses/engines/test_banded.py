"""The engine for CPUs: tiles and blocks do not change the result."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from losses import GatedCRFLoss, GaussianKernel
from losses.engines import banded
from losses.engines.banded import gated_filter
from losses.kernels import Neighborhood, mix

KERNELS = [GaussianKernel({"rgb": 1.5, "xy": 3.0}), GaussianKernel({"depth": 0.8, "rgb": 3.0, "xy": 2.0}, -0.5)]
MIXTURE = mix(KERNELS, {"rgb": 3, "depth": 1})
Filter = Callable[..., tuple[Tensor, Tensor]]
Input = Callable[..., tuple[Tensor, Tensor, Neighborhood]]


def assert_equal(results: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    for x, y in zip(results, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-10 * max(1.0, y.abs().max().item()))


@pytest.mark.parametrize(
    ("size", "radius"),
    [
        ((3, 2, 6, 14), 2),  # with the closed pixels between the rows, as long as a tile
        ((1, 2, 5, 15), 2),
        ((1, 2, 5, 16), 2),
        ((2, 2, 5, 17), 1),
        ((1, 1, 3, 33), 4),
        *(((2, 2, 7, 8), radius) for radius in range(1, 16)),
    ],
)
def test_tiles_do_not_change_the_result(
    size: tuple[int, int, int, int], radius: int, filter_input: Input, dense_filter: Filter
) -> None:
    for sign in (1, -1):
        arguments = (*filter_input(size, MIXTURE, radius, sign), 1)
        assert_equal(gated_filter(*arguments), dense_filter(*arguments))


@pytest.mark.parametrize(
    ("size", "radius", "block", "count"),
    [
        ((2, 2, 11, 5), 1, 1, 6),  # four rows to a block and three in the last of each image
        ((1, 3, 17, 6), 2, 1, 3),  # one row in the last
        ((1, 2, 12, 3), 3, 1, 1),  # too few rows to be split
        ((1, 2, 30, 7), 2, 126, 3),  # ten rows to a block
        ((5, 2, 4, 6), 2, 128, 3),  # two images to a block and one in the last
        ((3, 2, 9, 4), 4, 35, 3),  # a block holds less than an image
    ],
)
def test_blocks_do_not_change_the_result(
    size: tuple[int, int, int, int],
    radius: int,
    block: int,
    count: int,
    filter_input: Input,
    dense_filter: Filter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(banded, "BLOCK", block)
    n, _, height, width = size
    assert len(list(banded._blocks(n, height, width, radius))) == count
    for sign, constant in product((1, -1), (0, 1)):
        arguments = (*filter_input(size, MIXTURE, radius, sign), constant)
        assert_equal(gated_filter(*arguments), dense_filter(*arguments))


@pytest.mark.parametrize("compatibility", [None, [[0, 0.25, 1], [0.5, 0, 0.75], [2, 0.125, 0]]], ids=["Potts", "skew"])
def test_loss_of_many_blocks_equals_the_tensor_form(
    compatibility: list[list[float]] | None, scene: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(banded, "BLOCK", 300)
    given = scene(n=3, h=27, w=12)
    probs = given.pop("probs").requires_grad_()
    tensor, blocks = (GatedCRFLoss(KERNELS, 5, compatibility, engine=e)(probs, **given) for e in ("tensor", "banded"))
    torch.testing.assert_close(blocks, tensor, rtol=1e-10, atol=0)
    expected, gradient = (torch.autograd.grad(loss, probs)[0] for loss in (tensor, blocks))
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-10 * expected.abs().max().item())
