"""The engine for any device: exact, and nothing stored that grows with the window."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from experiments.benchmarks.measure import peak_memory
from losses import GatedCRFLoss, GaussianKernel
from losses.engines.shifted import gated_filter, pairs
from losses.kernels import mix

WIDTHS = {"rgb": 3, "depth": 1}
KERNELS = [
    GaussianKernel({"rgb": 1.5, "xy": 3.0}),
    GaussianKernel({"depth": 0.8, "rgb": 3.0, "xy": 2.0}, -0.5),
    GaussianKernel({"xy": 1.5}, 0.3),
]


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


@pytest.mark.parametrize("constant", [0, 1])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("size", [(1, 1, 1, 1), (2, 3, 7, 5), (1, 2, 1, 9), (1, 2, 40, 1)])
def test_filter_and_energy_equal_the_dense_matrix(
    size: tuple[int, int, int, int],
    sign: int,
    constant: int,
    sweep: Callable[..., list[Tensor]],
    dense_filter: Callable[..., tuple[Tensor, Tensor]],
) -> None:
    arguments = (*sweep(*size), mix(KERNELS, WIDTHS), 4, sign, constant)
    for ours, dense in zip(gated_filter(*arguments), dense_filter(*arguments), strict=True):
        torch.testing.assert_close(ours, dense, rtol=1e-10, atol=1e-12)


def test_filter_is_symmetric_or_antisymmetric(sweep: Callable[..., list[Tensor]]) -> None:
    """<x, W y> = sign <W x, y>: what lets one sweep serve both ends of a pair."""
    x, y, *maps = sweep(2, 1, 4, 5)
    for sign in (1, -1):
        rest = (*maps, mix(KERNELS, WIDTHS), 2, sign, 0)
        of_y, energy = gated_filter(x, y, *rest)
        of_x, _ = gated_filter(y, x, *rest)
        left, right = (x * of_y).sum(), (of_x * y).sum()
        torch.testing.assert_close(left, sign * right, rtol=1e-12, atol=0)
        torch.testing.assert_close(energy, left / 2, rtol=1e-12, atol=0)
        assert left.abs() > 1e-3


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 4), (6, 3), (9, 9)])
def test_pairs_are_the_unordered_pairs_of_the_image(height: int, width: int) -> None:
    at, found = torch.arange(height * width).view(height, width), []
    for _, _, a, b in pairs(3, height, width):
        found += zip(at[a].flatten().tolist(), at[b].flatten().tolist(), strict=True)
    near = [
        (i, j)
        for i in range(height * width)
        for j in range(i + 1, height * width)
        if max(abs(i // width - j // width), abs(i % width - j % width)) <= 3
    ]
    assert sorted(found) == near


def test_faint_weights_are_not_denormal_numbers(
    sweep: Callable[..., list[Tensor]], dense_filter: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    """exp(-95) is one in float32, and processors take a hundred times longer over each."""
    probs, _, features, source, destination = (x.float() if x.is_floating_point() else x for x in sweep(1, 3, 6, 7))
    features = features.sign() * 95**0.5 / 2  # so that a channel adds 95 or 0
    arguments = (probs, probs, features, source, destination, mix([GaussianKernel({"f": 0.5**0.5})], {"f": 4}), 2, 1, 1)
    filtered, _ = gated_filter(*arguments)
    torch.testing.assert_close(filtered.double(), dense_filter(*arguments)[0], rtol=1e-5, atol=1e-15)
    assert filtered[filtered > 0].min() >= torch.finfo(torch.float32).tiny


def test_stores_little_beside_the_gradient() -> None:
    probs = torch.rand(2, 21, 32, 32).softmax(1).requires_grad_()
    image, kept = {"rgb": torch.rand(2, 3, 32, 32)}, {}

    def step(engine: str) -> None:
        (kept[engine],) = torch.autograd.grad(GatedCRFLoss(engine=engine)(probs, image), probs)

    gradient = probs.numel() * 4 / 2**20
    peak = {e: peak_memory(lambda e=e: step(e), probs.device) / gradient for e in ("tensor", "shifted")}
    assert 1 <= peak["shifted"] <= 1.5
    assert peak["tensor"] > 121  # the window at r = 5, so the meter does see it
