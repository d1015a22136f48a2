"""Files of a folder that are not read are named; what belongs there is silent."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules.folder.unread import repeated_photographs, unread_files

LEFT_BY_TOOLS = (
    "images/train/train.0.json",
    "images/train/.DS_Store",
    "images/train/._train.0.jpg",
    "images/Thumbs.db",
)


def copy(tree: Path, name: str, *targets: str) -> None:
    for target in targets:
        (tree / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tree / name, tree / target)


def test_sound_folder_is_silent(tree: Path) -> None:
    copy(tree, "images/train/train.0.jpg", *LEFT_BY_TOOLS, "images/test/new.jpg")
    assert list(unread_files(tree)) == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ["images/train/a.HEIC", "images/train/b.HEIC", "images/train/c.cr2", "images/train/d"],
            "images/train has files that are not read (4): a.HEIC, b.HEIC, c.cr2, ...; convert them to .jpg, .jpeg,",
        ),
        (["images/val/a.gif"], "images/val has files that are not read (1): a.gif; convert"),
        (["images/train/more/a.jpg"], "images/train/more has images (1), but subfolders are not read; move them to"),
        (["images/clicks.json"], "images/clicks.json is not read; move it to"),
        (["images/train/scribbles.json"], "images/train/scribbles.json is not read; move it to"),
        (["masks/val/val.9.png"], "masks/val has masks without an image (1), not read: val.9.png; give an image and"),
        (["masks/train/a.jpg"], "masks/train has masks without an image (1)"),
        (["scribbles/train/a.png"], "scribbles/train has masks without an image (1)"),
    ],
)
def test_files_that_are_not_read_are_named(tree: Path, files: list[str], message: str) -> None:
    copy(tree, "images/train/train.0.jpg", *files)
    (found,) = unread_files(tree)
    assert found.startswith(f"{tree}/{message}")


def test_one_folder_of_masks_for_both_splits_is_silent(tree: Path) -> None:
    for split, other in (("train", "val"), ("val", "train")):
        shutil.copytree(tree / "masks" / split, tree / "masks" / other, dirs_exist_ok=True)
    assert list(unread_files(tree)) == []


def test_masks_in_the_other_unicode_form_are_silent(tree: Path) -> None:
    copy(tree, "images/val/val.0.jpg", "images/val/\u00fc.jpg")
    copy(tree, "masks/val/val.0.png", "masks/val/u\u0308.png")
    assert list(unread_files(tree)) == []


def images(tree: Path) -> tuple[list[Path], list[Path]]:
    return sorted((tree / "images/train").iterdir()), sorted((tree / "images/val").iterdir())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda tree: None, False),
        (lambda tree: copy(tree, "images/val/val.0.jpg", "images/train/renamed.jpg"), True),
        (lambda tree: (tree / "images/val/val.0.jpg").rename(tree / "images/val/train.0.jpg"), False),
        (
            lambda tree: (tree / "images/train/a.jpg").write_bytes((tree / "images/val/val.0.jpg").read_bytes()[::-1]),
            False,
        ),
    ],
)
def test_photographs_in_both_splits_are_found_by_their_content(
    tree: Path, change: Callable[[Path], None], expected: bool
) -> None:
    """Neither by name nor by size."""
    change(tree)
    found = list(repeated_photographs(*images(tree)))
    assert len(found) == expected
    assert all(f"{tree}/images/val has images that are in {tree}/images/train too (1): val.0.jpg." in t for t in found)
