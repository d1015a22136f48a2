"""Your own images, in a folder.

::

    root/classes.txt                  one class name per line
    root/images/{train,val}/NAME.*    photographs
    root/masks/{train,val}/NAME.png   class indices, 255 = unlabeled
    root/clicks.json, scribbles.json  optional: {"NAME": [{"class": 1, "points": [[x, y], ...]}, ...], ...}
    root/boxes.json                   optional: {"NAME": [{"class": 1, "box": [x0, y0, x1, y1]}, ...], ...}
    root/tags.json                    optional: {"NAME": [0, 1, ...], ...}
    root/scribbles/train/NAME.png     optional: sparse indexed PNGs, 255 = unlabeled
    root/images/test/NAME.*           optional: read by `gatedcrf predict`

Weak labels without such a file are simulated from masks/train; tags are also taken from clicks.json or scribbles.json.
With such files, only full supervision reads masks/train. Boxes need class 0 to be the background.
"""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_warn

from datamodules.annotations import Annotation, to_json
from datamodules.datamodule import SegmentationDataModule
from datamodules.extra_inputs import classes_of
from datamodules.folder.dataset import FolderDataset, Simulator
from datamodules.folder.doubts import doubts, misplaced_labels
from datamodules.folder.files import file_versions, read_class_names, read_vectors
from datamodules.folder.labels import find_labels, missing_masks
from datamodules.folder.unread import unread_files
from datamodules.io.errors import InputError, refuse
from datamodules.io.images import in_threads, list_images
from datamodules.io.json_files import read_json, write_json
from datamodules.io.names import image_name
from datamodules.loader import LoaderOptions
from datamodules.proposals import Proposals
from datamodules.sample import IGNORE_INDEX
from datamodules.simulate_boxes import BoxSimulator, TagSimulator, to_tags
from datamodules.simulate_clicks import ClickSimulator
from datamodules.simulate_scribbles import ScribbleSimulator
from datamodules.transforms import RandomScaleCropFlip
from datamodules.validation import CheckReport, find_problems


