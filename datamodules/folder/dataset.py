"""One split of a folder."""

from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.annotations import Annotation, LabelMap
from datamodules.dataset import SegmentationDataset
from datamodules.io.errors import InputError
from datamodules.io.images import image_size, read_image, read_label_map
from datamodules.sample import IGNORE_INDEX
from datamodules.simulate_clicks import ClickSimulator
from datamodules.simulate_scribbles import ScribbleSimulator
from datamodules.transforms import Image, Labels

Simulator = ClickSimulator | ScribbleSimulator


@dataclass(frozen=True)
class FolderDataset(SegmentationDataset):
    """One split, in the layout described in ``datamodules/folder/datamodule.py``.

    Args:
        images: Sorted paths.
        masks: Folder of dense masks; ``None`` for unlabeled images.
        num_classes: C.
        weak: Labels for training: annotations by image name, a folder of sparse index PNGs, or ``None`` for ``masks``.
        simulator: Makes annotations from the masks if ``weak`` is ``None``.
        max_side: Reduce larger images, and their labels, to this longest side, pixels.
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
        """Return the option that changes the pixels of images."""
        return f"max_side={self.max_side}"

    def shape(self, index: int) -> tuple[int, int]:
        """Return (H, W) of the reduced image, from the header of its file."""
        size = np.array(image_size(self.images[index]))
        width, height = _reduced_size(size, self._factor(index)).tolist()
        return height, width

    def image(self, index: int) -> Image:
        """Return uint8 (H, W, 3), RGB."""
        return reduce(read_image(self.images[index]), self._factor(index), cv2.INTER_AREA)

    def dense_mask(self, index: int) -> LabelMap | None:
        """Return the dense mask, uint8 (H, W), if there is one."""
        return None if self.masks is None else self._reduced_map(self.masks, index)

    def weak_labels(self, index: int) -> Labels:
        """Return annotations or a label map, uint8 (H, W)."""
        if isinstance(self.weak, Path) or (self.weak is None and self.simulator is None):
            return self._reduced_map(self.weak or self.masks, index)
        if self.max_side is None:
            return self.vectors(index)
        size = np.array(image_size(self.images[index]))
        factor = _reduced_size(size, self._factor(index)) / size  # per axis, as the reduced sides are rounded
        return [Annotation(a.label, a.points * factor) for a in self.vectors(index)]

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
            size = read_image(self.images[index]).shape[:2]
            for folder in (self.masks, self.weak):
                if isinstance(folder, Path) and (labels := self._read_map(folder, index)).shape != size:
                    return InputError(
                        f"{folder / self.name(index)}.png is {labels.shape[1]} x {labels.shape[0]} but its image is "
                        f"{size[1]} x {size[0]}; export it at the size of the image.",
                        "size differs",
                        f"{folder / self.name(index)}.png",
                    )
        except InputError as error:
            return error
        return None

    def _factor(self, index: int) -> float:
        if self.max_side is None:
            return 1.0
        return min(1.0, self.max_side / max(image_size(self.images[index])))

    def _reduced_map(self, folder: Path | None, index: int) -> LabelMap:
        return reduce(self._read_map(folder, index), self._factor(index), cv2.INTER_NEAREST_EXACT)

    def _read_map(self, folder: Path | None, index: int) -> LabelMap:
        if folder is None:
            raise InputError(f"There are no labels for {self.images[index]}.")
        path = folder / f"{self.name(index)}.png"
        if not path.is_file():
            raise InputError(f"{path} is missing; every image of that split needs one.", "missing file", path)
        return read_label_map(path, self.num_classes)


def reduce(array: NDArray[np.uint8], factor: float, interpolation: int) -> NDArray[np.uint8]:
    """Resize (H, W, ...) by a factor of at most 1."""
    if factor == 1:
        return array
    size = _reduced_size(np.array(array.shape[1::-1]), factor).tolist()
    return np.asarray(cv2.resize(array, size, interpolation=interpolation), dtype=np.uint8)


def _reduced_size(size: NDArray[np.integer], factor: float) -> NDArray[np.integer]:
    return np.asarray(np.maximum(1, np.rint(size * factor)), dtype=np.int64)
