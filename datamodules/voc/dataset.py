"""Images of Pascal VOC 2012 with the labels of one supervision."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.annotations import Annotation, LabelMap, drop_outside, pixel_centers, rasterize
from datamodules.io.click_files import Clicks
from datamodules.io.errors import InputError
from datamodules.io.images import read_label_map
from datamodules.reduction import ReducedDataset
from datamodules.transforms import Labels
from datamodules.voc.boxes import BoxFiles
from datamodules.voc.files import CLASSES, VOCFiles
from datamodules.voc.scribblesup import ScribbleFiles

Weak = Clicks | ScribbleFiles | BoxFiles | Path | None
"""Clicks or tags by image name, ScribbleSup, bounding boxes, a folder of rasterized scribbles NAME.png, or ``None`` for
dense masks."""


@dataclass(frozen=True)
class VOCDataset(ReducedDataset):
    """One split.

    Args:
        files: Paths of images and masks.
        names: Image names, YYYY_NNNNNN.
        weak: Training labels.
        raster_width: Draw clicks and scribbles with this width before the augmentation, pixels of the image. ``None``
            draws them after it.
        max_side: See :class:`ReducedDataset`.
    """

    files: VOCFiles
    names: Sequence[str]
    weak: Weak = None
    raster_width: int | None = None

    def __len__(self) -> int:
        return len(self.names)

    def image_file(self, index: int) -> Path:
        """Return the path of the image."""
        return self.files.image(self.names[index])

    def file_mask(self, index: int) -> LabelMap:
        """Return the mask, uint8 (H, W)."""
        return self.files.dense_mask(self.names[index])

    def file_labels(self, index: int) -> Labels:
        """Return the labels of the supervision."""
        name = self.names[index]
        if self.weak is None:
            return self.file_mask(index)
        if isinstance(self.weak, Path):
            return read_label_map(self.weak / f"{name}.png", len(CLASSES))
        if isinstance(self.weak, ScribbleFiles):
            return self._scribbles(self.weak, index)
        if isinstance(self.weak, BoxFiles):
            return self.weak.read(name)
        if name not in self.weak:
            message = f"{name} is missing in a click file; download it again, or add an empty list if it has no clicks."
            raise InputError(message, "no labels", name)
        return self.weak[name]

    def weak_labels(self, index: int) -> Labels:
        """Return the labels of the supervision, rasterized if they are drawn before the augmentation."""
        labels = super().weak_labels(index)
        if self.raster_width is None or not isinstance(labels, list):
            return labels
        return rasterize(drop_outside(labels, self.shape(index)), self.shape(index), self.raster_width)

    def _scribbles(self, files: ScribbleFiles, index: int) -> list[Annotation]:
        name, actual = self.names[index], self.file_shape(index)
        scribbles, size = files.read(name)
        if size != actual:
            problem = f"are for (H, W) {size}, but {self.image_file(index)} has {actual}"
            message = f"{files.path}: the scribbles of {name} {problem}; download both again."
            raise InputError(message, "size differs", name)
        return [Annotation(s.label, pixel_centers(s.points)) for s in scribbles]
