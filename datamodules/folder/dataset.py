"""One split of a folder."""

from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.annotations import Annotation, LabelMap
from datamodules.dataset import SegmentationDataset, check_size
from datamodules.io.errors import InputError
from datamodules.io.images import image_size, read_image, read_label_map
from datamodules.sample import IGNORE_INDEX
from datamodules.simulate_clicks import ClickSimulator
from datamodules.simulate_scribbles import ScribbleSimulator
from datamodules.transforms import Image, Labels

Simulator = ClickSimulator | ScribbleSimulator


@dataclass(frozen=True)
class FolderDataset(SegmentationDataset):
    """One split, in the layout of ``datamodules/folder/datamodule.py``.

    Args:
        images: Sorted paths.
        masks: Folder of dense masks; ``None`` for unlabeled images.
        num_classes: C.
        weak: Training labels: annotations by image name, a folder of sparse indexed PNGs, or ``None`` for ``masks``.
        simulator: Makes annotations from the masks if ``weak`` is ``None``.
        max_side: Reduce larger images and their labels to this longest side, pixels.
    """

    images: list[Path]
    masks: Path | None
    num_classes: int
    weak: dict[str, list[Annotation]] | Path | None = None
    simulator: Simulator | None = None
    max_side: int | None = None

    def __len__(self) -> int:
        return len(self.images)

    def image_file(self, index: int) -> Path:
        """Return the path of the image."""
        return self.images[index]

    def image_version(self) -> str:
        """Return ``max_side``."""
        return f"max_side={self.max_side}"

    def shape(self, index: int) -> tuple[int, int]:
        """Return (H, W) of the reduced image."""
        sides = image_size(self.images[index])
        factor = 1.0 if self.max_side is None else min(1.0, self.max_side / max(sides))
        width, height = (max(1, round(side * factor)) for side in sides)
        return height, width

    def image(self, index: int) -> Image:
        """Return the reduced image."""
        return self._reduce(read_image(self.images[index], self.max_side), index, cv2.INTER_AREA)

    def dense_mask(self, index: int) -> LabelMap | None:
        """Return the reduced mask, if there is one."""
        if self.masks is None:
            return None
        return self._reduce(self._read_map(self.masks, index), index, cv2.INTER_NEAREST_EXACT)

    def weak_labels(self, index: int) -> Labels:
        """Return annotations or a label map, reduced."""
        if isinstance(self.weak, Path) or (self.weak is None and self.simulator is None):
            return self._reduce(self._read_map(self.weak or self.masks, index), index, cv2.INTER_NEAREST_EXACT)
        if self.max_side is None:
            return self.vectors(index)
        # per axis, as sides are rounded
        factors = np.array(self.shape(index)[::-1]) / np.array(image_size(self.images[index]))
        return [Annotation(a.label, a.points * factors) for a in self.vectors(index)]

    def vectors(self, index: int) -> list[Annotation]:
        """Return annotations in pixels of the file, not of the reduced image."""
        if isinstance(self.weak, dict):
            return self.weak.get(self.name(index), [])
        assert self.simulator is not None
        mask = self._read_map(self.masks, index)
        classes = {label: label for label in np.unique(mask).tolist() if label != IGNORE_INDEX}
        return self.simulator(mask, classes, np.random.default_rng(crc32(self.name(index).encode())))

    def problem(self, index: int, training: bool) -> InputError | None:
        """Read every file of one image, without simulating labels, and return the first error."""
        try:
            image = read_image(self.images[index])
            for folder in (self.masks, self.weak):
                if isinstance(folder, Path):
                    check_size(self._read_map(folder, index), image, f"{folder / self.name(index)}.png")
        except InputError as error:
            return error
        return None

    def _reduce(self, array: NDArray[np.uint8], index: int, interpolation: int) -> NDArray[np.uint8]:
        if self.max_side is None or max(array.shape[:2]) <= self.max_side:
            return array
        return np.asarray(cv2.resize(array, self.shape(index)[::-1], interpolation=interpolation), dtype=np.uint8)

    def _read_map(self, folder: Path | None, index: int) -> LabelMap:
        if folder is None:
            raise InputError(f"There are no labels for {self.images[index]}.")
        path = folder / f"{self.name(index)}.png"
        if not path.is_file():
            raise InputError(f"{path} is missing; every image of that split needs one.", "missing file", path)
        return read_label_map(path, self.num_classes)
