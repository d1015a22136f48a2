"""The engine for any device: pairs of pixels, memory, and windows larger than the image."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from experiments.benchmarks.measure import peak_memory
from losses import GatedCRFLoss, GaussianKernel
from losses.engines.shifted import pairs


@pytest.mark.parametrize("radius", [1, 5, 14])
def test_equals_the_tensor_form(radius: int, scene: Callable[..., dict[str, Any]]) -> None:
    given = scene(n=2, c=4, h=8, w=11)
    probs = given.pop("probs").requires_grad_()
    kernels = [GaussianKernel({"rgb": 1.5, "xy": 6.0}), GaussianKernel({"depth": 0.5, "xy": 2.0}, 0.3)]
    mu = torch.randint(8, (4, 4), generator=torch.Generator().manual_seed(0)).fill_diagonal_(0) / 8
    for compatibility in (None, mu):
        values = [GatedCRFLoss(kernels, radius, compatibility, engine=e)(probs, **given) for e in ("tensor", "shifted")]
        tensor, shifted = (torch.autograd.grad(value, probs)[0] for value in values)
        torch.testing.assert_close(values[1], values[0], rtol=1e-10, atol=0)
        torch.testing.assert_close(shifted, tensor, rtol=1e-10, atol=1e-10 * tensor.abs().max().item())


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


def test_memory_does_not_grow_with_the_window() -> None:
    """The memory in addition to the gradient is less than half of it."""
    probs = torch.rand(1, 21, 32, 32).softmax(1).requires_grad_()
    image, kept = {"rgb": torch.rand(1, 3, 32, 32)}, {}

    def step(engine: str) -> None:
        (kept[engine],) = torch.autograd.grad(GatedCRFLoss(engine=engine)(probs, image), probs)

    gradient = probs.numel() * 4 / 2**20
    peak = {e: peak_memory(lambda e=e: step(e), probs.device) / gradient for e in ("tensor", "shifted")}
    assert 1 <= peak["shifted"] <= 1.5
    assert peak["tensor"] > 121  # the window at r = 5, which shows that the measurement works
