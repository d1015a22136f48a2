"""The fused kernel against the definition, Sec. 6.2, in float64. Sizes for GPUs are no multiples of a block."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from losses import GatedCRFLoss, GaussianKernel

pytest.importorskip("triton", reason="Triton comes with torch on Linux only")

SIZES = {"cpu": ((1, 3, 2, 5), 1), "cuda": ((2, 21, 61, 67), 5)}
KERNELS = [GaussianKernel({"rgb": 1.5, "xy": 3.0}), GaussianKernel({"depth": 0.8, "rgb": 3.0}, 0.5)]
GATES: list[tuple[str, ...]] = [(), ("source",), ("source", "destination")]
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 1e-2}


def compatibility(kind: str, classes: int) -> Tensor | None:
    if kind == "Potts":
        return None
    mu = torch.rand(classes, classes, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mu.fill_diagonal_(0)
    return mu + mu.T if kind == "symmetric" else mu


def evaluate(loss: GatedCRFLoss, given: dict[str, Any], device: str, dtype: torch.dtype, gates: tuple[str, ...]) -> Any:
    probs = given["probs"].to(device, dtype).requires_grad_()
    wide = torch.promote_types(dtype, torch.float32)
    features = {name: x.to(device, wide) for name, x in given["features"].items()}
    value = loss(probs, features, **{name: given[name].to(device) for name in gates})
    return value.detach(), *torch.autograd.grad(value, probs)


@pytest.mark.parametrize("kind", ["Potts", "symmetric", "asymmetric"])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_loss_and_gradient_equal_the_definition(
    dtype: torch.dtype, kind: str, device: str, scene: Callable[..., dict[str, Any]]
) -> None:
    """The value is computed in float32 or wider. The gradient is rounded to the type of the predictions."""
    size, radius = SIZES[device]
    given = scene(*size)
    given["probs"] = given["probs"].to(dtype)
    given["features"] = {name: x.float() for name, x in given["features"].items()}
    mu = compatibility(kind, size[1])
    definition, fused = (GatedCRFLoss(KERNELS, radius, mu, engine=engine) for engine in ("tensor", "fused"))
    for gates in GATES:
        expected = evaluate(definition, given, device, torch.float64, gates)
        value, gradient = evaluate(fused, given, device, dtype, gates)
        assert (value.dtype, gradient.dtype) == (torch.promote_types(dtype, torch.float32), dtype)
        exact = TOLERANCES[value.dtype]
        torch.testing.assert_close(value.double(), expected[0], rtol=exact, atol=0)
        assert (gradient - expected[1]).norm() <= TOLERANCES[dtype] * expected[1].norm()


def test_two_runs_give_the_same_bits_for_every_gate(device: str, scene: Callable[..., dict[str, Any]]) -> None:
    size, radius = SIZES[device]
    loss = GatedCRFLoss(KERNELS, radius, engine="fused")
    for gates, dtype in product(GATES, (torch.float32, torch.bfloat16)):
        first, second = (evaluate(loss, scene(*size), device, dtype, gates) for _ in range(2))
        assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_extra_memory_is_less_than_half_of_the_gradient() -> None:
    probs = torch.rand(8, 21, 64, 64, device="cuda").softmax(1).requires_grad_()
    image, loss = torch.randn(8, 3, 256, 256, device="cuda"), GatedCRFLoss()
    loss(probs, {"rgb": image}).backward()  # compiles
    probs.grad = None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    loss(probs, {"rgb": image}).backward()
    assert torch.cuda.max_memory_allocated() - before <= 1.5 * probs.nbytes
