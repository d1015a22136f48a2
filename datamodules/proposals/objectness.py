"""How likely a pixel is part of an object, whatever its class."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from datamodules.io.errors import InputError
from datamodules.io.images import naming
from datamodules.transforms import Image

_BINOMIAL = np.array([1, 4, 6, 4, 1], dtype=np.float32) / 16
_VISIBLE = 1e-3  # smallest distance in Lab that is not a rounding error


def frequency_tuned_saliency(image: Image) -> NDArray[np.float32]:
    """Return the saliency of each pixel, float32 (H, W) in [0, 1]: Achanta et al., CVPR 2009, Eq. 8.

    It is the Euclidean distance in Lab of the slightly blurred color to the mean color of the image, relative to its
    maximum. It is 0 if the image has only one color.

    Args:
        image: uint8 (H, W, 3), RGB.
    """
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    blurred = cv2.sepFilter2D(lab, -1, _BINOMIAL, _BINOMIAL)
    distance = np.linalg.norm(blurred - lab.mean((0, 1), dtype=np.float64), axis=2)
    largest = distance.max()
    return np.asarray(distance / largest if largest > _VISIBLE else np.zeros_like(distance), dtype=np.float32)


def read_objectness(path: Path, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the objectness in a file, float32 (H, W) in [0, 1].

    Args:
        path: PNG with 8 bits of gray, 0 for background and 255 for certain objects.
        shape: (H, W) of the image.

    Raises:
        InputError: The file is missing or truncated, is not such a PNG, or has another size than the image.
    """
    with naming(path, "an objectness map"), PILImage.open(path) as picture:
        kind, gray = f"{picture.format} of mode {picture.mode}", np.array(picture)
    if kind != "PNG of mode L":
        raise InputError(f"{path} is a {kind}; export it as a PNG with 8 bits of gray.", "not 8 bits of gray", path)
    if gray.shape != tuple(shape):
        sizes = f"{gray.shape[1]} x {gray.shape[0]} pixels, and its image {shape[1]} x {shape[0]}"
        raise InputError(f"{path} has {sizes}; make one of the image's size.", "size differs", path)
    return (gray / 255).astype(np.float32)
