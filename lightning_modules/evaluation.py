"""Confusion counts and metrics of an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from datamodules.sample import IGNORE_INDEX


class ConfusionCounts(MulticlassConfusionMatrix):
    """Confusion matrix of a split and its number of images, summed over batches and processes.

    Only pixels with a label and a prediction are counted.
    """

    images: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, ignore_index=IGNORE_INDEX, validate_args=False)
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add predictions and targets, uint8 (N, H, W), class index or IGNORE_INDEX."""
        super().update(prediction, target.masked_fill(prediction == IGNORE_INDEX, IGNORE_INDEX))
        self.images += len(prediction)

    def compute(self) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Return the confusion matrix, integer (C, C), rows are the ground truth, and the number of images."""
        return super().compute(), self.images


@dataclass(frozen=True)
class Evaluation:
    """Counts and metrics of one pass over a split.

    Args:
        name: Name of the inference, reported with every metric.
        class_names: C names.
        confusion: Pixels, integer (C, C) on the CPU; rows are the ground truth.
        images: Number of images.
        step: Optimizer step of the weights.
    """

    name: str
    class_names: Sequence[str]
    confusion: Tensor
    images: int
    step: int

    @cached_property
    def iou(self) -> Tensor:
        """TP / (TP + FP + FN) per class, percent, float (C,); NaN for a class in neither target nor prediction."""
        hits = self.confusion.diagonal().double()  # float32 counts exactly to 1.7e7 only
        union = self.confusion.sum(0) + self.confusion.sum(1) - self.confusion.diagonal()
        return 100 * torch.where(union > 0, hits / union, torch.nan).float()

    @property
    def miou(self) -> float:
        """Mean IoU over classes present in target or prediction, percent."""
        return self.iou.nanmean().item()

    @property
    def pixel_accuracy(self) -> float:
        """Correct predictions among the labeled pixels, percent."""
        return 100 * (self.confusion.diagonal().sum().double() / self.confusion.sum()).item()

    def summary(self) -> dict[str, Any]:
        """Return all metrics as they are written to JSON; NaN becomes ``None``."""
        return {
            "evaluation": self.name,
            "miou": _rounded(self.miou),
            "pixel_accuracy": _rounded(self.pixel_accuracy),
            "iou": {name: _rounded(v) for name, v in zip(self.class_names, self.iou.tolist(), strict=True)},
            "images": self.images,
            "step": self.step,
        }


class Best(NamedTuple):
    """Highest mIoU during training, percent, and its step, as the authors report it."""

    miou: float = -inf
    step: int = 0

    def or_better(self, evaluation: Evaluation) -> "Best":
        """Return the better of the two, or the earlier one if they are equal."""
        return Best(evaluation.miou, evaluation.step) if evaluation.miou > self.miou else self

    def summary(self) -> dict[str, Any]:
        """Return both as they are written to JSON."""
        return {"best_miou": _rounded(self.miou), "best_step": self.step}


def _rounded(value: float) -> float | None:
    return round(value, 4) if abs(value) < inf else None
