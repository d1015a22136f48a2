"""Images of Pascal VOC 2012 with the labels of one supervision."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.annotations import Annotation, LabelMap, drop_outside, pixel_centers, rasterize
from datamodules.dataset import SegmentationDataset
from datamodules.io.click_files import Clicks
from datamodules.io.errors import InputError
from datamodules.io.images import image_size, read_image, read_label_map
from datamodules.transforms import Image, Labels
from datamodules.voc.files import CLASSES, VOCFiles
from datamodules.voc.scribblesup import ScribbleFiles

Weak = Clicks | ScribbleFiles | Path | None
"""Clicks by name, ScribbleSup's files, a folder of rasterized scribbles NAME.png, or ``None`` for dense masks."""


@dataclass(frozen=True)
class VOCDataset(SegmentationDataset):
    """Some of the images.

    Args:
        files: Where everything lies.
        names: Of the images.
        weak: What training sees.
        raster_width: Draw vectors that wide before the augmentation, which then scales them; ``None`` draws after it.
    """

    files: VOCFiles
    names: Sequence[str]
    weak: Weak = None
    raster_width: int | None = None

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """Return the name of the image, YYYY_NNNNNN."""
        return self.names[index]

    def image_file(self, index: int) -> Path:
        """Return the path of the photograph."""
        return self.files.image(self.names[index])

    def shape(self, index: int) -> tuple[int, int]:
        """Return (H, W) from the header of the photograph."""
        width, height = image_size(self.image_file(index))
        return height, width

    def image(self, index: int) -> Image:
        """Return uint8 (H, W, 3), RGB."""
        return read_image(self.image_file(index))

    def dense_mask(self, index: int) -> LabelMap:
        """Return the dense mask, uint8 (H, W)."""
        return self.files.dense_mask(self.names[index])

    def weak_labels(self, index: int) -> Labels:
        """Return the vectors or the label map that training may see."""
        name = self.names[index]
        if self.weak is None:
            return self.dense_mask(index)
        if isinstance(self.weak, Path):
            return read_label_map(self.weak / f"{name}.png", len(CLASSES))
        vectors = self._vectors(index)
        if self.raster_width is None:
            return vectors
        return rasterize(drop_outside(vectors, self.shape(index)), self.shape(index), self.raster_width)

    def _vectors(self, index: int) -> list[Annotation]:
        """Return clicks or scribbles in continuous coordinates."""
        name = self.names[index]
        if isinstance(self.weak, ScribbleFiles):
            scribbles, size = self.weak.read(name)
            if size != (actual := self.shape(index)):
                raise InputError(
                    f"{self.weak.path}: the scribbles of {name} are for {size[1]} x {size[0]} pixels but "
                    f"{self.image_file(index)} has {actual[1]} x {actual[0]}; fetch both again.",
                    "size differs",
                    name,
                )
            return [Annotation(s.label, pixel_centers(s.points)) for s in scribbles]
        assert isinstance(self.weak, dict)
        if name not in self.weak:
            raise InputError(
                f"{name} is not in every file of clicks; fetch them again, or give it an empty list where it has none.",
                "no labels",
                name,
            )
        return self.weak[name]
