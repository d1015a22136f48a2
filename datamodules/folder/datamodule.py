"""Anyone's images and index masks.

::

    root/classes.txt                  one class name per line
    root/images/{train,val}/NAME.*    photographs
    root/masks/{train,val}/NAME.png   class indices, 255 = unlabeled
    root/clicks.json, scribbles.json  optional: {"NAME": [{"class": 1, "points": [[x, y], ...]}, ...], ...}
    root/scribbles/train/NAME.png     optional: sparse index PNGs, 255 = unlabeled
    root/images/test/NAME.*           optional: what `gatedcrf predict` reads

Weak labels that are in neither place are simulated from masks/train, which is otherwise needed for full supervision
only.
"""

import json
from functools import partial
from hashlib import sha256
from pathlib import Path
from zlib import crc32

import numpy as np
from pytorch_lightning.trainer.states import TrainerFn

from datamodules.annotations import Annotation, LabelMap, from_json, to_json
from datamodules.datamodule import LoaderOptions, SegmentationDataModule
from datamodules.folder.dataset import FolderDataset
from datamodules.image_cache import belongs_to_cache
from datamodules.io.class_names import read_class_names
from datamodules.io.errors import InputError, refuse
from datamodules.io.images import in_threads, list_images
from datamodules.sample import IGNORE_INDEX
from datamodules.simulate_clicks import ClickSimulator
from datamodules.simulate_scribbles import ScribbleSimulator
from datamodules.transforms import RandomScaleCropFlip
from datamodules.validation import find_problems


