"""Inference on images: center crop, scales, sliding windows and flips."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.io.errors import InputError
from datamodules.sample import IGNORE_INDEX

Predict = Callable[[Tensor], Tensor]
"""Maps RGB images (N, 3, H, W) to class probabilities (N, C, H, W)."""


@dataclass(frozen=True)
class Inference:
    """Computes class probabilities of images of any size, by default in one pass.

    The image is cropped and resized to each scale. Windows slide over each scale, and each window is also flipped.
    Probabilities are averaged, not logits.

    Args:
        crop: Side of the square center crop, pixels. Smaller images are padded with black. The authors' code evaluates
            VOC with 512. ``None`` is the whole image.
        window: Side of the sliding windows, pixels. ``None`` is the whole image at once.
        stride: Pixels between two windows.
        scales: Resize factors, positive.
        flip: Average with the prediction of the horizontally flipped image.

    Raises:
        InputError: A side or scale is not positive, there is no scale, or the stride skips pixels.
    """

    crop: int | None = None
    window: int | None = None
    stride: int | None = None
    scales: Sequence[float] = (1.0,)
    flip: bool = False

    def __post_init__(self) -> None:
        if self.crop is not None and self.crop < 1:
            raise InputError(f"inference.crop is {self.crop}; give at least 1 pixel, for example 512.")
        if (self.window is None) != (self.stride is None):
            raise InputError("inference.window and inference.stride belong together; give both, as in 769 and 513.")
        if self.window is not None and self.stride is not None and not 1 <= self.stride <= self.window:
            raise InputError(
                f"inference.stride is {self.stride}; give 1 to {self.window}, so that windows of {self.window} pixels "
                "cover the image."
            )
        if not self.scales or not all(0 < scale < float("inf") for scale in self.scales):
            raise InputError(f"inference.scales is {list(self.scales)}; give positive factors, for example [0.5, 1].")

    @property
    def name(self) -> str:
        """Name reported beside every result, for example "sliding window 769/513, scales 0.5 1 1.5, flip"."""
        parts = [] if self.crop is None else [f"{self.crop} center crop"]
        if self.window is not None:
            parts.append(f"sliding window {self.window}/{self.stride}")
        if list(self.scales) != [1]:
            parts.append(" ".join(["scales", *(f"{scale:g}" for scale in self.scales)]))
        if self.crop is None and self.window is None:
            parts.insert(0, "whole image")
        return ", ".join([*parts, "flip"] if self.flip else parts)

    def __call__(self, predict: Predict, image: Tensor) -> Tensor:
        """Return class probabilities, float (N, C, H, W); 0 for all classes outside the crop.

        Args:
            predict: Forward pass of the network.
            image: RGB, uint8 (N, 3, H, W).
        """
        if self.crop is None:
            return self._over_scales(predict, image)
        margins = []  # left, right, top, bottom in pixels; negative where the image is cropped
        for length in (image.shape[-1], image.shape[-2]):
            before = (self.crop - length) // 2
            margins += [before, self.crop - length - before]
        probs = self._over_scales(predict, F.pad(image, margins))
        return F.pad(probs, [-margin for margin in margins])

    def _over_scales(self, predict: Predict, image: Tensor) -> Tensor:
        size = image.shape[-2:]
        total = torch.zeros((), device=image.device)
        for scale in self.scales:
            scaled = resize(image, [max(1, round(length * scale)) for length in size])
            total = total + resize(self._over_windows(predict, scaled), size)
        return total / len(self.scales)

    def _over_windows(self, predict: Predict, image: Tensor) -> Tensor:
        if self.window is None or self.stride is None:
            return self._over_flips(predict, image)
        height, width = image.shape[-2:]
        total: Tensor | None = None
        seen = torch.zeros((1, 1, height, width), device=image.device)
        for rows in _windows(height, self.window, self.stride):
            for columns in _windows(width, self.window, self.stride):
                probs = self._over_flips(predict, image[..., rows, columns])
                if total is None:
                    total = probs.new_zeros((*probs.shape[:2], height, width))
                total[..., rows, columns] += probs
                seen[..., rows, columns] += 1
        assert total is not None  # there is always a window
        return total / seen

    def _over_flips(self, predict: Predict, image: Tensor) -> Tensor:
        probs = predict(image)
        return (probs + predict(image.flip(-1)).flip(-1)) / 2 if self.flip else probs


WHOLE_IMAGE = Inference()


def _windows(length: int, side: int, stride: int) -> list[slice]:
    """Return the windows along one axis. The last one ends where the image ends."""
    last = max(length - side, 0)
    return [slice(start, start + side) for start in [*range(0, last, stride), last]]


def most_probable(probs: Tensor) -> Tensor:
    """Return the classes, uint8 (N, H, W), of probabilities (N, C, H, W); IGNORE_INDEX where all of them are 0."""
    confidence, classes = probs.max(dim=1)
    return classes.to(torch.uint8).masked_fill(confidence == 0, IGNORE_INDEX)


def resize(image: Tensor, size: Sequence[int]) -> Tensor:
    """Resize (N, C, H, W) bilinearly to float; an image of this size is returned unchanged."""
    if image.shape[-2:] == tuple(size):
        return image
    return F.interpolate(image.float(), size=tuple(size), mode="bilinear", align_corners=False)
