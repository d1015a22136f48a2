"""Decoded images in one memory-mapped file, shared by the loader processes of all devices of a machine.

::

    FOLDER/decoded-KEY.json   shapes, offsets and source files of the images
    FOLDER/decoded-KEY.rgb    uint8, all images one after the other; appears when it is complete
    FOLDER/decoded.lock       held by the process that builds, where the file system has locks

KEY is a digest of the paths, sizes and modification times of the files, so a cache of changed files is not found.
"""

import os
import shutil
from contextlib import suppress
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL
from numpy.typing import NDArray

from datamodules.annotations import LabelMap
from datamodules.dataset import SegmentationDataset
from datamodules.io.atomic import is_abandoned, part_of
from datamodules.io.errors import InputError
from datamodules.io.images import in_threads
from datamodules.io.json_files import read_json, write_json
from datamodules.transforms import Image, Labels

GIB = 2**30
Source = tuple[str, int, int]
"""Path, size and modification time, ns, of a file."""


class CachedImages(SegmentationDataset):
    """A dataset whose images are read-only views of the cache in a folder.

    Raises:
        InputError: There is no cache of these images.
    """

    def __init__(self, dataset: SegmentationDataset, folder: Path) -> None:
        self.dataset = dataset
        self.path = _path(dataset, _sources(dataset), folder)
        if not self.path.is_file():
            raise InputError(f"{folder} holds no cache of these images as they are now; start again to build it.")
        images = read_json(self.path.with_suffix(".json"))["images"]
        self.shapes: list[tuple[int, int]] = [tuple(image["shape"]) for image in images]
        self.offsets: list[int] = [image["offset"] for image in images]
        self._pixels: NDArray[np.uint8] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pixels": None}  # a loader process maps the file itself

    def __len__(self) -> int:
        return len(self.dataset)

    def name(self, index: int) -> str:
        """Return the name in the dataset."""
        return self.dataset.name(index)

    def shape(self, index: int) -> tuple[int, int]:
        """Return (H, W)."""
        return self.shapes[index]

    def image(self, index: int) -> Image:
        """Return uint8 (H, W, 3), RGB, read-only."""
        if self._pixels is None:
            self._pixels = np.asarray(np.memmap(self.path, dtype=np.uint8, mode="r"))
        (height, width), start = self.shapes[index], self.offsets[index]
        return self._pixels[start : start + 3 * height * width].reshape(height, width, 3)

    def dense_mask(self, index: int) -> LabelMap | None:
        """Return the mask of the dataset."""
        return self.dataset.dense_mask(index)

    def weak_labels(self, index: int) -> Labels:
        """Return the labels of the dataset."""
        return self.dataset.weak_labels(index)


def build_cache(dataset: SegmentationDataset, folder: Path) -> None:
    """Decode all images into a folder, unless their cache is already there.

    One process builds; others wait for it. On a file system without locks they build too, each in its own file. The
    files of an interrupted build are removed by the next one. A finished build removes the caches that it replaces:
    those of changed files, and those of a part of these images.

    Raises:
        InputError: An image has no file, a file cannot be read, or the disk is too small.
    """
    from fcntl import LOCK_EX, flock  # Unix only

    sources = _sources(dataset)
    path = _path(dataset, sources, folder)
    if path.is_file():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "decoded.lock").open("w") as file:
            with suppress(OSError):  # some file systems have no locks
                flock(file, LOCK_EX)  # the system releases the lock of a killed process
            if not path.is_file():
                _remove_interrupted(folder)
                _write(dataset, sources, path)
                _remove_replaced(dataset.image_version(), set(sources), path)
    except OSError as error:
        remedy = "name a different folder with --data.loader.image_cache"
        raise InputError(f"{folder} cannot hold decoded images ({error}); {remedy}.") from error


def _write(dataset: SegmentationDataset, sources: list[Source], path: Path) -> None:
    """Write the index and, in parallel, the pixels."""
    shapes = list(in_threads(dataset.shape, len(dataset), "Measuring"))
    *offsets, total = accumulate((3 * height * width for height, width in shapes), initial=0)
    free = shutil.disk_usage(path.parent).free
    if total > free:
        problem = f"The decoded images take {total / GIB:.2f} GiB but {path.parent} has {free / GIB:.2f} GiB free"
        raise InputError(f"{problem}; free some, or name a folder on a different disk with --data.loader.image_cache.")
    part = part_of(path)

    def store(index: int) -> None:
        image = dataset.image(index)
        if image.shape != (*shapes[index], 3):
            raise InputError(f"{sources[index][0]} has shape {image.shape}, not {shapes[index]}; start again.")
        with part.open("r+b") as file:
            file.seek(offsets[index])
            file.write(np.ascontiguousarray(image).data)

    images = [
        {"file": file, "size": size, "mtime_ns": mtime_ns, "shape": shape, "offset": offset}
        for (file, size, mtime_ns), shape, offset in zip(sources, shapes, offsets, strict=True)
    ]
    try:
        part.touch()
        for _ in in_threads(store, len(dataset), "Decoding"):
            pass
        with part.open("r+b") as file:
            os.fsync(file.fileno())  # a power cut must not leave the name without the pixels
        write_json(path.with_suffix(".json"), {"version": dataset.image_version(), "images": images})
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _remove_interrupted(folder: Path) -> None:
    """Remove the pixels of killed builds. A live one may run on another machine, where locks do not reach."""
    for part in folder.glob("decoded-*.part"):
        if is_abandoned(part):
            part.unlink(missing_ok=True)


def _remove_replaced(version: str, sources: set[Source], path: Path) -> None:
    for other in {*path.parent.glob("decoded-*.rgb")} - {path}:
        if not other.with_suffix(".json").is_file():  # another process removes it
            continue
        content = read_json(other.with_suffix(".json"))
        found = {(image["file"], image["size"], image["mtime_ns"]) for image in content["images"]}
        included = content["version"] == version and found <= sources
        if included or any(_source(Path(source[0])) != source for source in found):
            other.unlink(missing_ok=True)
            other.with_suffix(".json").unlink(missing_ok=True)


def _path(dataset: SegmentationDataset, sources: list[Source], folder: Path) -> Path:
    """Return the path of the pixels. KEY also covers the decoders and the options of the dataset."""
    versions = (PIL.__version__, cv2.__version__, dataset.image_version())
    return folder / f"decoded-{sha256(repr((versions, sources)).encode()).hexdigest()[:16]}.rgb"


def _sources(dataset: SegmentationDataset) -> list[Source]:
    return [_source(dataset.image_file(index)) for index in range(len(dataset))]


def _source(path: Path) -> Source:
    if not path.is_file():
        return str(path.absolute()), 0, 0
    stat = path.stat()
    return str(path.absolute()), stat.st_size, stat.st_mtime_ns
