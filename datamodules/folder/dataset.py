"""One split of a folder."""

from dataclasses import dataclass
from glob import escape
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from datamodules.annotations import Annotation, LabelMap
from datamodules.dataset import check_size
from datamodules.io.errors import InputError
from datamodules.io.images import read_image, read_label_map
from datamodules.io.names import find_png, image_name
from datamodules.reduction import ReducedDataset
from datamodules.sample import IGNORE_INDEX
from datamodules.simulate_boxes import BoxSimulator, TagSimulator
from datamodules.simulate_clicks import ClickSimulator
from datamodules.simulate_scribbles import ScribbleSimulator
from datamodules.transforms import Labels

Simulator = ClickSimulator | ScribbleSimulator | BoxSimulator | TagSimulator


@dataclass(frozen=True)
class FolderDataset(ReducedDataset):
    """One split, in the layout of ``datamodules/folder/datamodule.py``.

    Args:
        images: Sorted paths.
        masks: Folder of dense masks; ``None`` for unlabeled images.
        num_classes: C.
        weak: Training labels: annotations by image name, a folder of sparse indexed PNGs, or ``None`` for ``masks``.
        simulator: Makes annotations from the masks if ``weak`` is ``None``.
        max_side: See :class:`ReducedDataset`.
    """

    images: list[Path]
    masks: Path | None
    num_classes: int
    weak: dict[str, list[Annotation]] | Path | None = None
    simulator: Simulator | None = None

    def __len__(self) -> int:
        return len(self.images)

    def image_file(self, index: int) -> Path:
        """Return the path of the image."""
        return self.images[index]

    def name(self, index: int) -> str:
        """Return the file name without suffix, in composed Unicode."""
        return image_name(self.images[index])

    def file_mask(self, index: int) -> LabelMap | None:
        """Return the mask, if there is one."""
        return None if self.masks is None else self._read_map(self.masks, index)

    def file_labels(self, index: int) -> Labels:
        """Return annotations or a label map."""
        if isinstance(self.weak, Path) or (self.weak is None and self.simulator is None):
            return self._read_map(self.weak or self.masks, index)
        return self.vectors(index)

    def hidden(self, index: int) -> NDArray[np.bool_] | None:
        """Return all pixels of an image that ``weak`` does not name: it has no labels, and is not all background."""
        unnamed = isinstance(self.weak, dict) and self.name(index) not in self.weak
        return np.ones(self.shape(index), dtype=np.bool_) if unnamed else None

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
                    check_size(self._read_map(folder, index), image.shape, str(find_png(folder, self.images[index])))
        except InputError as error:
            return error
        return None

    def _read_map(self, folder: Path | None, index: int) -> LabelMap:
        if folder is None:
            raise InputError(f"There are no labels for {self.images[index]}.")
        path = find_png(folder, self.images[index])
        if not path.is_file():
            other = next(folder.glob(f"{escape(path.stem)}.*"), None)
            found = f" Masks are PNG files, not {other.suffix}, which may change indices." if other else ""
            raise InputError(f"{path} is missing; every image of that split needs one.{found}", "missing file", path)
        return read_label_map(path, self.num_classes)
