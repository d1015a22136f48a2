"""What an evaluation has found."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Any, NamedTuple

from torch import Tensor

from lightning_modules.intersection_over_union import iou_per_class


@dataclass(frozen=True)
class Evaluation:
    """The counts of one pass over a split, and the figures that follow from them.

    Args:
        name: Of the inference, which belongs beside every figure.
        class_names: C names.
        confusion: Pixels, integer (C, C) on the CPU; rows are the truth.
        images: Number of images.
        step: At which the weights were.
    """

    name: str
    class_names: Sequence[str]
    confusion: Tensor
    images: int
    step: int

    @cached_property
    def iou(self) -> Tensor:
        """Percent, float (C,); NaN for a class that is neither in the truth nor predicted."""
        return 100 * iou_per_class(self.confusion)

    @property
    def miou(self) -> float:
        """Mean over the classes that are anywhere, percent."""
        return self.iou.nanmean().item()

    @property
    def pixel_accuracy(self) -> float:
        """Share of the labeled pixels that are right, percent."""
        return 100 * (self.confusion.diagonal().sum().double() / self.confusion.sum()).item()

    def summary(self) -> dict[str, Any]:
        """Return the figures for a JSON file; what is not a number is ``None``."""
        return {
            "evaluation": self.name,
            "miou": _rounded(self.miou),
            "pixel_accuracy": _rounded(self.pixel_accuracy),
            "iou": {name: _rounded(v) for name, v in zip(self.class_names, self.iou.tolist(), strict=True)},
            "images": self.images,
            "step": self.step,
        }


class Best(NamedTuple):
    """The highest mIoU on the way, percent, which is what the authors report, and its step."""

    miou: float = -inf
    step: int = 0

    def or_better(self, found: Evaluation) -> "Best":
        """Return the better one of the two."""
        return Best(found.miou, found.step) if found.miou > self.miou else self

    def summary(self) -> dict[str, Any]:
        """Return both for a JSON file."""
        return {"best_miou": _rounded(self.miou), "best_step": self.step}


def _rounded(value: float) -> float | None:
    return round(value, 4) if abs(value) < inf else None
