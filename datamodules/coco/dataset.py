"""Images with COCO annotations, and their training labels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from PIL import Image as PILImage

from datamodules.annotations import Annotation, Box, LabelMap
from datamodules.coco.file import VISIBLE, CocoFile
from datamodules.coco.instances import Region, compose, region_of
from datamodules.dataset import SegmentationDataset
from datamodules.io.errors import InputError
from datamodules.io.images import image_size
from datamodules.proposals.boxes import pixels_in
from datamodules.sample import IGNORE_INDEX
from datamodules.simulate_boxes import to_tags
from datamodules.simulate_clicks import ClickSimulator
from datamodules.simulate_scribbles import ScribbleSimulator
from datamodules.transforms import Labels


@dataclass(frozen=True)
class CocoDataset(SegmentationDataset):
    """One split.

    Args:
        folder: Image folder.
        file: Images and annotations.
        background: Make pixels outside all instances class 0 instead of unlabeled.
        ignore_boxes: Accept boxes without a segmentation, and leave their pixels unlabeled.
        simulator: Draws training labels of instances without keypoints and of the background. ``None`` trains on dense
            masks.
        keypoints_only: Simulate clicks on the background only.
        reduced_to: Train on "boxes" or on "tags", the classes of the annotations and the background.
    """

    folder: Path
    file: CocoFile
    background: bool
    ignore_boxes: bool
    simulator: ClickSimulator | ScribbleSimulator | None = None
    keypoints_only: bool = False
    reduced_to: str | None = None
    _simulated: dict[int, list[Annotation]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.file.images)

    def name(self, index: int) -> str:
        """Return the path in the image folder, without suffix."""
        return self.file.images[index].name

    def image_file(self, index: int) -> Path:
        """Return the path of the image."""
        return self.folder / self.file.images[index].file_name

    def dense_mask(self, index: int) -> LabelMap:
        """Return the mask, uint8 (H, W)."""
        labels = np.full(len(self.file.images[index].annotations()) + 2, IGNORE_INDEX, dtype=np.uint8)
        for value, label in self._classes(index).items():
            labels[value] = label
        return np.asarray(labels[compose(self.file.images[index])])  # IGNORED is the last

    def weak_labels(self, index: int) -> Labels:
        """Return the labels of the supervision, simulated on first use."""
        if self.reduced_to == "tags":
            return to_tags(set(self._classes(index).values()))
        if self.reduced_to == "boxes":
            return self._boxes(index)
        if self.simulator is None:
            return self.dense_mask(index)
        if index not in self._simulated:
            self._simulated[index] = self._simulate(index, self.simulator)
        return self._simulated[index]

    def _simulate(self, index: int, simulator: ClickSimulator | ScribbleSimulator) -> list[Annotation]:
        image, classes = self.file.images[index], self._classes(index)
        if isinstance(simulator, ScribbleSimulator):
            return simulator(compose(image), classes, np.random.default_rng(crc32(image.name.encode())))
        drawn = self.keypoint_clicks(index)
        others = {v: c for v, c in classes.items() if v not in drawn and (v == 0 or not self.keypoints_only)}
        return [*simulator(compose(image), others), *chain(*drawn.values())]

    def hidden(self, index: int) -> Region | None:
        """Return the pixels, outside all boxes, of crowds and of objects without a box. They may be anywhere."""
        if self.reduced_to != "boxes":
            return None
        image = self.file.images[index]
        regions = [region_of(each, image.size) for each in image.annotations().values() if not _has_box(each)]
        if not regions:
            return None
        hidden = np.any(regions, axis=0)
        for box in self._boxes(index):
            hidden[pixels_in(box.points, image.size)] = False
        return np.asarray(hidden)

    def _boxes(self, index: int) -> list[Annotation]:
        """Return the boxes of all objects. Crowds, and annotations without a box, have none."""
        image, classes, boxes = self.file.images[index], self._classes(index), list[Annotation]()
        for number, annotation in image.annotations().items():
            if _has_box(annotation):
                x, y, width, height = annotation["bbox"]
                boxes.append(Box(classes[number], np.array([[x, y], [x + width, y + height]], dtype=np.float64)))
        return boxes

    def keypoint_clicks(self, index: int) -> dict[int, list[Annotation]]:
        """Return a click for each visible keypoint, by annotation number."""
        drawn, classes = {}, self._classes(index)
        for number, annotation in self.file.images[index].annotations().items():
            points = np.array(annotation.get("keypoints", []), dtype=np.float64).reshape(-1, 3)
            visible = points[points[:, 2] == VISIBLE, :2]
            if len(visible) and not annotation["crowd"]:
                drawn[number] = [Annotation(classes[number], point[None]) for point in visible]
        return drawn

    def shape(self, index: int) -> tuple[int, int]:
        """Return (H, W) from the COCO file."""
        return self.file.images[index].size

    def problem(self, index: int, training: bool) -> InputError | None:
        """Read an image and its labels and return the first problem, if any."""
        return self.mismatch(index) or super().problem(index, training)

    def mismatch(self, index: int) -> InputError | None:
        """Return the first mismatch between an image and its annotations, without decoding either."""
        image, path = self.file.images[index], self.image_file(index)
        if not path.is_file():
            message = f"{path} is missing, but {self.file.path} lists it; add it, or pass a different image folder."
            return InputError(message, "missing file", path)
        try:
            width, height = image_size(path)
        except InputError as error:
            return error
        if (height, width) != image.size:
            remedy = "export the annotations of the images in this folder"
            with PILImage.open(path) as picture:
                if picture.size == image.size[::-1]:
                    remedy = "the annotations ignore its EXIF orientation; remove that: exiftool -Orientation= FILE"
            message = f"{path} has (H, W) {(height, width)}, but {self.file.path} has {image.size}; {remedy}."
            return InputError(message, "size differs", path)
        for annotation in image.annotations().values():
            if not (self.ignore_boxes or annotation["crowd"] or "segmentation" in annotation):
                message = f"{self.file.path}, annotation {annotation['id']} has no segmentation; add one, or leave its "
                message += "box unlabeled: --data.ignore_boxes=true"
                return InputError(message, "box without segmentation", path)
        return None

    def _classes(self, index: int) -> dict[int, int]:
        """Return the class of each value of the instance map."""
        classes = self.file.classes(self.background)
        annotations = self.file.images[index].annotations().items()
        return {**({0: 0} if self.background else {}), **{n: classes[a["category_id"]] for n, a in annotations}}


def _has_box(annotation: Mapping[str, Any]) -> bool:
    return "bbox" in annotation and min(annotation["bbox"][2:]) > 0 and not annotation["crowd"]
