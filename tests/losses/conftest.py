"""The loss written as loops over pairs of pixels, Eqs. 1 to 5, and random input to hold the engines against."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from math import exp
from typing import Any

import pytest
import torch
from torch import Tensor

from losses import GaussianKernel

Position = tuple[int, int]


def _affinity(
    features: Mapping[str, Tensor], kernels: Sequence[GaussianKernel], item: int, a: Position, b: Position
) -> float:
    """K_ab, Eqs. 1 and 2."""
    total = 0.0
    for kernel in kernels:
        squares = 0.0
        for name, sigma in kernel.sigma.items():
            f_a, f_b = (p if name == "xy" else features[name][item, :, p[0], p[1]].tolist() for p in (a, b))
            squares += sum(((x - y) / sigma) ** 2 for x, y in zip(f_a, f_b, strict=True))
        total += kernel.weight * exp(-squares / 2)
    return total


def _psi(
    probs: Tensor,
    features: Mapping[str, Tensor],
    source: Tensor,
    destination: Tensor,
    kernels: Sequence[GaussianKernel],
    radius: int,
    compatibility: Tensor | None = None,
) -> Tensor:
    """Psi, Eqs. 3 to 5: the sum over a, b in Omega_r(a) without a, and labels i and j."""
    n, c, h, w = probs.shape
    mu = 1 - torch.eye(c, dtype=probs.dtype) if compatibility is None else compatibility.to(probs)
    total = probs.new_zeros(())
    for item, ay, ax, by, bx in product(range(n), range(h), range(w), range(h), range(w)):
        near = max(abs(ay - by), abs(ax - bx)) <= radius
        if near and (ay, ax) != (by, bx) and destination[item, ay, ax] and source[item, by, bx]:
            pair = probs[item, :, ay, ax] @ mu @ probs[item, :, by, bx]
            total = total + pair * _affinity(features, kernels, item, (ay, ax), (by, bx))
    return total


def _scene(n: int = 2, c: int = 3, h: int = 4, w: int = 5, seed: int = 0) -> dict[str, Any]:
    """Arguments of ``GatedCRFLoss.forward``; a bit more than half of each gate is open."""
    generator = torch.Generator().manual_seed(seed)

    def normal(channels: int) -> Tensor:
        return torch.randn(n, channels, h, w, generator=generator, dtype=torch.float64)

    return {
        "probs": normal(c).softmax(1),
        "features": {"rgb": normal(3), "depth": normal(1)},
        "source": torch.rand(n, h, w, generator=generator) < 0.6,
        "destination": torch.rand(n, h, w, generator=generator) < 0.6,
    }


@pytest.fixture
def affinity() -> Callable[..., float]:
    return _affinity


@pytest.fixture
def psi() -> Callable[..., Tensor]:
    return _psi


@pytest.fixture
def scene() -> Callable[..., dict[str, Any]]:
    return _scene


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors here are tiny and the machine is shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
