"""Where the files of Pascal VOC 2012 and SBD lie, and which images are trained on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import md5
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from datamodules.annotations import LabelMap
from datamodules.io.errors import InputError
from datamodules.io.images import naming, read_label_map

CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
PUBLISHED = {
    "train_aug": (10582, "215992f6fd958f89800449fdb4bbabe6"),
    "val": (1449, "5510db06bbb92848a0bf6109eba6d646"),
}
"""Number of images and md5 of their sorted names, one per line."""


@dataclass(frozen=True)
class VOCFiles:
    """The trees of VOC and, where they are needed, of SBD.

    Args:
        root: Holds ``VOCdevkit/VOC2012`` (or is it) and, for dense masks of all training images, one of
            ``benchmark_RELEASE/dataset`` (SBD as released), ``sbd`` (as torchvision lays it out), or
            ``VOCdevkit/VOC2012/SegmentationClassAug``.
    """

    root: Path

    @cached_property
    def voc(self) -> Path:
        """The folder VOC2012."""
        for folder in (self.root / "VOCdevkit" / "VOC2012", self.root / "VOC2012", self.root):
            if (folder / "ImageSets" / "Segmentation").is_dir():
                return folder
        raise InputError(
            f"{self.root} has no VOCdevkit/VOC2012 with ImageSets/Segmentation; see: gatedcrf data download voc."
        )

    @cached_property
    def sbd(self) -> Path | None:
        """The folder of SBD with cls/ and its lists."""
        folders = (self.root / "benchmark_RELEASE" / "dataset", self.root / "sbd", self.root / "SBD", self.root)
        return next((folder for folder in folders if (folder / "cls").is_dir()), None)

    @cached_property
    def augmented(self) -> Path | None:
        """The folder SegmentationClassAug, in which others distribute the masks of SBD as PNGs."""
        folders = (self.voc / "SegmentationClassAug", self.root / "SegmentationClassAug")
        return next((folder for folder in folders if folder.is_dir()), None)

    def image(self, name: str) -> Path:
        """Return the path of a photograph."""
        return self.voc / "JPEGImages" / f"{name}.jpg"

    def names(self, split: str) -> list[str]:
        """Return the names in ``ImageSets/Segmentation/SPLIT.txt``."""
        return _read_list(self.voc / "ImageSets" / "Segmentation" / f"{split}.txt")

    def val(self) -> list[str]:
        """Return the names of the validation images, sorted."""
        return sorted(self.names("val"))

    def train_aug(self, labeled: Iterable[str]) -> list[str]:
        """Return the names of (SBD train and val, and VOC train) without VOC val, sorted.

        Args:
            labeled: Names that stand in for SBD where it is absent, as weak labels need none of its masks.
        """
        if self.sbd is not None:
            labeled = [name for split in ("train", "val") for name in _read_list(self.sbd / f"{split}.txt")]
        elif self.augmented is not None:
            labeled = [path.stem for path in self.augmented.glob("*.png")]
        return sorted({*labeled, *self.names("train")} - set(self.names("val")))

    @cached_property
    def _of_voc(self) -> frozenset[str]:
        return frozenset(self.names("train")) | frozenset(self.names("val"))

    def dense_mask(self, name: str) -> LabelMap:
        """Return the dense mask, uint8 (H, W): that of VOC, which has contours of 255, wins over that of SBD.

        Raises:
            InputError: A mask that is missing or broken.
        """
        if name in self._of_voc:
            return read_label_map(self.voc / "SegmentationClass" / f"{name}.png", len(CLASSES))
        if self.sbd is not None:
            return _read_mat(self.sbd / "cls" / f"{name}.mat")
        if self.augmented is not None:
            return read_label_map(self.augmented / f"{name}.png", len(CLASSES))
        raise InputError(
            f"Full supervision needs SBD's mask of {name} and {self.root} has none; see: gatedcrf data download sbd.",
            "no labels",
            name,
        )


def unpublished(split: str, names: Sequence[str], remedy: str) -> list[InputError]:
    """Return how the names of a split differ from the published count and checksum, if they do."""
    count, checksum = PUBLISHED[split]
    if len(names) != count:
        message = f"{split} has {len(names)} images where {count:,} are published; {remedy}"
        return [InputError(message, "number of images", split)]
    if list_digest(names) != checksum:
        message = f"{split} has {count:,} images but not those that are published; {remedy}"
        return [InputError(message, "checksum of the list", split)]
    return []


def list_digest(names: Sequence[str]) -> str:
    """Return the md5 of sorted names, one per line."""
    return md5("".join(f"{name}\n" for name in sorted(names)).encode()).hexdigest()


def _read_list(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); fetch the archive again.") from error


def _read_mat(path: Path) -> LabelMap:
    """Return GTcls.Segmentation of SBD, uint8 (H, W)."""
    if not path.is_file():
        raise InputError(f"{path} is missing; fetch SBD again.", "missing file", path)
    with naming(path, "the GTcls of SBD"):
        labels = np.asarray(loadmat(path, variable_names=["GTcls"])["GTcls"][0]["Segmentation"][0])
    if labels.ndim != 2 or labels.dtype.kind not in "ui" or labels.size == 0 or labels.max() >= len(CLASSES):
        message = f"{path} holds no map of the classes 0 to {len(CLASSES) - 1}; fetch SBD again."
        raise InputError(message, "value out of range", path)
    return labels.astype(np.uint8)
