"""Decoded images in one memory-mapped file: the loader processes of all devices of a machine share its pages.

::

    FOLDER/decoded-KEY.rgb    uint8, the pixels of all images one after the other
    FOLDER/decoded-KEY.json   which image lies where, and the file it was decoded from; written when the rest is whole
    FOLDER/decoded.lock       held by the process that builds

KEY is a digest of the paths, sizes and times of the files: when one changes, its cache is no longer found.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from itertools import accumulate
from os import fsync
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import PIL
from numpy.typing import NDArray

from datamodules.annotations import LabelMap
from datamodules.dataset import SegmentationDataset
from datamodules.io.errors import InputError
from datamodules.io.images import in_threads
from datamodules.transforms import Image, Labels

GIB = 2**30


class CachedImages(SegmentationDataset):
    """A dataset whose images are read-only views of a cache; everything else is the dataset's own.

    Args:
        dataset: What was cached.
        folder: Where.

    Raises:
        InputError: There is no cache of these images.
    """

    def __init__(self, dataset: SegmentationDataset, folder: Path) -> None:
        self.dataset = dataset
        self.index = _index(dataset, _sources(dataset), folder)
        if not _is_whole(self.index):
            raise InputError(f"{folder} holds no cache of these images as they are now; start again to build it.")
        images = json.loads(self.index.read_text())["images"]
        self.shapes: list[tuple[int, int]] = [tuple(image["shape"]) for image in images]
        self.offsets: list[int] = [image["offset"] for image in images]
        self._pixels: NDArray[np.uint8] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pixels": None}  # a loader process maps the file itself

    def __len__(self) -> int:
        return len(self.dataset)

    def name(self, index: int) -> str:
        """Return the name of the image."""
        return self.dataset.name(index)

    def shape(self, index: int) -> tuple[int, int]:
        """Return (H, W) of the image."""
        return self.shapes[index]

    def image(self, index: int) -> Image:
        """Return uint8 (H, W, 3), RGB, which cannot be written to."""
        if self._pixels is None:
            self._pixels = np.asarray(np.memmap(_pixels(self.index), dtype=np.uint8, mode="r"))
        (height, width), start = self.shapes[index], self.offsets[index]
        return self._pixels[start : start + 3 * height * width].reshape(height, width, 3)

    def dense_mask(self, index: int) -> LabelMap | None:
        """Return the dense truth, if there is any."""
        return self.dataset.dense_mask(index)

    def weak_labels(self, index: int) -> Labels:
        """Return what training may see."""
        return self.dataset.weak_labels(index)


class Source(NamedTuple):
    """The file of an image, and what changes with its content."""

    file: str
    size: int
    mtime_ns: int


def build_cache(dataset: SegmentationDataset, folder: Path) -> None:
    """Decode all images into ``folder``, unless that was done and no file has changed since.

    A build that is stopped leaves nothing that is taken for a cache, and the next one clears it away. Who wants to
    build at the same time waits. Caches of files that have changed since are removed at the end.

    Args:
        dataset: Images that are decoded from files.
        folder: Made where it is missing.

    Raises:
        InputError: An image without a file, a file that cannot be read, or a disk that is too small.
    """
    sources = _sources(dataset)
    index = _index(dataset, sources, folder)
    if _is_whole(index):
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder):
            if not _is_whole(index):
                _clear(folder)
                _write(dataset, sources, index)
                _remove_outdated(dataset, sources, index)
    except OSError as error:
        raise InputError(
            f"{folder} cannot hold decoded images ({error}); name another folder with --data.loader.image_cache."
        ) from error


def belongs_to_cache(path: Path) -> bool:
    """Return whether a file is of a cache, by its name."""
    return path.name.startswith("decoded") and path.suffix in (".rgb", ".json", ".part", ".lock")


def _write(dataset: SegmentationDataset, sources: Sequence[Source], index: Path) -> None:
    """Write the pixels, in parallel, and then the index, each under another name until it is whole."""
    shapes = list(in_threads(dataset.shape, len(dataset), "Measuring"))
    *offsets, total = accumulate((3 * height * width for height, width in shapes), initial=0)
    free = shutil.disk_usage(index.parent).free
    if total > free:
        raise InputError(
            f"The decoded images take {total / GIB:.2f} GiB but {index.parent} has {free / GIB:.2f} GiB free; make "
            "room, name a folder on another disk with --data.loader.image_cache, or leave it out."
        )
    part = index.with_suffix(".part")

    def store(place: int) -> None:
        image = dataset.image(place)
        if image.shape != (*shapes[place], 3):
            raise InputError(f"{sources[place].file} became {image.shape} instead of {shapes[place]}; start again.")
        with part.open("r+b") as file:
            file.seek(offsets[place])
            file.write(np.ascontiguousarray(image).data)

    try:
        part.touch()
        for _ in in_threads(store, len(dataset), "Decoding"):
            pass
        with part.open("r+b") as file:
            fsync(file.fileno())  # or a power cut could leave the name without the content
        part.replace(_pixels(index))
        lines = zip(sources, shapes, offsets, strict=True)
        images = [{**source._asdict(), "shape": shape, "offset": offset} for source, shape, offset in lines]
        part.write_text(json.dumps({"version": dataset.image_version(), "images": images}))
        part.replace(index)
    finally:
        part.unlink(missing_ok=True)


def _clear(folder: Path) -> None:
    """Remove what builds that were killed have left."""
    for path in [*folder.glob("decoded-*.part"), *folder.glob("decoded-*.rgb")]:
        if path.suffix == ".part" or not path.with_suffix(".json").exists():
            path.unlink()


def _remove_outdated(dataset: SegmentationDataset, sources: Sequence[Source], index: Path) -> None:
    """Remove caches of a file that has changed, and those whose images are all in the new one."""
    for path in index.parent.glob("decoded-*.json"):
        content = json.loads(path.read_text())
        found = [Source(image["file"], image["size"], image["mtime_ns"]) for image in content["images"]]
        included = content["version"] == dataset.image_version() and set(found) <= set(sources)
        if path != index and (included or any(_source(Path(source.file)) != source for source in found)):
            path.unlink()
            _pixels(path).unlink(missing_ok=True)


def _pixels(index: Path) -> Path:
    return index.with_suffix(".rgb")


def _is_whole(index: Path) -> bool:
    return index.is_file() and _pixels(index).is_file()


def _index(dataset: SegmentationDataset, sources: Sequence[Source], folder: Path) -> Path:
    """Return its path, which changes with the files and with what decodes and reduces them."""
    readers = (PIL.__version__, cv2.__version__, dataset.image_version())
    key = sha256(repr((readers, [tuple(source) for source in sources])).encode()).hexdigest()
    return folder / f"decoded-{key[:16]}.json"


def _sources(dataset: SegmentationDataset) -> list[Source]:
    sources = []
    for index in range(len(dataset)):
        path = dataset.image_file(index)
        if path is None:
            raise InputError(f"{dataset.name(index)} is decoded from no file; leave out --data.loader.image_cache.")
        source = _source(path)
        if source is None:
            raise InputError(f"{path} is missing; put it back.")
        sources.append(source)
    return sources


def _source(path: Path) -> Source | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return Source(str(path.absolute()), stat.st_size, stat.st_mtime_ns)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; a process that is killed lets go of it."""
    from fcntl import LOCK_EX, flock  # Unix only

    with (folder / "decoded.lock").open("w") as file:
        flock(file, LOCK_EX)
        yield
