"""The normalized cut and the kernel cut against their definitions as loops."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from losses import DenseCRFLoss, GaussianKernel, NormalizedCutLoss

KERNEL = GaussianKernel({"rgb": 1.5, "xy": 2.0})


def definition(probs: Tensor, features: dict[str, Tensor], source: Tensor, affinity: Callable[..., float]) -> Tensor:
    """Return the mean over images of sum_k y_k^T K (1 - y_k) / (d^T y_k), d = K 1, in the region of interest."""
    n, classes, h, w = probs.shape
    total = probs.new_zeros(())
    for item in range(n):
        inside = [(y, x) for y, x in product(range(h), range(w)) if source[item, y, x]]
        for k in range(classes):
            cut = volume = probs.new_zeros(())
            for a, b in product(inside, inside):
                weight = affinity(features, [KERNEL], item, a, b)
                cut = cut + weight * probs[item, k, a[0], a[1]] * (1 - probs[item, k, b[0], b[1]])
                volume = volume + weight * probs[item, k, a[0], a[1]]
            total = total + cut / volume
    return total / n


def test_value_and_gradient_equal_the_definition(
    scene: Callable[..., dict[str, Any]], affinity: Callable[..., float]
) -> None:
    given = scene()
    logits = given["probs"].log().requires_grad_()
    expected = definition(logits.softmax(1), given["features"], given["source"], affinity)
    actual = NormalizedCutLoss(KERNEL)(logits.softmax(1), given["features"], given["source"])
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=0)
    of_loss, of_definition = (torch.autograd.grad(value, logits)[0] for value in (actual, expected))
    torch.testing.assert_close(of_loss, of_definition, rtol=1e-9, atol=1e-12)


def test_gradient_is_the_closed_form(scene: Callable[..., dict[str, Any]]) -> None:
    given = scene(n=1, c=2, h=2, w=3)
    probs = given["probs"].requires_grad_()
    assert torch.autograd.gradcheck(lambda y: NormalizedCutLoss(KERNEL)(y, given["features"]), (probs,))


def test_classes_that_fill_separate_groups_have_no_cut() -> None:
    """Two halves of very different color, each with its own class."""
    rgb = torch.zeros(1, 3, 4, 6)
    rgb[..., 3:] = 100
    probs = torch.stack([rgb[0, 0] == 0, rgb[0, 0] > 0])[None].double()
    assert NormalizedCutLoss(KERNEL)(probs, {"rgb": rgb.double()}) < 1e-9
    assert NormalizedCutLoss(KERNEL)(probs.roll(1, 3), {"rgb": rgb.double()}) > 0.1


def test_empty_classes_and_empty_images_contribute_0_without_a_gradient(scene: Callable[..., dict[str, Any]]) -> None:
    given = scene(n=2)
    probs, source = given["probs"].clone(), given["source"].clone()
    probs[0, 0], probs[0, 1] = 0, probs[0, 0] + probs[0, 1]
    source[1] = False
    probs.requires_grad_()
    actual = NormalizedCutLoss(KERNEL)(probs, given["features"], source)
    rest = {name: x[:1] for name, x in given["features"].items()}
    torch.testing.assert_close(actual, NormalizedCutLoss(KERNEL)(probs[:1, 1:], rest, source[:1]) / 2)
    (gradient,) = torch.autograd.grad(actual, probs)
    assert gradient.isfinite().all()
    assert not gradient[1].any()
    assert not gradient[0, 0].any()


@pytest.mark.parametrize("weight", [0.5, 87.0])
def test_kernel_cut_is_the_sum_of_both(weight: float, scene: Callable[..., dict[str, Any]]) -> None:
    given = scene()
    inputs = given["probs"], given["features"], given["source"]
    expected = NormalizedCutLoss(KERNEL)(*inputs) + weight * DenseCRFLoss(KERNEL)(*inputs)
    torch.testing.assert_close(NormalizedCutLoss(KERNEL, crf_weight=weight)(*inputs), expected)


def test_compiled_loss_equals_the_eager_one(scene: Callable[..., dict[str, Any]]) -> None:
    given = scene()
    loss = NormalizedCutLoss(KERNEL, crf_weight=1)
    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    inputs = given["probs"], given["features"], given["source"]
    torch.testing.assert_close(compiled(*inputs), loss(*inputs))
