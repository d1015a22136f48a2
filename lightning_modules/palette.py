"""Color palette of PASCAL VOC."""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@cache
def voc_palette() -> NDArray[np.uint8]:
    """Return the RGB colors of indices 0 to 255, (256, 3): bit 3 k + j of an index is bit 7 - k of channel j."""
    index = np.arange(256)
    channels = [sum(((index >> (3 * k + j)) & 1) << (7 - k) for k in range(8)) for j in range(3)]
    return np.stack(channels, axis=1).astype(np.uint8)


def colorize(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the RGB image, (H, W, 3), of a label map (H, W)."""
    return voc_palette()[labels]


def blend(image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image, RGB (H, W, 3), half covered by the colors of its labels (H, W), with white borders between them.

    Pixels without a label, 255, keep their color.
    """
    mixed = np.where((labels == 255)[..., None], image, image // 2 + colorize(labels) // 2)
    border = np.zeros(labels.shape, dtype=bool)
    border[:, 1:] = labels[:, 1:] != labels[:, :-1]
    border[1:] |= labels[1:] != labels[:-1]
    mixed[border] = 255
    return mixed


def save_palette_png(labels: NDArray[np.uint8], path: Path) -> None:
    """Write a label map (H, W) as an indexed PNG; its values are the class indices."""
    picture = Image.fromarray(labels, mode="P")
    picture.putpalette(voc_palette().tobytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
