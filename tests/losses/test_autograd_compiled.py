"""The energy as an operator of torch: what torch.compile may expect of it, and does with it."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from losses import GatedCRFLoss, GaussianKernel
from losses.autograd import energy_and_gradient, energy_feature_gradient
from losses.kernels import mix

SKEW = torch.tensor([[0, 0.25, 1], [0.5, 0, 0.75], [2, 0.125, 0]])
KERNELS = [GaussianKernel({"rgb": 1.5, "xy": 2.0}), GaussianKernel({"depth": 1.0, "xy": 1.0}, -0.5)]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_triton = pytest.mark.skipif(not find_spec("triton"), reason="the engine 'fused' is written in Triton")
either_matrix = pytest.mark.parametrize("compatibility", [None, SKEW], ids=["Potts", "skew"])


def outputs(operator: Callable[..., Any], arguments: Sequence[Any]) -> list[Tensor]:
    result = operator(*arguments)
    return [result] if isinstance(result, Tensor) else list(result)


@either_matrix
@pytest.mark.parametrize(
    ("engine", "dtype", "layout"),
    [
        *product(["shifted", "banded"], [torch.float32, torch.float64], [torch.contiguous_format, torch.channels_last]),
        pytest.param("fused", torch.bfloat16, torch.channels_last, marks=needs_triton),
    ],
)
def test_operators_keep_their_promises_to_torch(
    engine: str,
    dtype: torch.dtype,
    layout: torch.memory_format,
    compatibility: Tensor | None,
    sweep: Callable[..., list[Tensor]],
) -> None:
    """No input is written to or returned, and compilers foresee shapes, strides and types."""
    probs, _, features, *gates = sweep(1, 3, 2, 3)
    wide, device = torch.promote_types(dtype, torch.float32), DEVICE if engine == "fused" else "cpu"
    mu = None if compatibility is None else compatibility.to(wide)
    tensors = (probs.to(dtype, memory_format=layout), features.to(wide), *gates, mu)
    tensors_there = [x if x is None else x.to(device) for x in tensors]
    numbers = (*mix(KERNELS, {"rgb": 3, "depth": 1}), 1)
    calls = {energy_and_gradient: (*tensors_there, False, *numbers, engine)}
    calls[energy_feature_gradient] = (*tensors_there, *numbers)
    for operator, values in calls.items():
        assert set(torch.library.opcheck(operator, values).values()) == {"SUCCESS"}
        shadows = [x.to("meta") if isinstance(x, Tensor) else x for x in values]
        for real, foreseen in zip(outputs(operator, values), outputs(operator, shadows), strict=True):
            assert (real.dtype, real.shape, real.stride()) == (foreseen.dtype, foreseen.shape, foreseen.stride())


@either_matrix
@pytest.mark.parametrize(
    ("engine", "dtype"),
    [
        *product(["shifted", "banded", "tensor"], [torch.float32, torch.bfloat16]),
        pytest.param("fused", torch.bfloat16, marks=needs_triton),
    ],
)
def test_compiled_loss_equals_the_eager_one(
    engine: str, dtype: torch.dtype, compatibility: Tensor | None, scene: Callable[..., dict[str, Any]]
) -> None:
    given, device = scene(n=1), DEVICE if engine == "fused" else "cpu"
    loss = GatedCRFLoss(KERNELS, 1, compatibility, engine=engine)
    logits, rgb = (
        x.to(device, torch.float32).requires_grad_() for x in (given["probs"].log(), given["features"]["rgb"])
    )
    depth, *masks = (x.to(device) for x in (given["features"]["depth"], given["source"], given["destination"]))

    def step(logits: Tensor, rgb: Tensor) -> Tensor:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            mixed = torch.einsum("nchw,cd->ndhw", logits, torch.eye(3, device=device))  # which autocast rounds
            return loss(mixed.softmax(1).to(dtype), {"rgb": rgb, "depth": depth}, *masks)

    torch.compiler.reset()
    results = []
    for call in (step, torch.compile(step, fullgraph=True, backend="aot_eager")):
        value = call(logits, rgb)
        results.append((value, *torch.autograd.grad(3 * value, (logits, rgb))))
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize("engine", ["shifted", "banded"])
def test_compiled_loss_serves_other_sizes(engine: str, scene: Callable[..., dict[str, Any]]) -> None:
    torch.compiler.reset()
    loss = GatedCRFLoss(KERNELS, 2, engine=engine)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=True)
    for size in ((4, 5), (6, 3), (1, 9)):
        given = scene(h=size[0], w=size[1])
        torch.testing.assert_close(compiled(**given), loss(**given), rtol=1e-10, atol=0)
