"""The shared label maps are named after everything that they depend on."""

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from datamodules.dataset import SegmentationDataset
from datamodules.folder.datamodule import FolderDataModule
from datamodules.proposals import BoxLabels, LabelGenerator, RecursiveBoxes, cache_key
from datamodules.proposals.cache_key import cache_key as key_of

Folder = Callable[..., FolderDataModule]
GENERATOR = """
from dataclasses import dataclass
from datamodules.proposals import LabelGenerator

@dataclass(frozen=True)
class Same(LabelGenerator):
    def __call__(self, image, labels, probs, rng):
        return image[..., 0]
"""


@pytest.fixture
def dataset(arrays: Callable[..., Any]) -> SegmentationDataset:
    return arrays([np.zeros((4, 5, 3), dtype=np.uint8)], [None], [[]])  # type: ignore[no-any-return]


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], LabelGenerator]:
    """Open the generator of a user's module, which is written if there is none."""
    monkeypatch.syspath_prepend(tmp_path)

    def open_module(name: str) -> LabelGenerator:
        (tmp_path / f"{name}.py").write_text(GENERATOR)
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        generator = importlib.import_module(name).Same()
        assert isinstance(generator, LabelGenerator)
        return generator

    return open_module


@pytest.mark.parametrize("wrap", [lambda each: each, RecursiveBoxes], ids=["itself", "in another"])
def test_key_changes_with_the_module_of_a_generator_and_its_code(
    wrap: Callable[[LabelGenerator], LabelGenerator],
    dataset: SegmentationDataset,
    modules: Callable[[str], LabelGenerator],
    tmp_path: Path,
) -> None:
    one, two = (wrap(modules(name)) for name in ("generators_one", "generators_two"))
    assert repr(one) == repr(two)
    before = key_of(one, dataset)
    assert before == key_of(wrap(modules("generators_one")), dataset) != key_of(two, dataset)
    (tmp_path / "generators_one.py").write_text(GENERATOR.replace("image[..., 0]", "image[..., 1]"))
    assert key_of(one, dataset) != before


def test_key_changes_with_the_code_of_the_package(
    dataset: SegmentationDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generator of the package may call any of its modules."""
    before = key_of(BoxLabels(), dataset)
    for file in Path(cache_key.__file__).parent.glob("*.py"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(cache_key, "__file__", str(tmp_path / "cache_key.py"))
    changed = tmp_path / "superpixels.py"
    unchanged = key_of(BoxLabels(), dataset)
    changed.write_text(changed.read_text() + "\n")
    assert key_of(BoxLabels(), dataset) not in (unchanged, before)


def test_key_changes_with_the_libraries(dataset: SegmentationDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {key_of(BoxLabels(), dataset)}
    monkeypatch.setattr(cv2, "__version__", "4.0.0")
    keys.add(key_of(BoxLabels(), dataset))
    monkeypatch.setattr(cache_key, "version", lambda package: "1.0")
    keys.add(key_of(BoxLabels(), dataset))
    assert len(keys) == 3


def test_key_changes_with_a_replaced_image_and_with_its_size(folder: Folder, tree: Path) -> None:
    """No annotation has coordinates that would change with the size."""
    (tree / "boxes.json").write_text('{"train.0": [], "train.1": [], "train.2": []}')

    def key(**options: Any) -> str:
        return key_of(BoxLabels(), folder(supervision="boxes", **options).train_split())

    before = key()
    assert key() == before
    assert key(max_side=20) not in (before, key(max_side=16))
    image = tree / "images/train/train.1.png"
    stat = image.stat()
    os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert key() != before


def test_key_changes_with_the_labels_and_with_an_unnamed_image(folder: Folder, tree: Path) -> None:
    keys = set()
    for content in ('{"train.0": []}', "{}", '{"train.0": [{"class": 1, "box": [2, 3, 9, 20]}]}'):
        (tree / "boxes.json").write_text(content)
        keys.add(key_of(BoxLabels(), folder(supervision="boxes").train_split()))
    assert len(keys) == 3
