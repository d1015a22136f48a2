"""The losses of What's the Point against Eqs. 1 to 3 as loops."""

from itertools import product
from math import log

import pytest
import torch
from torch import Tensor

from losses import PartialCrossEntropyLoss, WhatsThePointLoss
from losses.errors import ArgumentError

Inputs = dict[str, Tensor]


def inputs(n: int = 2, c: int = 4, h: int = 3, w: int = 5) -> Inputs:
    """Return arguments of the loss, with clicks of ranks 0 to 2 and a padded column."""
    generator = torch.Generator().manual_seed(0)
    target = torch.full((n, h, w), 255, dtype=torch.uint8)
    ranks = target.clone()
    target[:, 0, 0], target[:, 1, 2], target[:, 2, 3] = 1, 3, 3
    ranks[:, 0, 0], ranks[:, 1, 2], ranks[:, 2, 3] = 0, 2, 1
    valid = torch.ones(n, h, w, dtype=torch.bool)
    valid[..., -1] = False
    tags = torch.zeros(n, c, dtype=torch.bool)
    tags[:, 1] = tags[:, 3] = True
    return {
        "logits": 2 * torch.randn(n, c, h, w, generator=generator, dtype=torch.float64),
        "target": target,
        "valid": valid,
        "tags": tags,
        "objectness": torch.rand(n, h, w, generator=generator, dtype=torch.float64),
        "ranks": ranks,
    }


def definition(given: Inputs, image: int, decay: float) -> tuple[float, float, float]:
    """Return the three terms of an image."""
    probs = given["logits"][image].softmax(0)
    classes, h, w = probs.shape
    inside = [(y, x) for y, x in product(range(h), range(w)) if given["valid"][image, y, x]]
    highest = [max(float(probs[c, y, x]) for y, x in inside) for c in range(classes)]
    present = [c for c in range(classes) if given["tags"][image, c]]
    absent = [c for c in range(classes) if c not in present]
    image_level = -sum(log(highest[c]) for c in present) / len(present)
    image_level -= sum(log(1 - highest[c]) for c in absent) / len(absent)
    clicks = [(y, x) for y, x in product(range(h), range(w)) if given["target"][image, y, x] != 255]
    alpha = [decay ** int(given["ranks"][image, y, x]) for y, x in clicks]
    logs = [log(float(probs[int(given["target"][image, y, x]), y, x])) for y, x in clicks]
    point_level = -sum(a * value for a, value in zip(alpha, logs, strict=True)) / sum(alpha)
    objectness = 0.0
    for y, x in inside:
        p, s = float(given["objectness"][image, y, x]), float(probs[1:, y, x].sum())
        objectness -= (p * log(s) + (1 - p) * log(1 - s)) / len(inside)
    return image_level, point_level, objectness


@pytest.mark.parametrize("decay", [1.0, 0.5])
@pytest.mark.parametrize("weights", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.5, 2, 3)])
def test_terms_equal_the_definition(weights: tuple[float, float, float], decay: float) -> None:
    given = inputs()
    loss = WhatsThePointLoss(*weights, rank_decay=decay)
    terms = [sum(w * t for w, t in zip(weights, definition(given, image, decay), strict=True)) for image in (0, 1)]
    torch.testing.assert_close(loss(**given).item(), sum(terms) / 2, rtol=1e-9, atol=0)


def test_gradient_equals_finite_differences() -> None:
    given = inputs(n=1)
    logits = given.pop("logits").requires_grad_()
    assert torch.autograd.gradcheck(lambda x: WhatsThePointLoss(1, 2, 3, rank_decay=0.5)(x, **given), (logits,))


def test_points_of_equal_weight_are_partial_cross_entropy_of_one_image() -> None:
    given = inputs(n=1)
    expected = PartialCrossEntropyLoss()(given["logits"], given["target"])
    torch.testing.assert_close(WhatsThePointLoss(0, 1, 0)(**given), expected)


