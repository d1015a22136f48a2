import pytest
import torch

from lightning_modules.intersection_over_union import iou_per_class


def test_iou_is_hits_over_union_and_nan_for_an_absent_class() -> None:
    confusion = torch.tensor([[3, 1, 0, 0], [2, 4, 0, 0], [0, 5, 0, 0], [0, 0, 0, 0]])
    expected = torch.tensor([3 / 6, 4 / 12, 0, torch.nan])
    torch.testing.assert_close(iou_per_class(confusion), expected, equal_nan=True)


def test_predicted_class_that_is_not_in_the_truth_has_iou_zero() -> None:
    assert iou_per_class(torch.tensor([[8, 2], [0, 0]])).tolist() == pytest.approx([0.8, 0])


def test_counts_beyond_float32_are_exact() -> None:
    """Cityscapes has 10^9 pixels; float32 counts to 1.7e7."""
    big = 2**40
    assert iou_per_class(torch.tensor([[big, big], [0, big]])).tolist() == [0.5, 0.5]
