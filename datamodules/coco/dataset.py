"""Images with COCO annotations, as instance maps, dense masks and clicks.

Only ``pycocotools.mask`` is used, since ``pycocotools.coco`` prints.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from pycocotools import mask as rle

from datamodules.annotations import Annotation, LabelMap
from datamodules.coco.file import VISIBLE, CocoFile, CocoImage
from datamodules.dataset import SegmentationDataset
from datamodules.io.errors import InputError
from datamodules.io.images import image_size, read_image
from datamodules.sample import IGNORE_INDEX
from datamodules.transforms import Image, Labels

Region = NDArray[np.bool_]
Instances = NDArray[np.int32]
Drawn = Mapping[int, list[Annotation]]
IGNORED = -1  # value of an instance map


def fill_polygons(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> Region:
    """Return the pixels of polygons [x, y, x, y, ...] with at least three corners as COCO draws them, bool (H, W)."""
    return np.asarray(rle.decode(rle.merge(rle.frPyObjects([list(p) for p in polygons], *size))), dtype=bool)


def stack(regions: Mapping[int, Region], size: tuple[int, int]) -> Instances:
    """Draw regions into one map, smaller regions on top. Of equal regions the later one is on top.

    Args:
        regions: bool (H, W), by value in the map.
        size: (H, W).

    Returns:
        int32 (H, W), 0 outside all regions.
    """
    instances = np.zeros(size, dtype=np.int32)
    for value in sorted(regions, key=lambda value: -np.count_nonzero(regions[value])):
        instances[regions[value]] = value
    return instances


def compose(image: CocoImage) -> Instances:
    """Return the instance map, int32 (H, W), with the numbers of :meth:`CocoImage.annotations`.

    Outside all instances, crowd regions and boxes are IGNORED and the rest is 0. An annotation with neither
    segmentation nor box could be anywhere, so nothing is 0 then.

    Raises:
        InputError: An RLE is malformed.
    """
    regions, ignored = dict[int, Region](), np.zeros(image.size, dtype=bool)
    for number, annotation in image.annotations().items():
        try:
            region = _region(annotation, image.size)
        except (ValueError, OverflowError) as error:
            message = f"Annotation {annotation['id']} of image {image.file_name} has malformed RLE; export it again."
            raise InputError(message) from error
        if annotation["crowd"] or "segmentation" not in annotation:
            ignored |= region
        else:
            regions[number] = region
    instances = stack(regions, image.size)
    instances[ignored & (instances == 0)] = IGNORED
    return instances


def _region(annotation: Mapping[str, Any], size: tuple[int, int]) -> Region:
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, list):
        return fill_polygons(segmentation, size)
    if segmentation is not None:
        compressed = isinstance(segmentation["counts"], str)
        return np.asarray(rle.decode(segmentation if compressed else rle.frPyObjects(segmentation, *size)), dtype=bool)
    x, y, width, height = annotation.get("bbox", (0, 0, 0, 0))
    if width * height == 0:
        return np.ones(size, dtype=bool)
    region = np.zeros(size, dtype=bool)
    bounds = np.clip([np.floor(y), np.ceil(y + height), np.floor(x), np.ceil(x + width)], 0, max(size)).astype(int)
    region[bounds[0] : bounds[1], bounds[2] : bounds[3]] = True
    return region


def keypoint_clicks(image: CocoImage, classes: Mapping[int, int]) -> dict[int, list[Annotation]]:
    """Return a click for each visible keypoint, by annotation number, without annotations that have none."""
    drawn = {}
    for number, annotation in image.annotations().items():
        points = np.array(annotation.get("keypoints", []), dtype=np.float64).reshape(-1, 3)
        visible = points[points[:, 2] == VISIBLE, :2]
        if len(visible) and not annotation["crowd"]:
            drawn[number] = [Annotation(classes[annotation["category_id"]], point[None]) for point in visible]
    return drawn


@dataclass(frozen=True)
class CocoDataset(SegmentationDataset):
    """One split.

    Args:
        folder: Image folder.
        file: Images and annotations.
        background: Whether pixels outside all instances are class 0 or unlabeled.
        ignore_boxes: Accept boxes without a segmentation, and leave their pixels unlabeled.
        simulate: Makes clicks or scribbles of the instance map, the class of each value, the keypoints and the image
            name. ``None`` trains on dense masks.
    """

    folder: Path
    file: CocoFile
    background: bool
    ignore_boxes: bool
    simulate: Callable[[Instances, dict[int, int], Drawn, str], list[Annotation]] | None = None
    _simulated: dict[int, list[Annotation]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.file.images)

    def name(self, index: int) -> str:
        """Return the path inside the image folder, without suffix."""
        return self.file.images[index].name

    def image_file(self, index: int) -> Path:
        """Return the path of the image."""
        return self.folder / self.file.images[index].file_name

    def image(self, index: int) -> Image:
        """Return uint8 (H, W, 3), RGB."""
        return read_image(self.image_file(index))

    def dense_mask(self, index: int) -> LabelMap:
        """Return the dense mask, uint8 (H, W)."""
        labels = np.full(len(self.file.images[index].annotations()) + 2, IGNORE_INDEX, dtype=np.uint8)
        for value, label in self._classes(index).items():
            labels[value] = label
        return np.asarray(labels[compose(self.file.images[index])])  # IGNORED is the last

    def weak_labels(self, index: int) -> Labels:
        """Return the training labels: clicks or scribbles, simulated on first use, or uint8 (H, W)."""
        if self.simulate is None:
            return self.dense_mask(index)
        if index not in self._simulated:
            image = self.file.images[index]
            drawn = keypoint_clicks(image, self.file.classes(self.background))
            self._simulated[index] = self.simulate(compose(image), self._classes(index), drawn, image.name)
        return self._simulated[index]

    def shape(self, index: int) -> tuple[int, int]:
        """Return (H, W) from the COCO file."""
        return self.file.images[index].size

    def problem(self, index: int, training: bool) -> InputError | None:
        """Read an image and its labels and return the first problem, if any."""
        return self.mismatch(index) or super().problem(index, training)

    def mismatch(self, index: int) -> InputError | None:
        """Return a mismatch between an image and its annotations, if any, without decoding them."""
        image, path = self.file.images[index], self.image_file(index)
        if not path.is_file():
            message = f"{path} is missing, but {self.file.path} lists it; add it, or pass another image folder."
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
            return InputError(
                f"{path} has (H, W) {(height, width)}, but {self.file.path} has {image.size}; {remedy}.",
                "size differs",
                path,
            )
        for annotation in image.annotations().values():
            if not (self.ignore_boxes or annotation["crowd"] or "segmentation" in annotation):
                return InputError(
                    f"{self.file.path}, annotation {annotation['id']} has no segmentation; add one, or pass "
                    "--data.ignore_boxes=true to leave the pixels of its box unlabeled.",
                    "box without segmentation",
                    path,
                )
        return None

    def _classes(self, index: int) -> dict[int, int]:
        """Return the class of each value of the instance map."""
        classes = self.file.classes(self.background)
        annotations = self.file.images[index].annotations().items()
        return {**({0: 0} if self.background else {}), **{n: classes[a["category_id"]] for n, a in annotations}}
