"""Reading pictures with Pillow, which raises on truncated files and returns palette PNGs as indices."""

from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL import ImageOps

from datamodules.annotations import LabelMap
from datamodules.sample import IGNORE_INDEX
from datamodules.transforms import Image

_ORIENTATION = 0x0112  # EXIF tag; values from 5 on turn the image by 90 degrees

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def list_images(folder: Path) -> list[Path]:
    """Return the image files of a folder, sorted by name.

    Raises:
        ValueError: No such folder, no image in it, or two files that differ only in their suffix.
    """
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}; create it and put images into it.")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise ValueError(f"{folder} holds no images; accepted are {', '.join(IMAGE_SUFFIXES)}.")
    stems = [path.stem for path in paths]
    if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise ValueError(f"{folder} holds several images named {twice[0]!r}; labels are found by name, so rename one.")
    return paths


def image_size(path: Path) -> tuple[int, int]:
    """Return (W, H) of the upright image without decoding it.

    Raises:
        ValueError: A file that is missing or no image.
    """
    try:
        with PILImage.open(path) as picture:
            turned = picture.getexif().get(_ORIENTATION, 1) >= 5
            return picture.size[::-1] if turned else picture.size
    except OSError as error:
        raise ValueError(f"{path} cannot be read as an image ({error}); replace or remove it.") from error


def read_image(path: Path) -> Image:
    """Return uint8 (H, W, 3), RGB, upright as its EXIF orientation says and as annotation tools show it.

    Raises:
        ValueError: A file that is missing, truncated, no image, or of more than 8 bits.
    """
    try:
        with PILImage.open(path) as picture:
            if picture.mode.startswith(("I", "F")):  # Pillow would clip it
                raise ValueError(
                    f"{path} has more than 8 bits per channel (mode {picture.mode}); export it with 8 bits."
                )
            return np.array(ImageOps.exif_transpose(picture).convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} cannot be read as an image ({error}); replace or remove it.") from error


def read_label_map(path: Path, num_classes: int) -> LabelMap:
    """Return class indices, uint8 (H, W), of an indexed or greyscale PNG.

    Raises:
        ValueError: A file that is missing or truncated, has colors instead of indices, or holds a value that is neither
            a class nor IGNORE_INDEX.
    """
    try:
        with PILImage.open(path) as picture:
            mode, labels = picture.mode, np.array(picture)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} cannot be read as a mask ({error}); replace or remove it.") from error
    if mode not in ("P", "L", "I", "I;16"):
        raise ValueError(f"{path} has mode {mode}; a mask holds one class index per pixel, as a palette or grey PNG.")
    wrong = sorted(set(np.unique(labels).tolist()) - {*range(num_classes), IGNORE_INDEX})
    if wrong:
        raise ValueError(
            f"{path} holds the values {wrong[:5]}; use 0 to {num_classes - 1} (the lines of classes.txt) and "
            f"{IGNORE_INDEX} for unlabeled pixels."
        )
    return labels.astype(np.uint8)
