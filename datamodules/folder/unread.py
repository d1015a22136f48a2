"""Files of a folder that no split reads, and photographs that are in two splits."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from datamodules.folder.labels import FORMS
from datamodules.io.images import IMAGE_SUFFIXES, is_image
from datamodules.io.names import image_name

BESIDE_IMAGES = (".json", ".txt", ".xml", ".csv", ".md", ".yaml", ".ini", ".db")
"""Suffixes of label files and notes that tools leave beside images."""
SPLITS = ("train", "val", "test")
SHOWN = 3


def unread_files(root: Path) -> Iterator[str]:
    """Yield a sentence for each folder of images or masks with files that are not read, and for misplaced labels."""
    misplaced = [path for pattern in ("*.json", "*/*.json") for path in (root / "images").glob(pattern)]
    for path in sorted(path for path in misplaced if path.name in FORMS):
        yield f"{path} is not read; move it to {root / path.name}."
    names = {image_name(path) for split in SPLITS for path in _files(root / "images" / split)}
    for split in SPLITS:
        yield from _unread_images(root / "images" / split)
    for folder in (root / "masks" / "train", root / "masks" / "val", root / "scribbles" / "train"):
        if unmatched := [path for path in _files(folder) if is_image(path) and image_name(path) not in names]:
            remedy = "give an image and its mask the same name"
            yield f"{folder} has masks without an image ({len(unmatched)}), not read: {_first(unmatched)}; {remedy}."


def _unread_images(folder: Path) -> Iterator[str]:
    others = [path for path in _files(folder) if path.suffix.lower() not in (*IMAGE_SUFFIXES, *BESIDE_IMAGES)]
    files = [path for path in others if path.is_file()]
    if files:
        accepted = ", ".join(IMAGE_SUFFIXES)
        yield f"{folder} has files that are not read ({len(files)}): {_first(files)}; convert them to {accepted}."
    for subfolder in (path for path in others if path.is_dir()):
        if count := sum(map(is_image, _files(subfolder))):
            yield f"{subfolder} has images ({count}), but subfolders are not read; move them to {folder}."


def repeated_photographs(train: Sequence[Path], val: Sequence[Path]) -> Iterator[str]:
    """Yield a sentence if files of the two splits have the same content."""
    by_size = defaultdict[int, list[Path]](list)
    for path in train:
        by_size[path.stat().st_size].append(path)
    known: dict[Path, bytes] = {}
    repeated = []
    for path in val:
        for other in by_size[path.stat().st_size]:
            for file in (path, other):
                known[file] = known.get(file) or sha256(file.read_bytes()).digest()
            if known[path] == known[other]:
                repeated.append(path)
                break
    if repeated:
        yield (
            f"{val[0].parent} has images that are in {train[0].parent} too ({len(repeated)}): {_first(repeated)}. mIoU "
            "then includes images that were trained on; remove them from one of the two."
        )


def _files(folder: Path) -> list[Path]:
    """Return files and subfolders, sorted, without hidden ones."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []


def _first(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths[:SHOWN]) + (", ..." if len(paths) > SHOWN else "")
