"""Image files. OpenCV decodes plain JPEGs to the same pixels as Pillow, in two thirds of the time."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from struct import unpack
from threading import get_native_id
from time import sleep
from typing import TypeVar

import cv2
import numpy as np
from PIL import Image as PILImage
from PIL import ImageOps
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from rich.progress import track

from datamodules.annotations import LabelMap
from datamodules.io.errors import InputError
from datamodules.io.names import image_name
from datamodules.sample import IGNORE_INDEX
from datamodules.transforms import Image

PILImage.MAX_IMAGE_PIXELS = None  # no limit: the files are the user's own
_ORIENTATION = 0x0112  # EXIF tag; values 5 to 8 swap width and height
_BITS_PER_SAMPLE = 0x0102  # TIFF tag, one value per channel

# JPEG markers: frames of 8 bits; the first scan; other headers of a plain file (JFIF, tables, comment)
_FRAMES, _SCAN, _HARMLESS = (0xC0, 0xC1, 0xC2), 0xDA, (0xE0, 0xDB, 0xC4, 0xDD, 0xFE)
_PIXELS = 2**26  # OpenCV decodes smaller images only, and only larger ones are decoded at a reduced size

T = TypeVar("T")

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


@contextmanager
def naming(path: Path, what: str) -> Iterator[None]:
    """Convert any exception to an :class:`InputError`: the file cannot be read as ``what``, for example "an image".

    Decoders raise exceptions of many types.
    """
    try:
        yield
    except Exception as error:
        kind = "missing file" if isinstance(error, FileNotFoundError) else f"cannot be read as {what}"
        raise InputError(f"{path} cannot be read as {what} ({error}); replace or remove it.", kind, path) from error


def in_threads(function: Callable[[int], T], length: int, text: str = "") -> Iterator[T]:
    """Yield ``function(index)`` for each index below ``length``, computed by threads. A text shows a progress bar.

    Return only after the threads have terminated. A terminating thread holds an OpenCV lock, and a loader process
    forked at that moment would deadlock.
    """
    threads = list[int]()
    pool = ThreadPoolExecutor(initializer=lambda: threads.append(get_native_id()))
    try:
        yield from track(pool.map(function, range(length)), text, length, transient=True, disable=not text)
    finally:
        pool.shutdown(cancel_futures=True)
        while any(Path(f"/proc/self/task/{thread}").exists() for thread in threads):
            sleep(0.001)


def list_images(folder: Path) -> list[Path]:
    """Return the image files of a folder, sorted by name, without hidden files and subfolders.

    Raises:
        InputError: The folder is missing or has no images, or two files differ only in suffix or Unicode form.
    """
    if not folder.is_dir():
        inside = sum(map(is_image, folder.parent.iterdir())) if folder.parent.is_dir() else 0
        remedy = f"move some of the {inside} images of {folder.parent} into it" if inside else "put images into it"
        raise InputError(f"There is no folder {folder}; create it and {remedy}.")
    paths = sorted(path for path in folder.iterdir() if is_image(path))
    if not paths:
        others = sorted({path.suffix or f"{path.name}/" for path in folder.iterdir() if not path.name.startswith(".")})
        found = f"only {', '.join(others[:5])}" if others else "no files"
        raise InputError(f"{folder} holds no images, but {found}; accepted are {', '.join(IMAGE_SUFFIXES)}.")
    names = Counter(map(image_name, paths))
    if twice := sorted(name for name, count in names.items() if count > 1):
        raise InputError(f"{folder} holds several images named {twice[0]!r}; labels are found by name, so rename one.")
    return paths


def is_image(path: Path) -> bool:
    """Return whether the name of a file is that of an image. Hidden files, such as macOS's ``._NAME.jpg``, are none."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def image_size(path: Path) -> tuple[int, int]:
    """Return (W, H) of the upright image without decoding it.

    Raises:
        InputError: The file is missing or not an image.
    """
    with naming(path, "an image"), PILImage.open(path) as picture:
        turned = picture.format != "TIFF" and 5 <= picture.getexif().get(_ORIENTATION, 1) <= 8  # Pillow rotates TIFFs
        return picture.size[::-1] if turned else picture.size


