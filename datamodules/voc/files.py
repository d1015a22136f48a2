"""File layout, image lists and dense masks of Pascal VOC 2012 and SBD."""

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
"""Number of images and MD5 sum of their sorted names, one per line."""


@dataclass(frozen=True)
class VOCFiles:
    """Files of VOC and SBD. Methods raise :class:`InputError` for a missing or malformed file.

    Args:
        root: Folder with ``VOCdevkit/VOC2012`` (or that folder itself). Dense masks of all training images need one of
            ``benchmark_RELEASE/dataset`` (SBD as released), ``sbd`` (SBD as unpacked by torchvision) or
            ``VOCdevkit/VOC2012/SegmentationClassAug``.
    """

    root: Path

    @cached_property
    def voc(self) -> Path:
        """Folder VOC2012."""
        for folder in (self.root / "VOCdevkit" / "VOC2012", self.root / "VOC2012", self.root):
            if (folder / "ImageSets" / "Segmentation").is_dir():
                return folder
        needed = "VOCdevkit/VOC2012 with ImageSets/Segmentation"
        raise InputError(f"{self.root} has no {needed}; see: gatedcrf data download voc.")

    @cached_property
    def sbd(self) -> Path | None:
        """Folder of SBD with cls/ and its lists, if any."""
        folders = (self.root / "benchmark_RELEASE" / "dataset", self.root / "sbd", self.root / "SBD", self.root)
        return next((folder for folder in folders if (folder / "cls").is_dir()), None)

    @cached_property
    def augmented(self) -> Path | None:
        """Folder of PNGs of the masks of SBD, if any."""
        folders = (self.voc / "SegmentationClassAug", self.root / "SegmentationClassAug")
        return next((folder for folder in folders if folder.is_dir()), None)

    def image(self, name: str) -> Path:
        """Return the path of an image."""
        return self.voc / "JPEGImages" / f"{name}.jpg"

    def names(self, split: str) -> list[str]:
        """Return the image names in ``ImageSets/Segmentation/SPLIT.txt``."""
        return _read_list(self.voc / "ImageSets" / "Segmentation" / f"{split}.txt")

    def val(self) -> list[str]:
        """Return the names of the validation images, sorted."""
        return sorted(self.names("val"))

    def train_aug(self, labeled: Iterable[str]) -> list[str]:
        """Return the training images, sorted: SBD train, SBD val and VOC train, without VOC val.

        Args:
            labeled: Images with weak labels, used instead of SBD's lists if SBD is missing.
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
        """Return the mask, uint8 (H, W). Masks of VOC, with contours of 255, take precedence over those of SBD."""
        if name in self._of_voc:
            return read_label_map(self.voc / "SegmentationClass" / f"{name}.png", len(CLASSES))
        if self.sbd is not None:
            return _read_mat(self.sbd / "cls" / f"{name}.mat")
        if self.augmented is not None:
            return read_label_map(self.augmented / f"{name}.png", len(CLASSES))
        remedy = "full supervision needs it; see: gatedcrf data download sbd"
        raise InputError(f"{self.root} has no SBD mask of {name}; {remedy}.", "no labels", name)


def unpublished(split: str, names: Sequence[str], remedy: str) -> list[InputError]:
    """Return an error if "train_aug" or "val" differs from its published count or checksum."""
    count, checksum = PUBLISHED[split]
    if len(names) != count:
        message = f"{split} has {len(names)} images instead of the published {count:,}; {remedy}"
        return [InputError(message, "number of images", split)]
    if list_digest(names) != checksum:
        message = f"{split} has {count:,} images, but not the published ones; {remedy}"
        return [InputError(message, "checksum of the list", split)]
    return []


def list_digest(names: Sequence[str]) -> str:
    """Return the MD5 sum of sorted names, one per line."""
    return md5("".join(f"{name}\n" for name in sorted(names)).encode()).hexdigest()


def _read_list(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); download the archive again.") from error


def _read_mat(path: Path) -> LabelMap:
    """Return GTcls.Segmentation of SBD, uint8 (H, W)."""
    if not path.is_file():
        raise InputError(f"{path} is missing; download SBD again.", "missing file", path)
    with naming(path, "the GTcls of SBD"):
        labels = np.asarray(loadmat(path, variable_names=["GTcls"])["GTcls"][0]["Segmentation"][0])
    if labels.ndim != 2 or labels.dtype.kind not in "ui" or labels.size == 0 or labels.max() >= len(CLASSES):
        message = f"{path} is not a map of the classes 0 to {len(CLASSES) - 1}; download SBD again."
        raise InputError(message, "value out of range", path)
    return labels.astype(np.uint8)