def test_image_level_term_sees_only_the_highest_pixel_of_a_class() -> None:
    given = inputs(n=1)
    logits = given["logits"].requires_grad_()
    (gradient,) = torch.autograd.grad(WhatsThePointLoss(1, 0, 0)(**given), logits)
    highest = {int(given["logits"].softmax(1)[0, c].masked_fill(~given["valid"][0], 0).argmax()) for c in range(4)}
    assert set(gradient[0].abs().sum(0).flatten().nonzero().flatten().tolist()) == highest


def test_image_with_all_tags_has_one_mean() -> None:
    given = inputs(n=1)
    given["tags"][:] = True
    probs = given["logits"][0].softmax(0)[:, given["valid"][0]].amax(1)
    torch.testing.assert_close(WhatsThePointLoss(1, 0, 0)(**given), -probs.log().mean())


def test_image_without_tags_is_unlabeled_and_not_empty_of_all_classes() -> None:
    given = inputs()
    first = {name: x[:1] for name, x in given.items()}
    given["tags"][1] = False
    logits = given["logits"].requires_grad_()
    loss = WhatsThePointLoss(1, 0, 0)(**given)
    torch.testing.assert_close(loss, WhatsThePointLoss(1, 0, 0)(**first) / 2)
    assert not torch.autograd.grad(loss, logits)[0][1].any()


def test_padding_and_unlabeled_images_have_no_gradient() -> None:
    given = inputs()
    given["target"][1], given["valid"][1] = 255, False
    logits = given["logits"].requires_grad_()
    loss = WhatsThePointLoss()(**given)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite()
    assert not gradient[1].any()
    assert not gradient[0, :, :, -1].any()


def test_certain_predictions_have_finite_losses_and_gradients() -> None:
    given = inputs()
    logits = (1e4 * given["logits"]).float().requires_grad_()
    loss = WhatsThePointLoss()(**{**given, "logits": logits})
    assert loss.isfinite()
    assert torch.autograd.grad(loss, logits)[0].isfinite().all()


@pytest.mark.parametrize("logit", [1.0, 17.0, 60.0])
def test_absent_class_has_the_gradient_of_the_definition_however_certain_it_is(logit: float) -> None:
    """The term is -log(1 - p_0) for the absent class, with the derivative p_0, and -log p_1 for the present one."""
    given = {name: x[..., :1, :1] for name, x in inputs(n=1).items() if name not in ("tags", "logits")}
    given["tags"] = torch.tensor([[False, True]])
    logits = torch.tensor([logit, 0.0]).view(1, 2, 1, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(WhatsThePointLoss(1, 0, 0)(logits, **given), logits)
    expected = 2 * logits.detach().softmax(1)[0, 0, 0, 0]
    torch.testing.assert_close(gradient.flatten(), torch.stack([expected, -expected]))


def test_weights_of_clicks_depend_on_the_difference_of_their_ranks_only() -> None:
    given = {name: x.float() if name == "logits" else x for name, x in inputs().items()}
    loss = WhatsThePointLoss(0, 1, 0, rank_decay=0.05)
    late = given["ranks"] + torch.where(given["target"] != 255, 50, 0).to(torch.uint8)
    torch.testing.assert_close(loss(**{**given, "ranks": late}), loss(**given))


def test_objects_can_be_named() -> None:
    given = inputs(n=1)
    probs, p = given["logits"].softmax(1)[0, [0, 2]].sum(0), given["objectness"][0]
    terms = (p * probs.log() + (1 - p) * (1 - probs).log())[given["valid"][0]]
    torch.testing.assert_close(WhatsThePointLoss(0, 0, 1, objects=[0, 2])(**given), -terms.mean())


@pytest.mark.parametrize(
    ("options", "message"), [({"image_weight": -1}, "not be negative"), ({"rank_decay": 0}, "rank_decay is 0")]
)
def test_weights_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        WhatsThePointLoss(**options)  # type: ignore[arg-type]