class FolderDataModule(SegmentationDataModule):
    """Your own images, in the layout of this module's docstring.

    Args:
        root: The folder.
        supervision: Training labels: "clicks", "scribbles", "boxes", "tags" or "full".
        click_simulator: Settings of clicks that are simulated if there is no clicks.json.
        scribble_simulator: Settings of scribbles that are simulated if there are neither files nor PNGs of them.
        box_simulator: Settings of boxes that are simulated if there is no boxes.json.
        max_side: Reduce larger images to this longest side, pixels, when they are read. mIoU and predictions then
            refer to the reduced images.
        cache_dir: Folder of simulated labels and of the result of the check; ``None`` is ``root/.gatedcrf``.
        augmentation: See :class:`SegmentationDataModule`, also for the remaining arguments.

    Raises:
        InputError: ``classes.txt`` is missing or malformed.
    """

    supervisions = ("clicks", "scribbles", "boxes", "tags", "full")

    def __init__(
        self,
        root: str,
        supervision: str = "clicks",
        click_simulator: ClickSimulator | None = None,
        scribble_simulator: ScribbleSimulator | None = None,
        box_simulator: BoxSimulator | None = None,
        max_side: int | None = None,
        cache_dir: str | None = None,
        augmentation: RandomScaleCropFlip = RandomScaleCropFlip(crop=256),
        stroke_width: int = 1,
        loader: LoaderOptions = LoaderOptions(16, 4),
        seed: int = 0,
        proposals: Proposals = Proposals(),
    ) -> None:
        super().__init__(supervision, augmentation, stroke_width, loader, seed, proposals)
        self.root = Path(root)
        self.max_side = max_side
        self.cache_dir = Path(cache_dir) if cache_dir else self.root / ".gatedcrf"
        self.clicks = click_simulator or ClickSimulator()
        self.scribbles = scribble_simulator or ScribbleSimulator()
        self.boxes = box_simulator or BoxSimulator()
        self.class_names = read_class_names(self.root / "classes.txt")
        if not 2 <= self.num_classes < IGNORE_INDEX:
            raise InputError(f"{self.root / 'classes.txt'} names {self.num_classes} classes; 2 to 254 are possible.")

    def prepare_data(self) -> None:
        """Check all files, warn, and simulate missing labels. Both results are kept until a file changes."""
        if self.trainer is not None and self.trainer.state.fn == TrainerFn.PREDICTING:
            refuse(find_problems(self.predict_split(), training=False))
            return
        marker = self.cache_dir / f"checked-{self._digest()}-{self.augmentation.crop}-{self.max_side}"
        unread = list(unread_files(self.root))
        if not marker.exists():
            report = self.check()
            refuse(report.problems)
            self._write(marker, [text for text in report.warnings if text not in unread])
        for text in (*unread, *read_json(marker)):
            rank_zero_warn(text)
        self.train_split()
        super().prepare_data()

    def check(self) -> CheckReport:
        """Read every file, and collect all errors and what may be wrong."""
        report, found = super().check(), list(unread_files(self.root))
        if not report.problems:
            splits = self.split_to_check("train"), self.val_split()
            found += doubts(*splits, self._weak_path(), self.class_names, self.augmentation.crop)
        return report._replace(warnings=[*found, *report.warnings])

    def quick_problems(self, split: str) -> Iterator[InputError]:
        """Yield coordinates that cannot be meant, and whether masks to simulate labels from are missing."""
        if split == "train":
            train, source = self.split_to_check("train"), self._weak_path()
            if source is None:
                yield from missing_masks(self.root, self.supervision, train.images)
            elif source.is_file():
                yield from misplaced_labels(train, source)

    def split_to_check(self, split: str) -> FolderDataset:
        """Return "train", without simulating labels, or "val"."""
        return self._split("train", self._weak_files()) if split == "train" else self.val_split()

    def train_split(self) -> FolderDataset:
        """Return the training images with the labels of the supervision."""
        split = self._split("train", self._weak_files())
        return split if split.simulator is None else self._split("train", self._simulated(split))

    def val_split(self) -> FolderDataset:
        """Return the validation images with their masks."""
        return self._split("val", None)

    def predict_split(self) -> FolderDataset:
        """Return the images of ``images/test`` or, without that folder, the validation images."""
        folder = self.root / "images" / "test"
        if not folder.is_dir():
            return self.val_split()
        return FolderDataset(list_images(folder), None, self.num_classes, max_side=self.max_side)

    def _split(self, name: str, weak: dict[str, list[Annotation]] | Path | None) -> FolderDataset:
        images = list_images(self.root / "images" / name)
        if weak is not None:
            return FolderDataset(images, None, self.num_classes, weak, max_side=self.max_side)
        masks, simulator = self.root / "masks" / name, self._simulators().get(self.supervision)
        return FolderDataset(images, masks, self.num_classes, None, simulator, max_side=self.max_side)

    def _simulators(self) -> dict[str, Simulator]:
        return {"clicks": self.clicks, "scribbles": self.scribbles, "boxes": self.boxes, "tags": TagSimulator()}

    def _simulated(self, split: FolderDataset) -> dict[str, list[Annotation]]:
        """Return simulated labels from ``cache_dir``, where they are written first if a file has changed."""
        path = self.cache_dir / f"{self.supervision}-{self._digest()}.json"
        if not path.is_file():
            found = in_threads(split.vectors, len(split), "Simulating")
            self._write(path, {split.name(i): to_json(a) for i, a in enumerate(found)})
        return self._read_vectors(path)

    def _write(self, path: Path, content: object) -> None:
        try:
            write_json(path, content)
        except OSError as error:
            message = f"{path} cannot be written ({error}); name a different folder with --data.cache_dir."
            raise InputError(message) from error

    def _weak_files(self) -> dict[str, list[Annotation]] | Path | None:
        """Return the weak labels that are in files, if there are any."""
        path = self._weak_path()
        return self._read_vectors(path) if path is not None and path.is_file() else path

    def _weak_path(self) -> Path | None:
        """Return the JSON file or the folder of the weak labels, or ``None`` if training reads masks."""
        return find_labels(self.root, self.supervision)

    def _read_vectors(self, path: Path) -> dict[str, list[Annotation]]:
        names = {image_name(path) for path in list_images(self.root / "images" / "train")}
        vectors = read_vectors(path, names, self.num_classes)
        if self.supervision != "tags":
            return vectors
        return {name: to_tags(classes_of(labels)) for name, labels in vectors.items()}

    def _digest(self) -> str:
        """Return a key that changes with every file that this supervision reads, and with its simulator."""
        sources = [self.root / name for name in ("classes.txt", "images/train", "images/val", "masks/val")]
        sources.append(self._weak_path() or self.root / "masks" / "train")
        key = [(str(path.relative_to(self.root)), file_versions(path)) for path in sources]
        simulator = self._simulators().get(self.supervision)
        return sha256(repr((self.supervision, simulator, key)).encode()).hexdigest()[:16]
