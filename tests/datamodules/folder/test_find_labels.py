"""The file of the labels, or what is missing."""

import re
import shutil
from pathlib import Path

import pytest

from datamodules.folder.labels import find_labels


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")


@pytest.mark.parametrize(
    ("supervision", "files", "expected"),
    [
        ("clicks", ["clicks.json", "scribbles.json"], "clicks.json"),
        ("clicks", ["scribbles.json"], None),
        ("scribbles", ["scribbles.json", "scribbles/train/a.png"], "scribbles.json"),
        ("scribbles", ["clicks.json", "scribbles/train/a.png"], "scribbles/train"),
        ("tags", ["clicks.json", "scribbles.json"], "clicks.json"),
        ("tags", ["tags.json", "clicks.json"], "tags.json"),
        ("full", ["clicks.json"], None),
    ],
)
def test_labels_come_from_their_file_before_masks(
    tree: Path, supervision: str, files: list[str], expected: str | None
) -> None:
    for name in files:
        write(tree / name)
    assert find_labels(tree, supervision) == (None if expected is None else tree / expected)


@pytest.mark.parametrize("supervision", ["clicks", "scribbles", "boxes", "tags"])
@pytest.mark.parametrize("empty", [False, True])
def test_missing_file_is_named_if_there_are_no_masks(tree: Path, supervision: str, empty: bool) -> None:
    shutil.rmtree(tree / "masks/train")
    if empty:
        (tree / "masks/train").mkdir()
    name = f"{supervision}.json"
    message = f"{tree}/{name} is missing; write it, or put a mask of each training image into {tree}/masks/train, from"
    with pytest.raises(ValueError, match=re.escape(message)):
        find_labels(tree, supervision)
    assert find_labels(tree, "full") is None


@pytest.mark.parametrize("name", ["click.json", "Clicks.json", "clicks.JSON", "clicks.json.txt"])
def test_misnamed_file_is_named(tree: Path, name: str) -> None:
    shutil.rmtree(tree / "masks/train")
    write(tree / name)
    with pytest.raises(ValueError, match=rf"clicks\.json is missing; .* Did you mean '{name}'\? Then rename it"):
        find_labels(tree, "clicks")


def test_labels_of_another_supervision_are_named(tree: Path) -> None:
    shutil.rmtree(tree / "masks/train")
    write(tree / "scribbles.json")
    with pytest.raises(ValueError, match=r"There is scribbles\.json, which the supervision scribbles reads\.$"):
        find_labels(tree, "clicks")


@pytest.mark.parametrize("folder", ["images", "images/train", "labels"])
def test_file_in_another_folder_is_named_if_there_are_no_masks(tree: Path, folder: str) -> None:
    write(tree / folder / "clicks.json")
    assert find_labels(tree, "clicks") is None
    shutil.rmtree(tree / "masks/train")
    message = f"{tree}/clicks.json is missing, but {tree}/{folder}/clicks.json exists; move it to {tree}/clicks.json."
    with pytest.raises(ValueError, match=re.escape(message)):
        find_labels(tree, "clicks")
