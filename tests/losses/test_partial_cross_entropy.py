"""Cross-entropy over labeled pixels against a loop, and the cases in which torch's own mean is wrong or NaN."""

from itertools import product
from math import exp, log

import pytest
import torch
from torch import Tensor

from losses import PartialCrossEntropyLoss

WEIGHTS = [0.5, 2.0, 0.0]


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def target() -> Tensor:
    """A third of the pixels labeled, each class present."""
    labels = torch.randint(9, (2, 4, 5), generator=torch.Generator().manual_seed(1))
    return torch.where(labels < 3, labels, 255)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_equals_a_loop_over_labeled_pixels(weights: list[float] | None, logits: Tensor, target: Tensor) -> None:
    total = count = 0.0
    for n, y, x in product(range(2), range(4), range(5)):
        label = int(target[n, y, x])
        if label != 255:
            scores, weight = logits[n, :, y, x].tolist(), 1.0 if weights is None else weights[label]
            total += weight * (log(sum(map(exp, scores))) - scores[label])
            count += weight
    assert PartialCrossEntropyLoss(weights)(logits, target).item() == pytest.approx(total / count, rel=1e-12)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_unlabeled_pixels_receive_no_gradient(weights: list[float] | None, logits: Tensor, target: Tensor) -> None:
    PartialCrossEntropyLoss(weights)(logits.requires_grad_(), target).backward()
    expected = target < (3 if weights is None else 2)  # the last class weighs nothing
    assert torch.equal(logits.grad.ne(0).any(1), expected)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_batch_without_labels_gives_zero_with_zero_gradient(weights: list[float] | None, logits: Tensor) -> None:
    loss = PartialCrossEntropyLoss(weights)(logits.requires_grad_(), torch.full((2, 4, 5), 255))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_mean_does_not_depend_on_the_number_of_unlabeled_pixels(logits: Tensor, target: Tensor) -> None:
    loss = PartialCrossEntropyLoss()
    wide = torch.cat([target, torch.full((2, 4, 50), 255)], dim=2)
    padded = torch.cat([logits, torch.randn(2, 3, 4, 50, dtype=torch.float64)], dim=3)
    torch.testing.assert_close(loss(padded, wide), loss(logits, target), rtol=1e-12, atol=0)


def test_uint8_target_and_another_ignore_index_change_nothing(logits: Tensor, target: Tensor) -> None:
    other = torch.where(target == 255, 7, target).to(torch.uint8)
    assert PartialCrossEntropyLoss(ignore_index=7)(logits, other) == PartialCrossEntropyLoss()(logits, target)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("weights", [None, [1.0, 1.0, 1.0]])
def test_half_precision_logits_of_many_pixels(weights: list[float] | None, dtype: torch.dtype) -> None:
    """More labeled pixels than float16 can count."""
    target = torch.zeros(1, 300, 300, dtype=torch.uint8)
    logits = torch.zeros(1, 3, 300, 300, dtype=dtype)
    with torch.autocast("cpu", dtype=dtype):
        loss = PartialCrossEntropyLoss(weights)(logits, target)
    assert loss.item() == pytest.approx(log(3), rel=1e-5)


def test_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match=r"-1\.0"):
        PartialCrossEntropyLoss([1.0, -1.0])
