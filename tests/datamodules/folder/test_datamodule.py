"""Errors of a folder name the file and the remedy."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

from datamodules.annotations import LabelMap
from datamodules.folder.datamodule import FolderDataModule

SaveMask = Callable[[Path, LabelMap], None]
Folder = Callable[..., FolderDataModule]
CLICKS = {"train.0": [{"class": 1, "points": [[3.5, 4.5]]}], "train.2": []}


def truncate(root: Path) -> None:
    path = root / "images/val/val.0.jpg"
    path.write_bytes(path.read_bytes()[:400])


def shrink(root: Path) -> None:
    path = root / "masks/train/train.1.png"
    PILImage.open(path).crop((0, 0, 20, 20)).save(path)


def recolor(root: Path) -> None:
    PILImage.new("RGB", (28, 36)).save(root / "masks/val/val.1.png")


@pytest.mark.parametrize("supervision", ["clicks", "scribbles", "full"])
def test_sound_folder_has_no_problems(folder: Folder, supervision: str) -> None:
    data = folder(supervision=supervision)
    data.prepare_data()
    assert data.check().problems == []
    assert data.class_names == ["sky", "tree"]
    assert [len(data.train_split()), len(data.val_split())] == [3, 2]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda root: (root / "masks/val/val.0.png").unlink(), r"masks/val/val\.0\.png is missing; every image"),
        (shrink, r"masks/train/train\.1\.png has labels of .*\(20, 20\), but an image of \(40, 30\); export"),
        (truncate, r"images/val/val\.0\.jpg cannot be read as an image .*; replace or remove it"),
        (recolor, r"masks/val/val\.1\.png has mode RGB; a mask holds one class index"),
        (lambda root: (root / "masks/train/train.0.png").write_text("text"), r"train\.0\.png cannot be read as a mask"),
    ],
)
def test_problem_names_the_file_and_the_remedy(
    folder: Folder, tree: Path, break_it: Callable[[Path], Any], message: str
) -> None:
    break_it(tree)
    data = folder()
    (problem,) = data.check().problems
    assert re.search(message, str(problem))
    assert Path(problem.place).stem in message.replace("\\", "")
    with pytest.raises(ValueError, match=message):
        data.prepare_data()


@pytest.mark.parametrize("supervision", ["clicks", "scribbles", "full"])
def test_missing_mask_of_simulated_labels_comes_after_the_missing_file_of_labels(
    folder: Folder, tree: Path, supervision: str
) -> None:
    (tree / "masks/train/train.2.png").unlink()
    *first, last = map(str, folder(supervision=supervision).check().problems)
    assert re.search(r"masks/train/train\.2\.png is missing; every image", last)
    simulated = (
        f"{tree}/{supervision}.json is missing, so {supervision} are simulated from {tree}/masks/train, which lacks"
    )
    assert first == ([] if supervision == "full" else [f"{simulated} 1 of 3 masks; add them, or write the file."])


def test_many_problems_are_counted_and_the_first_five_shown(folder: Folder, tree: Path, save_mask: SaveMask) -> None:
    for index in range(3, 9):
        PILImage.new("RGB", (20, 20)).save(tree / f"images/train/train.{index}.jpg")
    data = folder()
    assert len(data.check().problems) == 7
    with pytest.raises(ValueError, match=r"(?s)7 problems:\n.*clicks\.json is.*train\.3.*train\.6.*and 2 more"):
        data.prepare_data()
    for index in range(3, 9):
        save_mask(tree / f"masks/train/train.{index}.png", np.zeros((20, 20), dtype=np.uint8))
    data.prepare_data()
    assert len(data.train_split()) == 9


@pytest.mark.parametrize("classes", ["", "only\n", "\n".join(map(str, range(255)))])
def test_number_of_classes_is_checked(folder: Folder, tree: Path, classes: str) -> None:
    (tree / "classes.txt").write_text(classes)
    with pytest.raises(ValueError, match=r"classes\.txt names \d+ classes; 2 to 254"):
        folder()


@pytest.mark.parametrize("classes", ["sky\n\ntree", "sky\ntree\nsky"])
def test_empty_lines_and_repeated_classes_are_refused(folder: Folder, tree: Path, classes: str) -> None:
    """An empty line would change the index of all later classes."""
    (tree / "classes.txt").write_text(classes)
    with pytest.raises(ValueError, match="line k names class k - 1"):
        folder()


def test_missing_classes_folders_and_supervision_are_refused(folder: Folder, tree: Path) -> None:
    with pytest.raises(ValueError, match="'polygons'; this dataset has clicks, scribbles, boxes, tags, full"):
        folder(supervision="polygons")
    (tree / "images/val").rename(tree / "images/validation")
    with pytest.raises(ValueError, match=r"no folder .*images/val; create it"):
        folder().prepare_data()
    (tree / "classes.txt").unlink()
    with pytest.raises(ValueError, match=r"no .*classes\.txt; write one class name per line"):
        folder()


def test_broken_training_image_is_found_beside_drawn_clicks(folder: Folder, tree: Path) -> None:
    (tree / "clicks.json").write_text(json.dumps(CLICKS))
    (tree / "images/train/train.0.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"images/train/train\.0\.jpg cannot be read as an image"):
        folder().prepare_data()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train.9": []}, r"labels 'train\.9', but images/train has no such image; use names without suffix"),
        ({"train.0.jpg": []}, r"labels 'train\.0\.jpg', but images/train has no such image"),
        ({"train.0": [{"class": 2, "points": [[1, 1]]}]}, r"gives 'train\.0' the class 2; classes are 0 to 1"),
        ({"train.0": [{"class": -1, "points": [[1, 1]]}]}, r"gives 'train\.0' the class -1"),
        ({"train.0": [{"cls": 1, "x": 1, "y": 1}]}, "'cls': 1.*is not an annotation; write"),
        ({"train.0": None}, "is not of the form .*; exports of labeling tools are converted by: gatedcrf data import"),
        ({"train.0": [{"class": 1, "points": [[1, 1], [2, 2]]}]}, "'train.0' with 2 points, .*; a click has one point"),
        ({"train.0": [{"class": 1, "box": [1, 1, 2, 2]}]}, "'train.0' with a box, .*; a click has one point"),
        ({"train.0": [1]}, "'train.0' with 0 points, .*; a click has one point"),
        ({"Train.0": []}, r"labels 'Train\.0', but .* Did you mean 'train\.0'"),
        ({"train.0": [{"class": 0.7, "points": [[1, 1]]}]}, "image 'train.0': .* is not an annotation; write"),
        ({"train.0": [{"class": float("inf"), "points": [[1, 1]]}]}, "is not an annotation"),
        ([], "is not of the form"),
    ],
)
def test_wrong_vectors_are_refused_with_the_file_named(folder: Folder, tree: Path, content: Any, message: str) -> None:
    (tree / "clicks.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"clicks\.json.*{message}"):
        folder().prepare_data()


def test_text_that_is_no_json_is_refused_with_the_file_named(folder: Folder, tree: Path) -> None:
    (tree / "clicks.json").write_text('{"train.0": [')
    with pytest.raises(ValueError, match=r"clicks\.json cannot be read as JSON .*; write \{\"NAME\": "):
        folder().prepare_data()
