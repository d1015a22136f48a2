"""Ways to make a training sample from an image file: ours, torchvision's and the authors'."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageDraw, ImageOps
from torch import Tensor
from torchvision import io, tv_tensors  # type: ignore[import-untyped]
from torchvision.transforms.v2 import functional as F  # type: ignore[import-untyped]

from datamodules.annotations import Annotation
from datamodules.dataset import AugmentedCrops
from datamodules.folder.dataset import FolderDataset
from datamodules.image_cache import CachedImages, build_cache
from datamodules.io.images import read_image
from datamodules.sample import IGNORE_INDEX
from datamodules.sampler import Draw
from datamodules.transforms import RandomScaleCropFlip
from experiments.benchmarks.photographs import CLICKS

CROP, CLASSES, SEED = 256, 21, 0
METHODS = {
    "floor": "decoding alone, without making a sample",
    "ours": "files, decoded every time",
    "ours, cached": "--data.loader.image_cache",
    "torchvision": "decode_image; v2.functional: resize, crop and flip of Image, KeyPoints and, for padding, Mask",
    "torchvision, crop first": "v2.functional.resized_crop of the image; clicks moved by hand; no Mask",
    "authors' way": "Pillow: perspective transform of image and padding, one ellipse per click",
}


class Example(NamedTuple):
    """An image file with its clicks and its crop.

    Attributes:
        path: The image file.
        points: x and y of the clicks, float64 (CLICKS, 2), pixels of the image.
        labels: Their classes, uint8 (CLICKS,).
        matrix: 3 x 3 map from the image to the crop, continuous coordinates.
    """

    path: Path
    points: NDArray[np.float64]
    labels: NDArray[np.uint8]
    matrix: NDArray[np.float64]

    def moved(self) -> NDArray[np.float64]:
        """Return the clicks in the crop."""
        return self.points @ self.matrix[:2, :2].T + self.matrix[:2, 2]


def make_methods(paths: list[Path], cache: Path) -> dict[str, Callable[[int], Any]]:
    """Return for each of ``METHODS`` a function from the index of an image to its sample.

    All methods use the same crop and clicks.

    Args:
        paths: Image files.
        cache: Folder for decoded images.
    """
    rng, transform = np.random.default_rng(SEED), RandomScaleCropFlip(CROP)
    examples = []
    for index, path in enumerate(paths):
        height, width = read_image(path).shape[:2]
        points = rng.uniform(0, (width, height), (CLICKS, 2))
        labels = rng.integers(CLASSES, size=CLICKS, dtype=np.uint8)
        generator = np.random.default_rng([SEED, 0, index])  # as for Draw below
        matrix = transform.draw_matrix(height, width, generator)
        examples.append(Example(path, points, labels, matrix))
    weak = {
        e.path.stem: [Annotation(int(c), p[None]) for p, c in zip(e.points, e.labels, strict=True)] for e in examples
    }
    ours = FolderDataset(list(paths), None, CLASSES, weak)
    build_cache(ours, cache)
    cold, cached = (AugmentedCrops(split, transform, SEED) for split in (ours, CachedImages(ours, cache)))
    methods: list[Callable[[int], Any]] = [
        lambda i: read_image(paths[i]),
        lambda i: cold[Draw(i, 0, i)],
        lambda i: cached[Draw(i, 0, i)],
        lambda i: by_torchvision(examples[i]),
        lambda i: by_resized_crop(examples[i]),
        lambda i: by_pillow(examples[i]),
    ]
    return dict(zip(METHODS, methods, strict=True))


def by_torchvision(example: Example) -> dict[str, Tensor]:
    """Resize, crop to whole pixels and flip image, clicks and validity with torchvision."""
    image = _decode(example.path)
    height, width = image.shape[-2:]
    (scale_x, _, left), (_, zoom, top) = example.matrix[:2].tolist()
    size, starts = (round(height * zoom), round(width * zoom)), (-top, left - CROP if scale_x < 0 else -left)
    row, column = (
        min(max(round(start), min(0, side - CROP)), max(0, side - CROP))
        for start, side in zip(starts, size, strict=True)
    )
    parts = {
        "image": tv_tensors.Image(image),
        "points": tv_tensors.KeyPoints(example.points, canvas_size=(height, width)),
        "valid": tv_tensors.Mask(torch.ones(1, height, width, dtype=torch.uint8)),
    }
    for name, part in parts.items():
        cropped = F.crop(F.resize(part, size), row, column, CROP, CROP)  # pads with zeros
        parts[name] = F.horizontal_flip(cropped) if scale_x < 0 else cropped
    target = _draw_clicks(parts["points"], example.labels)
    return {"image": parts["image"], "target": target, "valid": parts["valid"][0].bool()}


def by_resized_crop(example: Example) -> dict[str, Tensor]:
    """Cut image and clicks at whole pixels of the image, and resize only the cut."""
    image = _decode(example.path)
    (scale_x, _, left), (_, zoom, top) = example.matrix[:2].tolist()
    side = round(CROP / zoom)
    first = round(-left / scale_x) - (side if scale_x < 0 else 0)
    image = F.resized_crop(image, round(-top / zoom), first, side, side, [CROP, CROP])
    if scale_x < 0:
        image = F.horizontal_flip(image)
    return {"image": image, "target": _draw_clicks(torch.from_numpy(example.moved()), example.labels)}


def by_pillow(example: Example) -> dict[str, Tensor]:
    """Warp as the authors do; current versions of Pillow draw a click as four pixels."""
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


def _decode(path: Path) -> Tensor:
    image: Tensor = io.decode_image(io.read_file(str(path)), io.ImageReadMode.RGB, apply_exif_orientation=True)
    return image


def _draw_clicks(points: Tensor, classes: NDArray[np.uint8]) -> Tensor:
    x, y = points.floor().long().unbind(1)
    inside = (x >= 0) & (x < CROP) & (y >= 0) & (y < CROP)
    target = torch.full((CROP, CROP), IGNORE_INDEX, dtype=torch.uint8)
    target[y[inside], x[inside]] = torch.from_numpy(classes)[inside]
    return target
