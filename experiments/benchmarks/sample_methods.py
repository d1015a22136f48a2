"""Methods that make a training sample from an image file: ours, torchvision's and the authors'."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageDraw, ImageOps
from torch import Tensor
from torchvision import tv_tensors  # type: ignore[import-untyped]
from torchvision.io import decode_image  # type: ignore[import-untyped]
from torchvision.transforms.v2 import functional as F  # type: ignore[import-untyped]

from datamodules.annotations import Annotation
from datamodules.dataset import AugmentedCrops
from datamodules.folder.dataset import FolderDataset
from datamodules.image_cache import CachedImages, build_cache
from datamodules.io.images import image_size, read_image
from datamodules.sample import IGNORE_INDEX
from datamodules.sampler import Draw
from datamodules.transforms import RandomScaleCropFlip
from experiments.benchmarks.photographs import CLICKS

CROP, CLASSES, SEED = 256, 21, 0
_decode = partial(decode_image, mode="RGB", apply_exif_orientation=True)
DECODER = "decoder alone"
TORCHVISION = "torchvision v2, image, clicks and padding"

Methods = dict[str, tuple[Callable[[Any], Any], Sequence[Any]]]
"""For each name, a function that makes a sample, and its argument for each image."""


class Example(NamedTuple):
    """An image file with its clicks and its crop.

    Attributes:
        path: The image file.
        points: x and y of the clicks, float64 (CLICKS, 2), pixels of the image.
        labels: Their classes, uint8 (CLICKS,).
        matrix: Map from coordinates of the image to those of the crop, (3, 3).
    """

    path: Path
    points: NDArray[np.float64]
    labels: NDArray[np.uint8]
    matrix: NDArray[np.float64]

    def moved(self) -> NDArray[np.float64]:
        """Return the clicks in the crop."""
        return self.points @ self.matrix[:2, :2].T + self.matrix[:2, 2]

    def window(self) -> tuple[float, float, float, bool]:
        """Return the zoom, the top and left of the crop in pixels of the zoomed image, and whether it is flipped."""
        (scale_x, _, left), (_, zoom, top) = self.matrix[:2].tolist()
        return zoom, -top, left - CROP if scale_x < 0 else -left, scale_x < 0


def make_methods(paths: list[Path], cache: Path) -> Methods:
    """Return all methods. Their crops and clicks are the same.

    Args:
        paths: Image files.
        cache: Folder for decoded images.
    """
    rng, transform = np.random.default_rng(SEED), RandomScaleCropFlip(CROP)
    draws = [Draw(index, 0, index) for index in range(len(paths))]
    examples, weak = [], {}
    for path, draw in zip(paths, draws, strict=True):
        width, height = image_size(path)
        points = rng.uniform(0, (width, height), (CLICKS, 2))
        labels = rng.integers(CLASSES, size=CLICKS, dtype=np.uint8)
        matrix = transform.draw_matrix(height, width, np.random.default_rng([SEED, *draw[1:]]))
        examples.append(Example(path, points, labels, matrix))
        weak[path.stem] = [Annotation(int(label), point[None]) for point, label in zip(points, labels, strict=True)]
    files = FolderDataset(paths, None, CLASSES, weak)
    build_cache(files, cache)
    ours, cached = (AugmentedCrops(split, transform, SEED) for split in (files, CachedImages(files, cache)))
    return {
        DECODER: (read_image, paths),
        "ours, from files": (ours.__getitem__, draws),
        "ours, `--data.loader.image_cache=FOLDER`": (cached.__getitem__, draws),
        TORCHVISION: (by_torchvision, examples),
        "torchvision v2, crop first, no padding": (by_resized_crop, examples),
        "one Pillow perspective warp, as the authors": (by_pillow, examples),
    }


def by_torchvision(example: Example) -> dict[str, Tensor]:
    """Resize, crop and flip image, clicks and validity. Crop at whole pixels of the zoomed image."""
    image = _decode(str(example.path))
    height, width = image.shape[-2:]
    zoom, top, left, flip = example.window()
    parts = {
        "image": tv_tensors.Image(image),
        "points": tv_tensors.KeyPoints(example.points, canvas_size=(height, width)),
        "valid": tv_tensors.Mask(torch.ones(1, height, width, dtype=torch.uint8)),
    }
    for name, part in parts.items():
        resized = F.resize(part, [round(height * zoom), round(width * zoom)])
        cropped = F.crop(resized, round(top), round(left), CROP, CROP)  # pads with zeros
        parts[name] = F.horizontal_flip(cropped) if flip else cropped
    target = _draw_clicks(parts["points"], example.labels)
    return {"image": parts["image"], "target": target, "valid": parts["valid"][0].bool()}


def by_resized_crop(example: Example) -> dict[str, Tensor]:
    """Crop at whole pixels of the image, then resize the crop and map the clicks. Return no validity."""
    zoom, top, left, flip = example.window()
    side = round(CROP / zoom)
    image = _decode(str(example.path))
    image = F.resized_crop(image, round(top / zoom), round(left / zoom), side, side, [CROP, CROP])
    target = _draw_clicks(torch.from_numpy(example.moved()), example.labels)
    return {"image": F.horizontal_flip(image) if flip else image, "target": target}


def by_pillow(example: Example) -> dict[str, Tensor]:
    """Warp image and validity and draw an ellipse per click, as the authors do. Current Pillow draws four pixels."""
    with PILImage.open(example.path) as picture:
        ImageOps.exif_transpose(picture, in_place=True)
        photograph = picture.convert("RGB")
    inverse = (*np.linalg.inv(example.matrix)[:2].ravel().tolist(), 0, 0)
    size, perspective = (CROP, CROP), PILImage.Transform.PERSPECTIVE
    image = photograph.transform(size, perspective, inverse, PILImage.Resampling.BILINEAR)
    valid = PILImage.new("L", photograph.size, 1).transform(size, perspective, inverse)
    target = PILImage.new("L", size, IGNORE_INDEX)
    draw = ImageDraw.Draw(target)
    for (x, y), label in zip(example.moved().tolist(), example.labels.tolist(), strict=True):
        draw.ellipse((x - 0.5, y - 0.5, x + 0.5, y + 0.5), fill=label)
    planes, labels, inside = (torch.from_numpy(np.array(part)) for part in (image, target, valid))
    return {"image": planes.permute(2, 0, 1), "target": labels, "valid": inside.bool()}


def _draw_clicks(points: Tensor, classes: NDArray[np.uint8]) -> Tensor:
    x, y = points.floor().long().unbind(1)
    inside = (x >= 0) & (x < CROP) & (y >= 0) & (y < CROP)
    target = torch.full((CROP, CROP), IGNORE_INDEX, dtype=torch.uint8)
    target[y[inside], x[inside]] = torch.from_numpy(classes)[inside]
    return target
