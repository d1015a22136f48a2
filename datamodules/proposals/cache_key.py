"""The name of the label maps that runs share: it changes with everything that they depend on."""

import json
import sys
from collections.abc import Iterator
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2

from datamodules import annotations as rasterization
from datamodules.annotations import to_json
from datamodules.dataset import SegmentationDataset
from datamodules.io.errors import InputError
from datamodules.proposals.generator import LabelGenerator
from datamodules.proposals.propose import annotations

LIBRARIES = ("numpy", "scipy", "Pillow", "scikit-image", "PyMaxflow")  # and OpenCV, whose package has several names


def cache_key(generator: LabelGenerator, dataset: SegmentationDataset) -> str:
    """Return a digest of the generator and its code, and of the images and their weak labels.

    Raises:
        InputError: An image has a label map instead of annotations.
    """
    libraries = [cv2.__version__, *map(_version, LIBRARIES)]
    digest = sha256(repr((generator, *_classes(generator), libraries, dataset.image_version())).encode())
    for path in _sources(generator):
        digest.update(path.read_bytes())
    for index in range(len(dataset)):
        given = [dataset.name(index), _file_version(dataset, index), to_json(annotations(dataset, index))]
        digest.update(json.dumps(given).encode())
        if (hidden := dataset.hidden(index)) is not None:
            digest.update(hidden.tobytes())
    return digest.hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _parts(generator: LabelGenerator) -> Iterator[LabelGenerator]:
    """Yield a generator and those among its settings."""
    yield generator
    for value in vars(generator).values():
        if isinstance(value, LabelGenerator):
            yield from _parts(value)


def _classes(generator: LabelGenerator) -> list[tuple[str, str]]:
    return [(type(part).__module__, type(part).__qualname__) for part in _parts(generator)]


def _sources(generator: LabelGenerator) -> list[Path]:
    """Return the files of this package and of the modules of a generator and its base classes, if they are in files."""
    modules = {base.__module__ for part in _parts(generator) for base in type(part).__mro__}
    files = {getattr(sys.modules.get(name), "__file__", None) for name in modules} | {rasterization.__file__}
    paths = {*Path(__file__).parent.glob("*.py"), *(Path(file) for file in files if file is not None)}
    return sorted(paths, key=lambda path: (path.name, path))


def _file_version(dataset: SegmentationDataset, index: int) -> list[int]:
    """Return what tells that an image has changed: size and modification time, ns, of its file, if it has one."""
    try:
        stat = dataset.image_file(index).stat()
    except (InputError, OSError):
        return []
    return [stat.st_size, stat.st_mtime_ns]
