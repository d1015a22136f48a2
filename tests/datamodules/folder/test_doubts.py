"""What is wrong with a folder is said by its check and before a run, in the same words."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

from datamodules.folder.datamodule import FolderDataModule
from datamodules.io.errors import InputError

Folder = Callable[..., FolderDataModule]
CLICKS = {
    "train.0": [{"class": 1, "points": [[5.5, 25.5]]}, {"class": 0, "points": [[35.5, 25.5]]}],
    "train.1": [{"class": 1, "points": [[5.5, 35.5]]}, {"class": 0, "points": [[25.5, 35.5]]}],
}


def prepare(data: FolderDataModule) -> list[str]:
    """Prepare a run and return its warnings."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        data.prepare_data()
    return [str(warning.message) for warning in found]


@pytest.fixture
def clicked(tree: Path) -> Path:
    (tree / "clicks.json").write_text(json.dumps(CLICKS))
    return tree


def edit(tree: Path, change: Callable[[list[float]], list[float]]) -> None:
    clicks = json.loads((tree / "clicks.json").read_text())
    for entry in (entry for entries in clicks.values() for entry in entries):
        entry["points"] = [change(point) for point in entry["points"]]
    (tree / "clicks.json").write_text(json.dumps(clicks))


def binary_masks(tree: Path) -> None:
    for path in (tree / "masks/val").iterdir():
        with PILImage.open(path) as picture:
            mask = np.array(picture)
        PILImage.fromarray(np.where(mask == 1, 255, 0).astype(np.uint8)).save(path)


@pytest.mark.parametrize("supervision", ["clicks", "full"])
def test_sound_folder_is_silent(folder: Folder, clicked: Path, supervision: str) -> None:
    data = folder(supervision=supervision)
    report = data.check()
    assert (report.problems, report.warnings, prepare(data)) == ([], [], [])
    assert report.images == {"train": 3, "val": 2}
    assert report.counts["val"].images == {0: 2, 1: 2}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda tree: edit(tree, lambda p: [p[0] / 40, p[1] / 40]), "All points of .*clicks.json lie in"),
        (lambda tree: edit(tree, lambda p: [p[0] * 9, p[1] * 9]), "4 of 4 labels of .* lie outside"),
        (lambda tree: (tree / "clicks.json").write_text("{}"), "No training image has clicks"),
        (binary_masks, "The validation masks have only class 0, 'sky', and 255"),
        (lambda tree: (tree / "clicks.json").write_text('{"train.0": [], "train.0": []}'), "has 'train.0' twice"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    folder: Folder, clicked: Path, spoil: Callable[[Path], Any], message: str
) -> None:
    spoil(clicked)
    data = folder()
    (problem,) = data.check().problems
    with pytest.raises(InputError, match=message) as refused:
        data.prepare_data()
    assert str(refused.value) == str(problem)


def test_swapped_coordinates_are_refused_before_images_are_read(folder: Folder, tree: Path) -> None:
    clicks = [{"class": label, "points": [[3.5, 36.5 - 9 * label]]} for label in (0, 1)]
    (tree / "clicks.json").write_text(json.dumps({"train.0": clicks}))  # of 40 x 30 pixels
    (problem,) = folder().check().problems
    assert str(problem).startswith(
        f"50% of the points of {tree}/clicks.json lie outside their images, and none does if"
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda tree: (tree / "images/train/a.heic").touch(), "images/train has files that are not read (1): a.heic"),
        (lambda tree: shutil.copy(tree / "images/val/val.0.jpg", tree / "images/train"), "too (1): val.0.jpg"),
        (
            lambda tree: (tree / "clicks.json").write_text('{"train.0": [{"class": 1, "points": [[5.5, 5.5]]}]}'),
            "All clicks",
        ),
        (lambda tree: edit(tree, lambda p: p if p[1] < 30 else [p[0], 99.5]), "2 of 5 labels"),
    ],
)
def test_doubts_are_said_by_the_check_and_before_every_run(
    folder: Folder, clicked: Path, spoil: Callable[[Path], Any], message: str
) -> None:
    (clicked / "clicks.json").write_text(json.dumps(CLICKS | {"train.2": CLICKS["train.0"][:1]}))
    spoil(clicked)
    data = folder()
    (doubt,) = data.check().warnings
    assert message in doubt
    assert prepare(data) == prepare(data) == prepare(folder()) == [doubt]


def test_warning_about_files_ends_when_they_are_gone(folder: Folder, clicked: Path) -> None:
    (clicked / "images/train/a.heic").touch()
    assert len(prepare(folder())) == 1
    (clicked / "images/train/a.heic").unlink()
    assert prepare(folder()) == []


def test_size_of_crops_is_checked_again_when_it_changes(folder: Folder, tree: Path) -> None:
    PILImage.new("RGB", (900, 900)).save(tree / "images/train/train.2.png")
    (tree / "images/train/train.2.jpg").unlink()
    clicks = [{"class": label, "points": [[700.5 * label + 0.5, 400.5]]} for label in (0, 1)]
    (tree / "clicks.json").write_text(json.dumps({"train.2": clicks}))
    assert prepare(folder(max_side=60)) == []
    (doubt,) = prepare(folder())
    assert f"Only {1 - (1 - 16 * 16 / 900**2) ** 2:.1%} of the training crops" in doubt
    assert "--data.max_side=48" in doubt
    assert prepare(folder(max_side=60)) == []


def test_umlauts_in_either_unicode_form_are_one_name(folder: Folder, clicked: Path) -> None:
    """The image is decomposed, and its mask and clicks are composed."""
    for kind, suffix in (("images", "jpg"), ("masks", "png")):
        name = "u\u0308" if kind == "images" else "\u00fc"
        for split in ("train", "val"):
            (clicked / f"{kind}/{split}/{split}.0.{suffix}").rename(clicked / f"{kind}/{split}/{split}{name}.{suffix}")
    (clicked / "clicks.json").write_text(json.dumps({"train\u00fc": CLICKS["train.0"]}))
    for supervision in ("clicks", "full"):
        data = folder(supervision=supervision)
        assert prepare(data) == []
        names = [data.train_split().name(index) for index in range(3)]
        assert names == ["train.1", "train.2", "train\u00fc"]
    assert len(folder().train_split().weak_labels(2)) == 2
