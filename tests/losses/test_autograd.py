"""The energy as a torch operator: gradients, dtypes, memory layouts, autocast and pickling."""

import pickle
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from losses import GatedCRFLoss, GaussianKernel

SKEW = torch.tensor([[0, 0.25, 1], [0.5, 0, 0.75], [2, 0.125, 0]])
KERNELS = [GaussianKernel({"rgb": 1.5, "xy": 2.0}), GaussianKernel({"depth": 1.0, "xy": 1.0}, -0.5)]
every_engine = pytest.mark.parametrize("engine", ["shifted", "banded", "tensor"])
either_matrix = pytest.mark.parametrize("compatibility", [None, SKEW], ids=["Potts", "skew"])


@every_engine
def test_second_backward_repeats_the_first_and_does_not_change_it(
    engine: str, scene: Callable[..., dict[str, Any]]
) -> None:
    given = scene()
    inputs = given["probs"].requires_grad_(), given["features"]["rgb"].requires_grad_()
    loss = 3 * GatedCRFLoss(KERNELS, 2, SKEW, engine=engine)(**given)
    first = torch.autograd.grad(loss, inputs, retain_graph=True)
    copies = [x.clone() for x in first]
    second = torch.autograd.grad(loss, inputs, retain_graph=True)
    third = torch.autograd.grad(2 * loss, inputs)
    for x, copy, y, z in zip(first, copies, second, third, strict=True):
        assert torch.equal(x, copy)
        torch.testing.assert_close(y, copy, rtol=1e-14, atol=0)
        torch.testing.assert_close(z, 2 * copy, rtol=1e-14, atol=0)


@every_engine
def test_gradients_of_two_losses_accumulate(engine: str, scene: Callable[..., dict[str, Any]]) -> None:
    given, loss = scene(), GatedCRFLoss(KERNELS, 2, engine=engine)
    probs = given.pop("probs").requires_grad_()
    other = scene(seed=1)
    other.pop("probs")
    single = [torch.autograd.grad(loss(probs, **x), probs)[0] for x in (given, other)]
    for x in (given, other):
        loss(probs, **x).backward()
    torch.testing.assert_close(probs.grad, sum(single), rtol=1e-12, atol=0)
    probs.grad = None
    (loss(probs, **given) + loss(probs, **other)).backward()
    torch.testing.assert_close(probs.grad, sum(single), rtol=1e-12, atol=0)


@pytest.mark.parametrize("engine", ["shifted", "banded"])
def test_second_derivative_is_refused(engine: str, scene: Callable[..., dict[str, Any]]) -> None:
    given = scene()
    probs, rgb = given["probs"].requires_grad_(), given["features"]["rgb"].requires_grad_()
    loss = GatedCRFLoss(KERNELS, 2, engine=engine)(**given)
    once = torch.autograd.grad(loss, (probs, rgb), retain_graph=True)
    gradients = torch.autograd.grad(loss, (probs, rgb), create_graph=True)
    for gradient, expected in zip(gradients, once, strict=True):
        assert torch.equal(gradient, expected)
        with pytest.raises(RuntimeError, match=r"differentiable once\. .*engine='tensor'.* second derivatives"):
            (probs.sum() + gradient.square().sum()).backward(retain_graph=True)


def test_masks_may_change_before_the_backward_pass(scene: Callable[..., dict[str, Any]]) -> None:
    given = scene()
    probs, loss = given["probs"].requires_grad_(), GatedCRFLoss(KERNELS, 2)
    (expected,) = torch.autograd.grad(loss(**given), probs)
    value = loss(**given)
    given["source"].fill_(True)
    assert torch.equal(torch.autograd.grad(value, probs)[0], expected)


def test_backward_under_autocast_is_as_exact(scene: Callable[..., dict[str, Any]]) -> None:
    given, loss = scene(), GatedCRFLoss(KERNELS, 2, torch.rand(3, 3).fill_diagonal_(0))
    given = {k: v.float() if k == "probs" else v for k, v in given.items()}
    probs, rgb = given["probs"].requires_grad_(), given["features"]["rgb"].requires_grad_()
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            value = loss(**given)
            torch.autograd.grad(value, probs, retain_graph=True)
            results.append(torch.autograd.grad(value, (probs, rgb)))
    for exact, mixed in zip(*results, strict=True):
        torch.testing.assert_close(mixed, exact)


def test_module_survives_pickle_and_deepcopy(scene: Callable[..., dict[str, Any]]) -> None:
    given, loss = scene(), GatedCRFLoss(KERNELS, 2, [[0, 1, 2], [3, 0, 4], [5, 6, 0]])
    assert pickle.loads(pickle.dumps(loss))(**given) == loss(**given) == deepcopy(loss)(**given)


@every_engine
def test_value_needs_no_gradient(engine: str, scene: Callable[..., dict[str, Any]]) -> None:
    given, loss = scene(), GatedCRFLoss(KERNELS, 2, engine=engine)
    value = loss(**{**given, "probs": given["probs"].clone().requires_grad_()})
    with torch.no_grad():
        assert loss(**given) == value
    with torch.inference_mode():
        assert loss(**given) == value
    assert value.requires_grad
    assert not loss(**given).requires_grad


@either_matrix
@every_engine
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_predictions_receive_half_precision_gradients(
    dtype: torch.dtype, engine: str, compatibility: Tensor | None, scene: Callable[..., dict[str, Any]]
) -> None:
    given, loss = scene(), GatedCRFLoss(KERNELS, 2, compatibility, engine=engine)
    half = given["probs"].to(dtype).requires_grad_()
    wide = half.detach().double().requires_grad_()
    value, expected = (loss(**{**given, "probs": x}) for x in (half, wide))
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)
    gradient, expected = torch.autograd.grad(value, half)[0], torch.autograd.grad(expected, wide)[0]
    assert gradient.dtype == dtype
    assert (gradient - expected).norm() <= 1e-2 * expected.norm()


@either_matrix
@every_engine
@pytest.mark.parametrize("layout", ["channels last", "transposed", "expanded", "sliced"])
def test_layout_in_memory_does_not_matter(
    layout: str, engine: str, compatibility: Tensor | None, scene: Callable[..., dict[str, Any]]
) -> None:
    def lay(x: Tensor) -> Tensor:
        if layout == "channels last":
            return x.movedim(1, -1).contiguous().movedim(-1, 1)
        if layout == "transposed":
            return x.mT.contiguous().mT
        return torch.cat([x, x], dim=-1)[..., : x.shape[-1]] if layout == "sliced" else x[:1].expand_as(x)

    given, loss, results = scene(), GatedCRFLoss(KERNELS, 2, compatibility, engine=engine), []
    for change in (lay, lambda x: lay(x).contiguous()):
        probs, *masks = (change(given[name]) for name in ("probs", "source", "destination"))
        assert probs.is_contiguous() == (change is not lay)
        features = {name: change(x) for name, x in given["features"].items()}
        value = loss(probs.requires_grad_(), features, *masks)
        results.append((value, *torch.autograd.grad(value, probs)))
    torch.testing.assert_close(results[1], results[0], rtol=1e-12, atol=1e-14)
