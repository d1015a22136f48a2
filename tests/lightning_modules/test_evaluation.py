"""Counts, IoU and best mIoU against values computed by hand."""

import json
from collections.abc import Callable

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from datamodules.sample import Sample
from lightning_modules.deeplab_v3plus import DeepLabV3Plus
from lightning_modules.evaluation import Best, ConfusionCounts, Evaluation
from lightning_modules.inference import Inference
from lightning_modules.weak_segmentation import WeakSegmentation
from losses import PartialCrossEntropyLoss


def evaluation(confusion: list[list[int]], step: int = 7) -> Evaluation:
    return Evaluation("whole image", "abcd"[: len(confusion)], torch.tensor(confusion), images=2, step=step)


def test_pixels_without_label_or_prediction_are_not_counted() -> None:
    counts = ConfusionCounts(3)
    counts.update(torch.tensor([[[0, 1, 255], [2, 2, 1]]]), torch.tensor([[[0, 2, 1], [255, 2, 1]]]))
    counts.update(torch.tensor([[[0]], [[1]]]), torch.tensor([[[1]], [[1]]]))
    confusion, images = counts.compute()
    assert confusion.tolist() == [[1, 0, 0], [1, 2, 0], [0, 1, 1]]
    assert images == 3


def test_iou_is_hits_over_union_and_nan_for_an_absent_class() -> None:
    found = evaluation([[3, 1, 0, 0], [2, 4, 0, 0], [0, 5, 0, 0], [0, 0, 0, 0]])
    expected = torch.tensor([100 * 3 / 6, 100 * 4 / 12, 0, torch.nan])
    torch.testing.assert_close(found.iou, expected, equal_nan=True)
    assert found.miou == pytest.approx((50 + 100 / 3 + 0) / 3)


def test_predicted_class_without_pixels_in_the_target_has_iou_zero() -> None:
    assert evaluation([[8, 2], [0, 0]]).iou.tolist() == pytest.approx([80, 0])


def test_counts_beyond_float32_are_exact() -> None:
    """Cityscapes has 10^9 pixels; float32 counts to 1.7e7."""
    big = 2**40
    assert evaluation([[big, big], [0, big]]).iou.tolist() == [50, 50]


def test_summary_is_in_percent() -> None:
    """8 of 10 pixels of "a" are correct; "b" is not in the target and predicted twice."""
    assert evaluation([[8, 2], [0, 0]]).summary() == {
        "evaluation": "whole image",
        "miou": 40.0,
        "pixel_accuracy": 80.0,
        "iou": {"a": 80.0, "b": 0.0},
        "images": 2,
        "step": 7,
    }


def test_nan_is_null_in_json() -> None:
    nothing = evaluation([[0, 0], [0, 0]])
    text = json.dumps(nothing.summary() | Best().or_better(nothing).summary())
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text)["miou"] is json.loads(text)["best_miou"] is None


def test_best_is_the_first_of_the_highest() -> None:
    best = Best()
    for step, hits in enumerate([0, 3, 1, 3]):
        best = best.or_better(evaluation([[hits, 4 - hits], [0, 0]] if step else [[0, 0], [0, 0]], step))
    assert best.step == 1
    assert best.miou == pytest.approx(75 / 2)


@pytest.mark.parametrize("way", [Inference(), Inference(crop=40), Inference(window=32, stride=20, flip=True)])
def test_batches_of_equal_size_give_the_counts_of_single_images(
    way: Inference, trainer: Callable[..., pl.Trainer], loader: Callable[..., DataLoader[Sample]]
) -> None:
    """A real network with BatchNorm, and images of three sizes."""
    torch.manual_seed(0)
    network = DeepLabV3Plus(4, "test_resnet", pretrained=False, channels=16)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):  # so that pixels differ in class
            nn.init.normal_(layer.bias)
    model = WeakSegmentation(network, PartialCrossEntropyLoss(), "abcd", inference=way)
    found = []
    for batch_size in (1, None):
        trainer().validate(model, loader(*6 * ((40, 48), (33, 64), (48, 48)), batch_size=batch_size), verbose=False)
        assert model.evaluation is not None
        found.append(model.evaluation)
    assert found[1].images == 18
    assert (found[1].confusion.sum(0) > 0).sum() > 1  # the network predicts several classes
    assert torch.equal(found[0].confusion, found[1].confusion)