def read_image(path: Path, max_side: int | None = None) -> Image:
    """Return uint8 (H, W, 3), RGB, rotated by its EXIF orientation, as annotation tools show it.

    Args:
        path: The file.
        max_side: Longest side to which the caller reduces the image, pixels. A JPEG above 2**26 pixels is then decoded
            at 1/2, 1/4 or 1/8 of its size, but not below twice this side.

    Raises:
        InputError: The file is missing, truncated or not an image, has more than 8 bits per channel, or does not fit
            into memory.
    """
    with naming(path, "an image"):
        content = path.read_bytes()
        image = _decode_plain_jpeg(content)
        if image is not None:
            return image
        with PILImage.open(path) as picture, _stating_size(picture):
            bits = _bits(picture, content)
            if bits <= 8:
                if max_side is not None and picture.width * picture.height > _PIXELS:
                    picture.draft(None, (2 * max_side, 2 * max_side))
                ImageOps.exif_transpose(picture, in_place=True)
                return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))
    message = f"{path} has more than 8 bits per channel: {bits}; export it with 8 bits."
    raise InputError(message, "more than 8 bits", path)


def _bits(picture: PILImage.Image, content: bytes) -> int:
    """Return the bits per channel of a file. Pillow opens deep gray values in modes I and F, but deep colors as RGB."""
    if isinstance(picture, TiffImageFile):
        return int(max(picture.tag_v2.get(_BITS_PER_SAMPLE, (1,))))
    if isinstance(picture, PngImageFile):
        return content[24]  # of the header, which comes first
    return 32 if picture.mode.startswith(("I", "F")) else 8


@contextmanager
def _stating_size(picture: PILImage.Image) -> Iterator[None]:
    """State the size of an image for which the memory does not suffice."""
    try:
        yield
    except MemoryError as error:
        raise MemoryError(f"{picture.width} x {picture.height} pixels do not fit into memory") from error


def _decode_plain_jpeg(content: bytes) -> Image | None:
    """Return uint8 (H, W, 3), RGB, or ``None`` if Pillow must read the file.

    Pillow reads truncated files, which OpenCV fills with gray, files with metadata, which may hold an orientation, and
    files that do not have three channels.
    """
    if not content.startswith(b"\xff\xd8") or not content.endswith(b"\xff\xd9"):
        return None
    place, known = 2, False
    while content[place : place + 1] == b"\xff" and content[place + 1] != _SCAN:
        marker, length = content[place + 1], int.from_bytes(content[place + 2 : place + 4])
        if marker in _FRAMES:
            bits, height, width, channels = unpack(">BHHB", content[place + 4 : place + 10])
            known = (bits, channels) == (8, 3) and height * width <= _PIXELS
        elif marker not in _HARMLESS:
            return None
        place += 2 + length
    if not known or content[place + 1 : place + 2] != bytes([_SCAN]):
        return None
    decoded = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_COLOR_RGB)
    return None if decoded is None else np.asarray(decoded, dtype=np.uint8)


def read_label_map(path: Path, num_classes: int) -> LabelMap:
    """Return class indices, uint8 (H, W), of a palette, grayscale or bilevel PNG.

    Raises:
        InputError: The file is missing or truncated, has colors instead of indices, or holds a value that is neither a
            class nor IGNORE_INDEX.
    """
    with naming(path, "a mask"), PILImage.open(path) as picture, _stating_size(picture):
        mode, labels = picture.mode, np.array(picture)
    if mode not in ("1", "P", "L", "I", "I;16"):
        message = f"{path} has mode {mode}; a mask holds one class index per pixel, as a palette or gray PNG."
        raise InputError(message, "colors instead of indices", path)
    wrong = sorted(set(np.unique(labels).tolist()) - {*range(num_classes), IGNORE_INDEX})
    if wrong:
        remedy = f"use 0 to {num_classes - 1}, the classes, and {IGNORE_INDEX} for unlabeled pixels"
        raise InputError(f"{path} holds the values {wrong[:5]}; {remedy}.", "value out of range", path)
    return labels.astype(np.uint8)
