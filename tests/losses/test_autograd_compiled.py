"""The energy under torch.compile."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from losses import GatedCRFLoss, GaussianKernel
from losses.autograd import energy_and_gradient, energy_feature_gradient
from losses.kernels import Neighborhood, mix

SKEW = torch.tensor([[0, 0.25, 1], [0.5, 0, 0.75], [2, 0.125, 0]])
KERNELS = [GaussianKernel({"rgb": 1.5, "xy": 2.0}), GaussianKernel({"depth": 1.0, "xy": 1.0}, -0.5)]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_triton = pytest.mark.skipif(not find_spec("triton"), reason="the engine 'fused' is written in Triton")
fused_marks = (needs_triton, pytest.mark.gpu)


def outputs(operator: Callable[..., Any], arguments: Sequence[Any]) -> list[Tensor]:
    result = operator(*arguments)
    return [result] if isinstance(result, Tensor) else list(result)


@pytest.mark.parametrize(
    ("engine", "dtype", "layout", "compatibility"),
    [
        ("shifted", torch.float32, torch.channels_last, None),
        ("shifted", torch.float64, torch.contiguous_format, SKEW),
        ("banded", torch.float64, torch.channels_last, None),
        ("banded", torch.float32, torch.channels_last, SKEW),
        pytest.param("fused", torch.bfloat16, torch.channels_last, None, marks=fused_marks),
        pytest.param("fused", torch.bfloat16, torch.channels_last, SKEW, marks=fused_marks),
    ],
)
def test_operators_keep_their_promises_to_torch(
    engine: str,
    dtype: torch.dtype,
    layout: torch.memory_format,
    compatibility: Tensor | None,
    filter_input: Callable[..., tuple[Tensor, Tensor, Neighborhood]],
) -> None:
    """No input is written to or returned, and compilers predict shapes, strides and dtypes."""
    device, wide = DEVICE if engine == "fused" else "cpu", torch.promote_types(dtype, torch.float32)
    mixture = mix(KERNELS[:1], {"rgb": 3})
    probs, _, neighborhood = filter_input((1, 3, 2, 2), mixture, 1, dtype=wide, device=device)
    mu = None if compatibility is None else compatibility.to(device, wide)
    tensors = (probs.to(dtype, memory_format=layout), *neighborhood[:3], mu)
    calls: dict[Callable[..., Any], tuple[Any, ...]] = {
        energy_and_gradient: (*tensors, *mixture, 1, False, engine),
        energy_feature_gradient: (*tensors, *mixture, 1),
    }
    for operator, values in calls.items():
        assert set(torch.library.opcheck(operator, values).values()) == {"SUCCESS"}
        shadows = [x.to("meta") if isinstance(x, Tensor) else x for x in values]
        for real, predicted in zip(outputs(operator, values), outputs(operator, shadows), strict=True):
            assert (real.dtype, real.shape, real.stride()) == (predicted.dtype, predicted.shape, predicted.stride())


@pytest.mark.parametrize(
    ("engine", "dtype", "compatibility"),
    [
        ("shifted", torch.bfloat16, None),
        ("banded", torch.float32, None),
        ("banded", torch.bfloat16, SKEW),
        ("tensor", torch.bfloat16, None),
        ("tensor", torch.float32, SKEW),
        pytest.param("fused", torch.bfloat16, None, marks=fused_marks),
    ],
)
def test_compiled_loss_equals_the_eager_one(
    engine: str, dtype: torch.dtype, compatibility: Tensor | None, scene: Callable[..., dict[str, Any]]
) -> None:
    given, device = scene(n=1, h=3, w=3), DEVICE if engine == "fused" else "cpu"
    loss = GatedCRFLoss(KERNELS, 1, compatibility, engine=engine)
    logits, rgb = (
        x.to(device, torch.float32).requires_grad_() for x in (given["probs"].log(), given["features"]["rgb"])
    )
    depth, *masks = (x.to(device) for x in (given["features"]["depth"], given["source"], given["destination"]))

    def step(logits: Tensor, rgb: Tensor) -> Tensor:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            mixed = torch.einsum("nchw,cd->ndhw", logits, torch.eye(3, device=device))  # autocast rounds the result
            return loss(mixed.softmax(1).to(dtype), {"rgb": rgb, "depth": depth}, *masks)

    torch.compiler.reset()
    results = []
    for call in (step, torch.compile(step, fullgraph=True, backend="aot_eager")):
        value = call(logits, rgb)
        results.append((value, *torch.autograd.grad(3 * value, (logits, rgb))))
    torch.testing.assert_close(results[1], results[0])


def test_compiled_loss_serves_other_sizes(scene: Callable[..., dict[str, Any]]) -> None:
    torch.compiler.reset()
    loss = GatedCRFLoss(KERNELS, 2)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=True)
    for size in ((4, 5), (6, 3), (1, 9)):
        given = scene(h=size[0], w=size[1])
        torch.testing.assert_close(compiled(**given), loss(**given), rtol=1e-10, atol=0)


def test_fastest_engine_compiles_with_what_is_before_it(device: str, scene: Callable[..., dict[str, Any]]) -> None:
    """In one graph with the softmax. On a GPU, the default compiler makes it."""
    given = scene(n=1)
    logits, rgb, depth = (x.to(device, torch.float32) for x in (given["probs"].log(), *given["features"].values()))
    masks = [given[name].to(device) for name in ("source", "destination")]
    loss = GatedCRFLoss(KERNELS, 2)

    def step(logits: Tensor) -> Tensor:
        return loss(logits.softmax(1), {"rgb": rgb, "depth": depth}, *masks)  # type: ignore[no-any-return]

    torch.compiler.reset()
    logits.requires_grad_()
    results = []
    backend = "inductor" if device == "cuda" else "aot_eager"  # C++ takes half a minute
    for call in (step, torch.compile(step, fullgraph=True, backend=backend)):
        value = call(logits)
        results.append((value, *torch.autograd.grad(value, logits)))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-6)
