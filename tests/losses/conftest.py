"""Oracles and random input: the loss as loops over pairs of pixels, Eqs. 1 to 5, and the filter as a dense matrix."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from math import exp
from typing import Any

import pytest
import torch
from torch import Tensor

from losses import GaussianKernel
from losses.kernels import Mixture, Neighborhood

Position = tuple[int, int]


def _affinity(
    features: Mapping[str, Tensor], kernels: Sequence[GaussianKernel], item: int, a: Position, b: Position
) -> float:
    """Return K_ab, Eqs. 1 and 2."""
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
    """Return Psi, Eqs. 3 to 5: the sum over a, over b in Omega_r(a) without a, and over labels i and j."""
    n, c, h, w = probs.shape
    mu = 1 - torch.eye(c, dtype=probs.dtype) if compatibility is None else compatibility.to(probs)
    total = probs.new_zeros(())
    for item, ay, ax, by, bx in product(range(n), range(h), range(w), range(h), range(w)):
        near = max(abs(ay - by), abs(ax - bx)) <= radius
        if near and (ay, ax) != (by, bx) and destination[item, ay, ax] and source[item, by, bx]:
            pair = probs[item, :, ay, ax] @ mu @ probs[item, :, by, bx]
            total = total + pair * _affinity(features, kernels, item, (ay, ax), (by, bx))
    return total


def _dense_filter(probs: Tensor, values: Tensor, neighborhood: Neighborhood, constant: int) -> tuple[Tensor, Tensor]:
    """Return what an engine should return, in float64, from the matrix w_ab of all pairs of pixels."""
    features, source, destination, mixture, radius, sign = neighborhood
    n, _, h, w = probs.shape
    y, v, f, src, dst = (x.double().reshape(n, -1, h * w) for x in (probs, values, features, source, destination))
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    dy, dx = ((at.flatten()[:, None] - at.flatten()).double() for at in (rows, columns))
    near = torch.maximum(dy.abs(), dx.abs()).le(radius) & (dy.ne(0) | dx.ne(0))
    squares = (f[..., None] - f[..., None, :]).square()
    precisions = torch.tensor(mixture.precisions, dtype=torch.float64).view(len(mixture.weights), -1)
    precisions = precisions.repeat_interleave(torch.tensor(mixture.widths, dtype=torch.long), dim=1)
    weights = near * (dst[:, 0, :, None] * src + sign * src[:, 0, :, None] * dst)
    weights *= sum(
        weight * torch.exp(-torch.einsum("d,ndab->nab", precision, squares) - spatial * (dy**2 + dx**2))
        for weight, spatial, precision in zip(mixture.weights, mixture.spatial, precisions, strict=True)
    )
    energy = 0.5 * (weights * (y.transpose(1, 2) @ v - constant)).sum()
    return torch.einsum("nab,ncb->nca", weights, v).view(probs.shape), energy


def _scene(n: int = 2, c: int = 3, h: int = 4, w: int = 5, seed: int = 0) -> dict[str, Any]:
    """Return arguments of ``GatedCRFLoss.forward``; a bit more than half of each gate is open."""
    generator = torch.Generator().manual_seed(seed)

    def normal(channels: int) -> Tensor:
        return torch.randn(n, channels, h, w, generator=generator, dtype=torch.float64)

    return {
        "probs": normal(c).softmax(1),
        "features": {"rgb": normal(3), "depth": normal(1)},
        "source": torch.rand(n, h, w, generator=generator) < 0.6,
        "destination": torch.rand(n, h, w, generator=generator) < 0.6,
    }


def _filter_input(
    size: Sequence[int],
    mixture: Mixture,
    radius: int,
    sign: int = 1,
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
) -> tuple[Tensor, Tensor, Neighborhood]:
    """Return random predictions, values and neighborhood for an engine; a bit more than half of each gate is open."""
    n, c, h, w = size
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(n, d, h, w, generator=generator, dtype=torch.float64) for d in (c, c, sum(mixture.widths))]
    probs, values, features = (x.to(device, dtype) for x in (maps[0].softmax(1), *maps[1:]))
    source, destination = ((torch.rand(n, h, w, generator=generator) < 0.6).to(device) for _ in range(2))
    return probs, values, Neighborhood(features, source, destination, mixture, radius, sign)


@pytest.fixture
def affinity() -> Callable[..., float]:
    return _affinity


@pytest.fixture
def psi() -> Callable[..., Tensor]:
    return _psi


@pytest.fixture
def dense_filter() -> Callable[..., tuple[Tensor, Tensor]]:
    return _dense_filter


@pytest.fixture
def filter_input() -> Callable[..., tuple[Tensor, Tensor, Neighborhood]]:
    return _filter_input


@pytest.fixture
def scene() -> Callable[..., dict[str, Any]]:
    return _scene


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread: the tensors are tiny."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
