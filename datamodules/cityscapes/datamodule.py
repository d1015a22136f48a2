"""Cityscapes with fine annotations and simulated clicks, Secs. 4.1 and 6.4."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from datamodules.annotations import LabelMap
from datamodules.cityscapes.files import CLASSES, LABEL_IDS, PUBLISHED, TRAIN_IDS, CityscapesFiles
from datamodules.datamodule import SegmentationDataModule
from datamodules.dataset import SegmentationDataset
from datamodules.extra_inputs import classes_of
from datamodules.io.click_files import Clicks, read_clicks
from datamodules.io.errors import InputError
from datamodules.loader import LoaderOptions
from datamodules.proposals import Proposals
from datamodules.simulate_boxes import to_tags
from datamodules.transforms import Labels, RandomScaleCropFlip
from datamodules.validation import find_problems

CLICK_FILES = ("cityscapes_clicks.json", "cityscapes_synthetic_clicks.json")


@dataclass(frozen=True)
class CityscapesDataset(SegmentationDataset):
    """One split.

    Args:
        files: Paths of images and masks.
        split: "train", "val" or "test".
        names: Image names, CITY_SEQUENCE_FRAME.
        clicks: Training labels. ``None`` trains on dense masks.
        tags: Reduce the clicks to the classes that they have in the image.
    """

    files: CityscapesFiles
    split: str
    names: Sequence[str]
    clicks: Clicks | None = None
    tags: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """Return CITY_SEQUENCE_FRAME."""
        return self.names[index]

    def image_file(self, index: int) -> Path:
        """Return the path of the image."""
        return self.files.image(self.split, self.names[index])

    def dense_mask(self, index: int) -> LabelMap | None:
        """Return the mask, or ``None`` for a test image."""
        return None if self.split == "test" else self.files.dense_mask(self.split, self.names[index])

    def weak_labels(self, index: int) -> Labels:
        """Return the clicks, the tags or the mask."""
        name = self.names[index]
        if self.clicks is None:
            return self.files.dense_mask(self.split, name)
        if name not in self.clicks:
            message = f"{name} is missing in the click file; see: gatedcrf data cityscapes-clicks."
            raise InputError(message, "no labels", name)
        return to_tags(classes_of(self.clicks[name])) if self.tags else self.clicks[name]


class CityscapesDataModule(SegmentationDataModule):
    """Cityscapes: 2,975 training and 500 validation images of 2048 x 1024 pixels, 19 classes.

    Args:
        root: Folder with ``leftImg8bit`` and ``gtFine``.
        supervision: Training labels: "clicks", "tags" (the classes of the clicks) or "full".
        clicks: Click file of ``gatedcrf data cityscapes-clicks`` or of the authors. ``None`` looks in ``root``.
        published_split: Compare the number of images of each city with the published one.
        augmentation: See :class:`SegmentationDataModule`, also for the remaining arguments.
    """

    supervisions = ("clicks", "tags", "full")
    label_ids = LABEL_IDS

    def __init__(
        self,
        root: str,
        supervision: str = "clicks",
        clicks: str | None = None,
        published_split: bool = True,
        augmentation: RandomScaleCropFlip = RandomScaleCropFlip(crop=768),
        stroke_width: int = 1,
        loader: LoaderOptions = LoaderOptions(8, 8),
        seed: int = 0,
        proposals: Proposals = Proposals(),
    ) -> None:
        super().__init__(supervision, augmentation, stroke_width, loader, seed, proposals)
        self.class_names = list(CLASSES)
        self.files = CityscapesFiles(Path(root))
        self.clicks = None if clicks is None else Path(clicks)
        self.published_split = published_split

    @cached_property
    def weak(self) -> Clicks | None:
        """Clicks, read once, without those of void."""
        if self.supervision == "full":
            return None
        paths = [self.files.root / name for name in CLICK_FILES] if self.clicks is None else [self.clicks]
        path = next((path for path in paths if path.exists()), None)
        if path is None:
            command = f"gatedcrf data cityscapes-clicks {self.files.root}"
            raise InputError(f"{paths[0]} does not exist; simulate it: {command}")
        return read_clicks(path, TRAIN_IDS)

    def train_split(self) -> CityscapesDataset:
        """Return the training images with the labels of the supervision."""
        return CityscapesDataset(
            self.files, "train", self.files.names("train"), self.weak, tags=self.supervision == "tags"
        )

    def val_split(self) -> CityscapesDataset:
        """Return the validation images with their dense masks."""
        return CityscapesDataset(self.files, "val", self.files.names("val"))

    def predict_split(self) -> CityscapesDataset:
        """Return the test images, or the validation images if there are none."""
        if (self.files.root / "leftImg8bit" / "test").is_dir():
            return CityscapesDataset(self.files, "test", self.files.names("test"))
        return self.val_split()

    def quick_problems(self, split: str) -> Iterator[InputError]:
        """Yield cities whose number of images differs from the published one, and training images without clicks."""
        if self.published_split and split in PUBLISHED:
            yield from self.files.unpublished(split)
        if split == "train" and self.weak is not None:
            yield from find_problems(self.train_split(), training=True, skip=self.weak)
