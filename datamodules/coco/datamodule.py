"""Images with COCO annotations, and predictions as COCO results."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle

from datamodules.annotations import LabelMap
from datamodules.coco.dataset import CocoDataset
from datamodules.coco.file import CocoFile, read_coco
from datamodules.datamodule import SegmentationDataModule
from datamodules.io.errors import InputError
from datamodules.io.images import in_threads
from datamodules.loader import LoaderOptions
from datamodules.proposals import Proposals
from datamodules.sample import IGNORE_INDEX
from datamodules.simulate_clicks import ClickSimulator
from datamodules.simulate_scribbles import ScribbleSimulator
from datamodules.transforms import RandomScaleCropFlip


class CocoDataModule(SegmentationDataModule):
    """Images with COCO annotations.

    The classes are the categories in order of id. Smaller instances are drawn on top of larger ones. Crowd regions are
    unlabeled. Images are rotated by their EXIF orientation.

    Args:
        images: Folder of the training images.
        train_annotations: COCO file of the training images. Prediction does not read it.
        val_annotations: COCO file of the validation images, with the same categories. Prediction uses these images.
        supervision: Training labels: "clicks" (visible keypoints; simulated clicks on instances without keypoints and
            on the background), "keypoints" (visible keypoints; simulated clicks on the background), "scribbles"
            (simulated), "boxes" (of all instances), "tags" (the categories of an image) or "full".
        background: Make pixels outside all instances class 0, "background", instead of unlabeled.
        ignore_boxes: Accept boxes without a segmentation, and leave their pixels unlabeled. Training with keypoints
            always does.
        val_images: Folder of the validation images. ``None`` is ``images``.
        click_simulator: Settings of simulated clicks.
        scribble_simulator: Settings of simulated scribbles.
        augmentation: See :class:`SegmentationDataModule`, also for the remaining arguments.

    Raises:
        InputError: A file is missing or malformed.
    """

    supervisions = ("clicks", "keypoints", "scribbles", "boxes", "tags", "full")

    def __init__(
        self,
        images: str,
        train_annotations: str,
        val_annotations: str,
        supervision: str = "clicks",
        background: bool = True,
        ignore_boxes: bool = False,
        val_images: str | None = None,
        click_simulator: ClickSimulator | None = None,
        scribble_simulator: ScribbleSimulator | None = None,
        augmentation: RandomScaleCropFlip = RandomScaleCropFlip(crop=256),
        stroke_width: int = 1,
        loader: LoaderOptions = LoaderOptions(16, 4),
        seed: int = 0,
        proposals: Proposals = Proposals(),
    ) -> None:
        super().__init__(supervision, augmentation, stroke_width, loader, seed, proposals)
        if supervision == "boxes" and not background:
            raise InputError("Pixels outside all boxes are class 0, the background: pass --data.background=true.")
        self.images = Path(images)
        self.val_images = Path(val_images) if val_images else self.images
        self.train_annotations = Path(train_annotations)
        self.background = background
        self.ignore_boxes = ignore_boxes
        self.clicks = click_simulator or ClickSimulator()
        self.scribbles = scribble_simulator or ScribbleSimulator()
        self._val_file = read_coco(Path(val_annotations))
        self.class_names = [*(["background"] if background else []), *self._val_file.categories.values()]
        if len(set(self.class_names)) < self.num_classes:
            remedy = "rename it, or pass --data.background=false if it labels the background"
            raise InputError(f"{val_annotations} has a category 'background', the name of class 0; {remedy}.")
        if not 2 <= self.num_classes < IGNORE_INDEX:
            raise InputError(f"{val_annotations} has {self.num_classes} classes; expected 2 to 254.")

    @cached_property
    def _train_file(self) -> CocoFile:
        file = read_coco(self.train_annotations)
        if file.categories != self._val_file.categories:
            names = f"{file.path} and {self._val_file.path}"
            differing = sorted(file.categories.items() ^ self._val_file.categories.items())
            raise InputError(f"{names} differ in categories: {differing[:4]}; export them together.")
        return file

    def quick_problems(self, split: str) -> Iterator[InputError]:
        """Yield files without the required annotations, and images that are missing or have a different size."""
        images = {"train": self.train_split, "val": self.val_split, "predict": self.predict_split}[split]()
        file = images.file
        if split != "predict" and not file.annotated:
            yield InputError(f"{file.path} has no annotations; export it with annotations.", "no labels", file.path)
        keypoints = split == "train" and self.supervision == "keypoints"
        if keypoints and not any(images.keypoint_clicks(index) for index in range(len(images))):
            message = f"{file.path} has no visible keypoint; choose another --data.supervision."
            yield InputError(message, "no labels", file.path)
        yield from (problem for problem in in_threads(images.mismatch, len(images), "Checking") if problem)

    def train_split(self) -> CocoDataset:
        """Return the training images with the labels of the supervision."""
        if self.supervision in ("boxes", "tags"):
            return CocoDataset(self.images, self._train_file, self.background, True, reduced_to=self.supervision)
        simulator = {"scribbles": self.scribbles, "full": None}.get(self.supervision, self.clicks)
        keypoints_only = self.supervision == "keypoints"
        ignore_boxes = self.ignore_boxes or keypoints_only
        return CocoDataset(self.images, self._train_file, self.background, ignore_boxes, simulator, keypoints_only)

    def val_split(self) -> CocoDataset:
        """Return the validation images with their dense masks."""
        return CocoDataset(self.val_images, self._val_file, self.background, self.ignore_boxes)

    def predict_split(self) -> CocoDataset:
        """Return the validation images. Their file may lack annotations."""
        return CocoDataset(self.val_images, self._val_file, self.background, ignore_boxes=True)


def to_coco_results(label_map: LabelMap, image_id: int, category_ids: Mapping[int, int]) -> list[dict[str, Any]]:
    """Return a prediction as COCO results for ``COCO.loadRes``: one RLE with score 1 per predicted category.

    Args:
        label_map: Class indices, uint8 (H, W).
        image_id: Id of the image in its COCO file.
        category_ids: Category id of each class. Other classes, such as the background, are left out.
    """
    results = []
    for label in np.unique(label_map).tolist():
        if label in category_ids:
            encoded = rle.encode(np.asfortranarray(label_map == label, dtype=np.uint8))
            segmentation = {"size": list(label_map.shape), "counts": encoded["counts"].decode()}
            result = {"image_id": image_id, "category_id": category_ids[label], "segmentation": segmentation}
            results.append({**result, "score": 1.0})
    return results