class FolderDataModule(SegmentationDataModule):
    """Anyone's images, in the layout at the top of this file.

    Args:
        root: The folder.
        supervision: What training may see: "clicks", "scribbles" or "full".
        click_simulator: For clicks that are in no file. Its ``min_area`` is in pixels of these images.
        scribble_simulator: For scribbles that are in no file.
        max_side: Larger images are reduced to this longest side, pixels, before anything else: for photographs of
            many megapixels, and for small machines. mIoU and predictions are then those of the reduced images.
        cache_dir: Where simulated labels and the outcome of the check are kept; ``None`` is ``root/.gatedcrf``.
        augmentation: See :class:`SegmentationDataModule`, as for the rest.

    Raises:
        InputError: A folder that is not as above; the message names the file and the remedy.
    """

    supervisions = ("clicks", "scribbles", "full")

    def __init__(
        self,
        root: str,
        supervision: str = "clicks",
        click_simulator: ClickSimulator | None = None,
        scribble_simulator: ScribbleSimulator | None = None,
        max_side: int | None = None,
        cache_dir: str | None = None,
        augmentation: RandomScaleCropFlip = RandomScaleCropFlip(crop=256),
        stroke_width: int = 1,
        loader: LoaderOptions = LoaderOptions(16, 4),
        seed: int = 0,
    ) -> None:
        super().__init__(supervision, augmentation, stroke_width, loader, seed)
        self.root = Path(root)
        self.max_side = max_side
        self.cache_dir = Path(cache_dir) if cache_dir else self.root / ".gatedcrf"
        self.clicks = click_simulator or ClickSimulator()
        self.scribbles = scribble_simulator or ScribbleSimulator()
        self.class_names = read_class_names(self.root / "classes.txt")
        if not 2 <= self.num_classes < IGNORE_INDEX:
            raise InputError(f"{self.root / 'classes.txt'} names {self.num_classes} classes; 2 to 254 are possible.")

    def prepare_data(self) -> None:
        """Check the files that this stage reads and simulate missing labels; both are kept until a file changes.

        Raises:
            InputError: A file is wrong, or the cache cannot be written; the message names the remedy.
        """
        if self.trainer is not None and self.trainer.state.fn == TrainerFn.PREDICTING:
            refuse(find_problems(self.predict_split(), training=False))
            return
        marker = self.cache_dir / f"checked-{self._digest()}"
        if not marker.exists():
            refuse(self.check().problems)
            self._write(marker, "")
        self.train_split()
        super().prepare_data()

    def split_to_check(self, split: str) -> FolderDataset:
        """Return "train", without simulating labels, or "val"."""
        return self._split("train", self._weak_files()) if split == "train" else self.val_split()

    def train_split(self) -> FolderDataset:
        """Training images with the labels of the chosen supervision."""
        split = self._split("train", self._weak_files())
        return split if split.simulate is None else self._split("train", self._simulated(split))

    def val_split(self) -> FolderDataset:
        """Validation images with their masks."""
        return self._split("val", None)

    def predict_split(self) -> FolderDataset:
        """Images of ``images/test`` or, where there are none, the validation images."""
        folder = self.root / "images" / "test"
        if not folder.is_dir():
            return self.val_split()
        return FolderDataset(list_images(folder), None, self.num_classes, max_side=self.max_side)

    def _split(self, name: str, weak: dict[str, list[Annotation]] | Path | None) -> FolderDataset:
        images = list_images(self.root / "images" / name)
        if weak is not None:
            return FolderDataset(images, None, self.num_classes, weak, max_side=self.max_side)
        simulators = {"clicks": partial(_clicks, self.clicks), "scribbles": partial(_scribbles, self.scribbles)}
        simulate = simulators.get(self.supervision)  # no bound method: worker processes get a copy of it
        return FolderDataset(images, self.root / "masks" / name, self.num_classes, None, simulate, self.max_side)

    def _simulated(self, split: FolderDataset) -> dict[str, list[Annotation]]:
        """Weak labels simulated from the masks, from the cache where nothing has changed."""
        path = self.cache_dir / f"{self.supervision}-{self._digest()}.json"
        if not path.is_file():
            found = in_threads(split.vectors, len(split), "Simulating")
            content = {split.name(i): to_json(a) for i, a in enumerate(found)}
            self._write(path, json.dumps(content))
        return self._read_vectors(path)

    def _write(self, path: Path, text: str) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".part")
            temporary.write_text(text)
            temporary.replace(path)
        except OSError as error:
            raise InputError(
                f"{path} cannot be written ({error}); name another folder with --data.cache_dir."
            ) from error

    def _weak_files(self) -> dict[str, list[Annotation]] | Path | None:
        """Labels that the user drew, if any."""
        vectors, maps = self.root / f"{self.supervision}.json", self.root / "scribbles" / "train"
        if vectors.is_file():
            return self._read_vectors(vectors)
        return maps if self.supervision == "scribbles" and maps.is_dir() else None

    def _read_vectors(self, path: Path) -> dict[str, list[Annotation]]:
        try:
            weak = {name: from_json(items) for name, items in json.loads(path.read_text()).items()}
        except (ValueError, AttributeError, TypeError, OverflowError) as error:
            form = '{"NAME": [{"class": 1, "points": [[x, y], ...]}, ...], ...}'
            raise InputError(f"{path} is not of the form {form}: {error}") from error
        known = {image.stem for image in list_images(self.root / "images" / "train")}
        for name, annotations in weak.items():
            if name not in known:
                raise InputError(
                    f"{path} labels {name!r}, but images/train has no such image; use names without suffix."
                )
            for label in {a.label for a in annotations}:
                if not 0 <= label < self.num_classes:
                    raise InputError(
                        f"{path} gives {name!r} the class {label}; classes are 0 to {self.num_classes - 1}."
                    )
        return weak

    def _digest(self) -> str:
        """Changes with any file, and with what the simulated labels depend on."""
        key: list[object] = [self.supervision, self.clicks, self.scribbles]
        for path in sorted(path for path in self.root.rglob("*") if path.is_file() and path.parent != self.cache_dir):
            if belongs_to_cache(path):
                continue
            stat = path.stat()
            key.append((str(path.relative_to(self.root)), stat.st_size, stat.st_mtime_ns))
        return sha256(repr(key).encode()).hexdigest()[:16]


def _clicks(simulator: ClickSimulator, mask: LabelMap, name: str) -> list[Annotation]:
    return simulator(mask, _every_class(mask))


def _scribbles(simulator: ScribbleSimulator, mask: LabelMap, name: str) -> list[Annotation]:
    return simulator(mask, _every_class(mask), np.random.default_rng(crc32(name.encode())))


def _every_class(mask: LabelMap) -> dict[int, int]:
    return {label: label for label in np.unique(mask).tolist() if label != IGNORE_INDEX}
