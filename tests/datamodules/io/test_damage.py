"""A thousand damaged files. Each gives valid data or an error that names it."""

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from datamodules.annotations import Annotation
from datamodules.cityscapes.files import _read_ids
from datamodules.io.click_files import read_clicks
from datamodules.io.images import image_size, read_image, read_label_map
from datamodules.voc.files import _read_mat
from datamodules.voc.scribblesup import TAGS, ScribbleFiles

EACH = 170  # damaged files of each of the six formats
SIZE = (23, 31)


def _encode(array: np.ndarray[Any, Any], form: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, form)
    return file.getvalue()


def _mat(labels: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    dtype = [("Segmentation", object), ("Boundaries", object), ("CategoriesPresent", object)]
    content = np.zeros((1, 1), dtype=dtype)
    content[0, 0] = (labels, np.zeros((20, 1)), np.array([[1]]))
    savemat(file, {"GTcls": content}, do_compression=True)
    return file.getvalue()


RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 21, SIZE).astype(np.uint8)
XML = (
    "<annotation><size><width>31</width><height>23</height></size><segmented>1</segmented><polygon><tag>plane</tag>"
    "<point><X>1</X><Y>2</Y></point><point><X>30</X><Y>20</Y></point></polygon></annotation>"
)
VALID = {
    "image.jpg": _encode(RNG.integers(0, 255, (*SIZE, 3)).astype(np.uint8), "JPEG"),
    "mask.png": _encode(LABELS, "PNG"),
    "ids.png": _encode(RNG.integers(0, 33000, SIZE).astype(np.uint16), "PNG"),
    "scribbles.xml": XML.encode(),
    "clicks.json": json.dumps({"name": [{"x": 1.5, "y": 2.25, "cls": 3}, {"x": 7, "y": 8, "cls": 0}]}).encode(),
    "labels.mat": _mat(LABELS),
}


def _is_valid_map(labels: np.ndarray[Any, Any], highest: int) -> bool:
    return labels.ndim == 2 and labels.size > 0 and bool((labels <= highest).all())


def _are_valid_vectors(annotations: list[Annotation]) -> bool:
    return all(np.isfinite(a.points).all() and 0 <= a.label < len(TAGS) for a in annotations)


def _image(path: Path) -> bool:
    image = read_image(path)
    return image_size(path)[::-1] == image.shape[:2] and image.dtype == np.uint8


READERS: dict[str, Callable[[Path], bool]] = {
    "image.jpg": _image,
    "mask.png": lambda path: _is_valid_map(np.where((m := read_label_map(path, 21)) == 255, 0, m), 20),
    "ids.png": lambda path: _is_valid_map(_read_ids(path), 65535),
    "scribbles.xml": lambda path: _are_valid_vectors(ScribbleFiles(path.parent).read("scribbles")[0]),
    "clicks.json": lambda path: all(map(_are_valid_vectors, read_clicks(path, {c: c for c in range(21)}).values())),
    "labels.mat": lambda path: _is_valid_map(_read_mat(path), 20),
}


def _huge_png() -> bytes:
    """Return the header of an image of 4 billion pixels, without data."""
    header = struct.pack(">IIBBBBB", 2**16 - 1, 2**16 - 1, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def _damage(content: bytes, rng: np.random.Generator) -> bytes:
    kind = rng.integers(7)
    if kind == 0:
        return content[: rng.integers(len(content))]
    if kind <= 2:  # a few bits
        array = np.frombuffer(content, dtype=np.uint8).copy()
        places = rng.integers(len(array), size=rng.integers(1, 6))
        array[places] ^= np.left_shift(1, rng.integers(8, size=len(places))).astype(np.uint8)
        return array.tobytes()
    if kind == 3:
        return rng.integers(0, 256, rng.integers(1, 400)).astype(np.uint8).tobytes()
    if kind == 4:
        return list(VALID.values())[rng.integers(len(VALID))]  # a file of another type, or of this one
    if kind == 5:
        middle = int(rng.integers(len(content)))
        return content[:middle] + content[middle + int(rng.integers(1, 50)) :]
    return [b"", b"\0" * 64, _huge_png()][rng.integers(3)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", VALID)
def test_damaged_file_is_refused_by_name_or_read_to_valid_data(name: str, tmp_path: Path) -> None:
    path, rng, refused = tmp_path / name, np.random.default_rng(1), list[str]()
    path.write_bytes(VALID[name])
    assert READERS[name](path)
    for _ in range(EACH):
        path.write_bytes(_damage(VALID[name], rng))
        try:
            assert READERS[name](path)
        except ValueError as error:
            refused.append(str(error))
    assert all(name in message for message in refused)
    assert EACH / 3 < len(refused) < EACH
