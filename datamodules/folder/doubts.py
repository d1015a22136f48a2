"""What is wrong, or may be wrong, with the photographs and drawn labels of a folder whose files can be read."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from datamodules.folder.dataset import FolderDataset
from datamodules.folder.unread import repeated_photographs
from datamodules.io.errors import InputError
from datamodules.io.images import in_threads
from datamodules.placement import Labeled, find_doubtful, find_misplaced, rare_clicks


def misplaced_labels(train: FolderDataset, source: Path) -> Iterator[InputError]:
    """Yield coordinates that cannot be meant in a JSON file of labels; see :func:`find_misplaced`."""
    yield from find_misplaced(_labeled_images(train), str(source))


def doubts(
    train: FolderDataset, val: FolderDataset, source: Path | None, class_names: Sequence[str], crop: int
) -> Iterator[str]:
    """Yield a sentence on everything that may be wrong.

    Args:
        train: Training images.
        val: Validation images.
        source: File or folder of drawn labels, or ``None`` if they are simulated.
        class_names: C names.
        crop: Side of the training crops, pixels.
    """
    yield from repeated_photographs(train.images, val.images)
    if source is not None and source.is_file():
        images = _labeled_images(train)
        yield from find_doubtful(images, str(source), class_names)
        yield from rare_clicks(images, crop, train.max_side)


def _labeled_images(train: FolderDataset) -> list[Labeled]:
    return [image for image in in_threads(lambda index: _read(train, index), len(train)) if image is not None]


def _read(train: FolderDataset, index: int) -> Labeled | None:
    """Return the labels of an image in pixels of its file, or ``None`` if it has none or cannot be read."""
    if not isinstance(train.weak, dict) or not (labels := train.vectors(index)):
        return None
    try:
        return Labeled(train.name(index), labels, train.file_shape(index))
    except InputError:  # found when the image itself is read
        return None
