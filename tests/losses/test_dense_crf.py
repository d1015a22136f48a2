"""The dense CRF loss against its definition as loops, and its invariants."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from losses import DenseCRFLoss, GaussianKernel, NormalizedCutLoss
from losses.errors import ArgumentError

KERNEL = GaussianKernel({"rgb": 1.5, "xy": 2.0})


def definition(probs: Tensor, features: dict[str, Tensor], source: Tensor, affinity: Callable[..., float]) -> Tensor:
    """Return the mean over images of sum_ab K_ab (1 - y_a . y_b) / P^2 over the P pixels of the region of interest."""
    n, _, h, w = probs.shape
    losses = []
    for item in range(n):
        inside = [(y, x) for y, x in product(range(h), range(w)) if source[item, y, x]]
        total = probs.new_zeros(())
        for a, b in product(inside, inside):
            agreement = probs[item, :, a[0], a[1]] @ probs[item, :, b[0], b[1]]
            total = total + affinity(features, [KERNEL], item, a, b) * (1 - agreement)
        losses.append(total / max(1, len(inside)) ** 2)
    return torch.stack(losses).mean()


def test_value_and_gradient_equal_the_definition(
    scene: Callable[..., dict[str, Any]], affinity: Callable[..., float]
) -> None:
    given = scene()
    logits = given["probs"].log().requires_grad_()
    expected = definition(logits.softmax(1), given["features"], given["source"], affinity)
    actual = DenseCRFLoss(KERNEL)(logits.softmax(1), given["features"], given["source"])
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=0)
    of_loss, of_definition = (torch.autograd.grad(value, logits)[0] for value in (actual, expected))
    torch.testing.assert_close(of_loss, of_definition, rtol=1e-9, atol=1e-12)


def test_published_form_is_negative_and_differs_by_a_constant(scene: Callable[..., dict[str, Any]]) -> None:
    given, other = scene(n=1), scene(n=1, seed=1)
    shared = given["features"], given["source"]
    bounded, published = DenseCRFLoss(KERNEL), DenseCRFLoss(KERNEL, constant=False)
    differences = [bounded(probs, *shared) - published(probs, *shared) for probs in (given["probs"], other["probs"])]
    torch.testing.assert_close(differences[0], differences[1])
    assert published(given["probs"], *shared) < 0


def test_it_is_0_for_one_class_and_positive_otherwise(scene: Callable[..., dict[str, Any]]) -> None:
    given = scene()
    one = torch.zeros_like(given["probs"])
    one[:, 1] = 1
    loss = DenseCRFLoss(KERNEL)
    torch.testing.assert_close(loss(one, given["features"]), one.new_zeros(()), atol=1e-12, rtol=0)
    one[:, :, 0] = one[:, [1, 0, 2], 0]
    assert loss(one, given["features"]) > 0


def test_pixels_outside_the_region_are_not_read(scene: Callable[..., dict[str, Any]]) -> None:
    given = scene()
    probs, rgb, source = given["probs"].requires_grad_(), given["features"]["rgb"], given["source"]
    expected = DenseCRFLoss(KERNEL)(probs, {"rgb": rgb}, source)
    damaged = rgb.masked_fill(~source.unsqueeze(1), torch.nan)
    actual = DenseCRFLoss(KERNEL)(probs, {"rgb": damaged}, source)
    torch.testing.assert_close(actual, expected)
    (gradient,) = torch.autograd.grad(actual, probs)
    assert not gradient.masked_select(~source.unsqueeze(1)).any()


def test_image_without_a_pixel_in_the_region_counts_with_energy_0(scene: Callable[..., dict[str, Any]]) -> None:
    given = scene(n=2)
    probs, features, source = given["probs"], given["features"], given["source"].clone()
    source[1] = False
    first = DenseCRFLoss(KERNEL)(probs[:1], {name: x[:1] for name, x in features.items()}, source[:1])
    torch.testing.assert_close(DenseCRFLoss(KERNEL)(probs, features, source), first / 2)


@pytest.mark.parametrize("factor", [2, 3])
def test_finer_grid_of_the_same_image_has_the_same_loss(factor: int, scene: Callable[..., dict[str, Any]]) -> None:
    """The mean over pairs does not depend on the resolution, if the bandwidth grows with it."""
    given = scene(n=1)
    fine = [
        x.repeat_interleave(factor, 2).repeat_interleave(factor, 3) for x in (given["probs"], given["features"]["rgb"])
    ]
    coarse = DenseCRFLoss(GaussianKernel({"rgb": 1.5}))(given["probs"], given["features"])
    torch.testing.assert_close(DenseCRFLoss(GaussianKernel({"rgb": 1.5}))(fine[0], {"rgb": fine[1]}), coarse)


def test_scale_computes_on_a_coarser_grid_with_the_same_bandwidth_of_the_image(
    scene: Callable[..., dict[str, Any]],
) -> None:
    given = scene(n=1, h=8, w=6)
    probs = given["probs"][..., ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3)
    rgb = given["features"]["rgb"][..., ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3)
    pooled = torch.nn.functional.interpolate(probs, (4, 3), mode="bilinear", antialias=True)
    expected = DenseCRFLoss(GaussianKernel({"rgb": 1.5, "xy": 1.0}))(pooled, {"rgb": rgb})
    actual = DenseCRFLoss(KERNEL, scale=0.5)(probs, {"rgb": rgb})
    torch.testing.assert_close(actual, expected)


def test_scale_above_1_interpolates_predictions_and_colors(scene: Callable[..., dict[str, Any]]) -> None:
    given = scene(n=1)
    probs, rgb = given["probs"], given["features"]["rgb"]
    finer = [torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear") for x in (probs, rgb)]
    expected = DenseCRFLoss(GaussianKernel({"rgb": 1.5, "xy": 4.0}))(finer[0], {"rgb": finer[1]})
    torch.testing.assert_close(DenseCRFLoss(KERNEL, scale=2)(probs, {"rgb": rgb}), expected)


def test_cells_of_a_coarser_grid_that_read_a_pixel_outside_do_not_count(scene: Callable[..., dict[str, Any]]) -> None:
    """A bilinear filter of half the size reads four pixels per axis."""
    given = scene(n=1, h=8, w=8)
    probs, rgb, source = given["probs"].requires_grad_(), given["features"]["rgb"], torch.ones(1, 8, 8).bool()
    source[..., 4:] = False
    pooled = [torch.nn.functional.interpolate(x, (4, 4), mode="bilinear", antialias=True) for x in (probs,)]
    colors = torch.nn.functional.avg_pool2d(rgb, 2)
    expected = DenseCRFLoss(GaussianKernel({"rgb": 1.5, "xy": 1.0}))(pooled[0][..., :1], {"rgb": colors[..., :1]})
    actual = DenseCRFLoss(KERNEL, scale=0.5)(probs, {"rgb": rgb}, source)
    torch.testing.assert_close(actual, expected)
    assert not torch.autograd.grad(actual, probs)[0][..., 4:].any()


def test_cells_of_a_region_at_the_size_of_the_image_are_inside_if_all_their_pixels_are(
    scene: Callable[..., dict[str, Any]],
) -> None:
    given = scene(n=1)
    fine = given["source"].repeat_interleave(2, 1).repeat_interleave(2, 2)
    fine[0, 0, 1] = False
    coarse = given["source"].clone()
    coarse[0, 0, 0] = False
    expected = DenseCRFLoss(KERNEL)(given["probs"], given["features"], coarse)
    torch.testing.assert_close(DenseCRFLoss(KERNEL)(given["probs"], given["features"], fine), expected)


def test_half_precision_is_computed_in_float32(scene: Callable[..., dict[str, Any]]) -> None:
    given = scene(h=8, w=8)
    probs, features = given["probs"].bfloat16(), {"rgb": given["features"]["rgb"].float()}
    with torch.autocast("cpu", torch.bfloat16):
        actual = DenseCRFLoss(KERNEL)(probs.requires_grad_(), features)
    expected = DenseCRFLoss(KERNEL)(probs.detach().double(), {"rgb": features["rgb"].double()})
    assert actual.dtype == torch.float32
    assert abs(actual.item() / expected.item() - 1) < 1e-5
    assert torch.autograd.grad(actual, probs)[0].dtype == torch.bfloat16


def test_compiled_loss_equals_the_eager_one(scene: Callable[..., dict[str, Any]]) -> None:
    given = scene()
    loss, results = DenseCRFLoss(KERNEL), []
    torch.compiler.reset()
    for call in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        probs = given["probs"].clone().requires_grad_()
        value = call(probs, given["features"], given["source"])
        results.append((value.detach(), torch.autograd.grad(value, probs)[0]))
    torch.testing.assert_close(results[0], results[1])


def test_smaller_features_and_scales_that_are_not_positive_are_refused(scene: Callable[..., dict[str, Any]]) -> None:
    given = scene()
    with pytest.raises(ArgumentError, match="smaller than"):
        DenseCRFLoss()(given["probs"], {"rgb": given["features"]["rgb"][..., 1:]})
    with pytest.raises(ArgumentError, match="scale is 0"):
        DenseCRFLoss(scale=0)
    with pytest.raises(ArgumentError, match=r"requires a gradient.*detach"):
        DenseCRFLoss()(given["probs"], {"rgb": given["features"]["rgb"].requires_grad_()})


def test_weight_of_the_kernel_counts_in_the_energy_and_not_in_the_normalized_cut(
    scene: Callable[..., dict[str, Any]],
) -> None:
    given, heavy = scene(), GaussianKernel({"rgb": 1.5, "xy": 2.0}, weight=3.0)
    inputs = given["probs"], given["features"], given["source"]
    torch.testing.assert_close(DenseCRFLoss(heavy)(*inputs), 3 * DenseCRFLoss(KERNEL)(*inputs))
    torch.testing.assert_close(NormalizedCutLoss(heavy)(*inputs), NormalizedCutLoss(KERNEL)(*inputs))
