"""Cross-entropy over labeled pixels against a loop, and inputs for which torch's own mean is wrong or NaN."""

from itertools import product
from math import exp, log

import pytest
import torch
from torch import Tensor

from losses import PartialCrossEntropyLoss
from losses.partial_cross_entropy import frequency_weights

WEIGHTS = [0.5, 2.0, 0.0]


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def target() -> Tensor:
    """Return labels of a third of the pixels, with all classes."""
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
    expected = target < (3 if weights is None else 2)  # the last class has weight 0
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


VOC_CLICKS = [
    *(28784, 800, 695, 1103, 901, 1263, 547, 2114, 1142, 2923, 610, 694, 1416, 693, 694, 9561, 1013, 857, 673),
    *(593, 778),
]
VOC_WEIGHTS = [
    *(2.135, 9.276, 9.419, 8.889, 9.143, 8.699, 9.628, 7.813, 8.842, 7.132, 9.537, 9.420, 8.524, 9.421, 9.420, 4.250),
    *(9.001, 9.201, 9.449, 9.562, 9.306),
]


def test_frequency_weights_are_those_of_the_clicks_of_voc() -> None:
    """The number of training clicks of each class, and 1 / ln(1.1 + p) as published by the authors."""
    weights = frequency_weights(torch.tensor(VOC_CLICKS))
    torch.testing.assert_close(weights, torch.tensor(VOC_WEIGHTS), rtol=0, atol=6e-4)
    assert frequency_weights(torch.zeros(3)).tolist() == pytest.approx([1 / log(1.1)] * 3)


def test_batch_weights_follow_the_labels_of_the_batch() -> None:
    logits, target = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.full((2, 4, 5), 255)
    target[0, 0, :3], target[1, 2, 4] = 1, 2  # shares 0, 3/4 and 1/4
    weights = [1 / log(1.1), 1 / log(1.1 + 0.75), 1 / log(1.1 + 0.25)]
    expected = PartialCrossEntropyLoss(torch.tensor(weights, dtype=torch.float64))(logits, target)
    torch.testing.assert_close(PartialCrossEntropyLoss("batch")(logits, target), expected, rtol=1e-6, atol=0)
    assert PartialCrossEntropyLoss("batch")(logits, torch.full_like(target, 255)) == 0


def test_dataset_weights_need_its_histogram_and_stay_out_of_checkpoints() -> None:
    loss = PartialCrossEntropyLoss("dataset")
    logits, target = torch.randn(1, 2, 2, 2), torch.tensor([[[0, 1], [1, 255]]])
    assert loss.needs_histogram
    with pytest.raises(ValueError, match="set_histogram"):
        loss(logits, target)
    loss.set_histogram([30, 10])
    weights = [1 / log(1.1 + 0.75), 1 / log(1.1 + 0.25)]
    torch.testing.assert_close(loss(logits, target), PartialCrossEntropyLoss(weights)(logits, target))
    assert loss.state_dict() == {}
    assert not PartialCrossEntropyLoss([1.0, 2.0]).needs_histogram


def test_unknown_source_of_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="'batches'; give numbers, or one of batch, dataset"):
        PartialCrossEntropyLoss("batches")
