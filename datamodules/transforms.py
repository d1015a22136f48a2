"""Augmentation: image, labels, validity and vectors moved by one warp."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.annotations import Annotation, LabelMap, check_width, drop_outside, rasterize
from datamodules.sample import IGNORE_INDEX, Sample

Image = NDArray[np.uint8]
Labels = LabelMap | list[Annotation]


@dataclass(frozen=True)
class RandomScaleCropFlip:
    """Random scale, crop and horizontal flip, Sec. 4.1.

    Vectors are moved as coordinates and drawn after the warp, so that no click vanishes, grows or shrinks.

    Args:
        crop: Side of the square output, pixels.
        scale: Bounds of the uniform zoom of the image, as in DeepLab.
        flip: Probability of the horizontal flip.
        width: Width of clicks and strokes, 1 or 3 pixels of the output.

    Raises:
        ValueError: A crop below 1, bounds of the zoom that are not positive and in order, or an even width.
    """

    crop: int
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    width: int = 1

    def __post_init__(self) -> None:
        if self.crop < 1:
            raise ValueError(f"crop is {self.crop}; it needs at least 1 pixel.")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale is {self.scale}; give the least and the greatest zoom, both positive.")
        check_width(self.width)

    def __call__(self, image: Image, labels: Labels, name: str, rng: np.random.Generator) -> Sample:
        """Return a sample of ``crop`` x ``crop`` pixels; padding is black, unlabeled and not valid.

        Args:
            image: uint8 (H, W, 3), RGB.
            labels: Vectors in pixels of ``image``, or a map, uint8 (H, W), warped to the nearest pixel.
            name: Passed on.
            rng: Source of all randomness.
        """
        matrix = self._draw(image.shape[0], image.shape[1], rng)
        size = (self.crop, self.crop)
        centers = _shift(-0.5) @ matrix @ _shift(0.5)  # OpenCV puts pixel centers at integers
        inside = np.ones(image.shape[:2], dtype=np.uint8)
        valid = cv2.warpAffine(inside, centers[:2], size, flags=cv2.INTER_NEAREST)
        warped = np.empty((*size, 3), dtype=np.uint8)  # the border is repeated, or black would bleed into valid pixels
        cv2.warpAffine(image, centers[:2], size, warped, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
        warped[valid == 0] = 0
        if isinstance(labels, list):
            moved = [_move(a, matrix) for a in drop_outside(labels, image.shape)]
            clicks = rasterize([a for a in moved if a.is_click], size)  # a click on the border keeps its own pixel
            target = np.where(valid, rasterize(moved, size, self.width), clicks)
        else:
            target = cv2.warpAffine(labels, centers[:2], size, flags=cv2.INTER_NEAREST, borderValue=IGNORE_INDEX)
        return to_sample(warped, target, valid.astype(bool), name)

    def _draw(self, height: int, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw the 3 x 3 map from continuous input to output coordinates.

        The crop lies inside the scaled image where it fits, and the image is centered in the crop where it does not.
        """
        zoom = rng.uniform(*self.scale)
        room = zoom * np.array([width, height]) - self.crop
        left, top = np.where(room > 0, rng.uniform(size=2) * room, room / 2)
        matrix = np.array([[zoom, 0, -left], [0, zoom, -top], [0, 0, 1]])
        if rng.uniform() < self.flip:
            matrix = np.array([[-1.0, 0, self.crop], [0, 1, 0], [0, 0, 1]]) @ matrix
        return matrix


def to_sample(image: Image, target: LabelMap, valid: NDArray[np.bool_], name: str) -> Sample:
    """Turn arrays into a sample, without a copy where the layout allows.

    Args:
        image: uint8 (H, W, 3), RGB.
        target: uint8 (H, W).
        valid: bool (H, W).
        name: Passed on.
    """
    channels_first = np.ascontiguousarray(image.transpose(2, 0, 1))
    return Sample(
        image=torch.from_numpy(channels_first),
        target=torch.from_numpy(target),
        valid=torch.from_numpy(valid),
        name=name,
    )


def _shift(offset: float) -> NDArray[np.float64]:
    return np.array([[1.0, 0, offset], [0, 1, offset], [0, 0, 1]])


def _move(annotation: Annotation, matrix: NDArray[np.float64]) -> Annotation:
    points = annotation.points
    if annotation.is_click:
        points = np.floor(points) + 0.5  # a click stands for its pixel, whose center moves, mirrored exactly by a flip
    return Annotation(annotation.label, points @ matrix[:2, :2].T + matrix[:2, 2])
