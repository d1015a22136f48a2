"""Objectness maps: how likely a pixel belongs to any object."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from datamodules.io.errors import InputError
from datamodules.io.images import naming
from datamodules.transforms import Image


def frequency_tuned_saliency(image: Image) -> NDArray[np.float32]:
    """Return the saliency of Achanta et al., "Frequency-tuned Salient Region Detection", CVPR 2009, float32 (H, W).

    It is the distance between the mean color of the image and the blurred color of a pixel, in Lab, divided by its
    maximum. It is 0 in an image of one color.

    Args:
        image: uint8 (H, W, 3), RGB.
    """
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    blurred = cv2.GaussianBlur(lab, (5, 5), 0)
    distance = np.linalg.norm(blurred - lab.mean((0, 1)), axis=2)
    return np.asarray(distance / max(float(distance.max()), 1e-3), dtype=np.float32)


def read_objectness(path: Path, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return a gray PNG of 8 bits, 0 to 255, as float32 (H, W) in [0, 1].

    Raises:
        InputError: The file is missing or damaged, is not a gray image, or has another size than (H, W).
    """
    if not path.is_file():
        raise InputError(f"{path} is missing; every training image needs an objectness map.", "missing file", path)
    with naming(path, "an objectness map"), PILImage.open(path) as picture:
        mode, pixels = picture.mode, np.asarray(picture)
    if mode != "L":
        raise InputError(
            f"{path} has mode {mode}; write a gray PNG of 8 bits, 255 = certainly an object.", "mode", path
        )
    if pixels.shape != size:
        remedy = f"write it at the size of its image, (H, W) {size}"
        raise InputError(f"{path} has (H, W) {pixels.shape}; {remedy}.", "size differs", path)
    return np.asarray(pixels / 255, dtype=np.float32)
