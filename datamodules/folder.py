"""Anyone's images and index masks.

::

    root/classes.txt                  one class name per line
    root/images/{train,val}/NAME.*    photographs
    root/masks/{train,val}/NAME.png   class indices, 255 = unlabeled
    root/clicks.json, scribbles.json  optional: {"NAME": [{"class": 1, "points": [[x, y], ...]}, ...], ...}
    root/{clicks,scribbles}/train/NAME.png   optional: sparse index PNGs, 255 = unlabeled
    root/images/test/NAME.*           optional: what `gatedcrf predict` reads

Weak labels that are in neither place are simulated from masks/train, which is otherwise needed for full supervision
only.
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from datamodules.annotations import Annotation, LabelMap, from_json, to_json
from datamodules.clicks import ClickSimulator
from datamodules.datamodule import IMAGENET_MEAN, IMAGENET_STD, SegmentationDataModule
from datamodules.dataset import SegmentationDataset
from datamodules.files import image_size, list_images, read_image, read_label_map
from datamodules.sample import IGNORE_INDEX
from datamodules.scribbles import ScribbleSimulator
from datamodules.transforms import Image, Labels

SUPERVISIONS = ("clicks", "scribbles", "full")


@dataclass(frozen=True)
class FolderDataset(SegmentationDataset):
    """One split of the layout above.

    Args:
        images: Sorted paths.
        masks: Folder of dense masks, ``None`` where there is no truth.
        num_classes: C.
        weak: What training sees: vectors by image name, a folder of sparse index PNGs, or ``None`` for the masks.
        simulate: Turns a mask and the image's index into vectors where ``weak`` is ``None``.
        max_side: Larger images are reduced to this longest side, pixels, and their labels with them.
    """

    images: list[Path]
    masks: Path | None
    num_classes: int
    weak: dict[str, list[Annotation]] | Path | None = None
    simulate: Callable[[LabelMap, int], list[Annotation]] | None = None
    max_side: int | None = None

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        """Return the file name without its suffix."""
        return self.images[index].stem

    def image(self, index: int) -> Image:
        """Return uint8 (H, W, 3), RGB."""
        return reduce(read_image(self.images[index]), self._factor(index), cv2.INTER_AREA)

    def mask(self, index: int) -> LabelMap | None:
        """Return the dense truth, uint8 (H, W), if there is any."""
        return None if self.masks is None else self._reduced_map(self.masks, index)

    def labels(self, index: int) -> Labels:
        """Return the vectors or the label map that training may see."""
        if isinstance(self.weak, Path) or (self.weak is None and self.simulate is None):
            return self._reduced_map(self.weak or self.masks, index)
        size = np.array(image_size(self.images[index]))
        factor = _reduced_size(size, self._factor(index)) / size  # per axis, as the reduced sides are rounded
        return [Annotation(a.label, a.points * factor) for a in self.vectors(index)]

    def vectors(self, index: int) -> list[Annotation]:
        """Return the vectors in pixels of the file, not of the reduced image."""
        if isinstance(self.weak, dict):
            return self.weak.get(self.name(index), [])
        assert self.simulate is not None
        return self.simulate(self._read_map(self.masks, index), index)

    def problem(self, index: int) -> str | None:
        """Read everything about one image and say what is wrong with it."""
        try:
            size = read_image(self.images[index]).shape[:2]
            for folder in (self.masks, self.weak):
                if isinstance(folder, Path) and (labels := self._read_map(folder, index)).shape != size:
                    return (
                        f"{folder / self.name(index)}.png is {labels.shape[1]} x {labels.shape[0]} but its image is "
                        f"{size[1]} x {size[0]}; export it at the size of the image."
                    )
        except ValueError as error:
            return str(error)
        return None

    def _factor(self, index: int) -> float:
        if self.max_side is None:
            return 1.0
        return min(1.0, self.max_side / max(image_size(self.images[index])))

    def _reduced_map(self, folder: Path | None, index: int) -> LabelMap:
        return reduce(self._read_map(folder, index), self._factor(index), cv2.INTER_NEAREST_EXACT)

    def _read_map(self, folder: Path | None, index: int) -> LabelMap:
        if folder is None:
            raise ValueError(f"There are no labels for {self.images[index]}.")
        path = folder / f"{self.name(index)}.png"
        if not path.is_file():
            raise ValueError(f"{path} is missing; every image of that split needs one.")
        return read_label_map(path, self.num_classes)


def reduce(array: NDArray[np.uint8], factor: float, interpolation: int) -> NDArray[np.uint8]:
    """Resize (H, W, ...) by a factor of at most 1."""
    if factor == 1:
        return array
    size = _reduced_size(np.array(array.shape[1::-1]), factor).tolist()
    return np.asarray(cv2.resize(array, size, interpolation=interpolation), dtype=np.uint8)


def _reduced_size(size: NDArray[np.integer], factor: float) -> NDArray[np.integer]:
    return np.asarray(np.maximum(1, np.rint(size * factor)), dtype=np.int64)


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
        crop: See :class:`SegmentationDataModule`, as for the rest.

    Raises:
        ValueError: A folder that is not as above; the message names the file and the remedy.
    """

    def __init__(
        self,
        root: str,
        supervision: str = "clicks",
        click_simulator: ClickSimulator | None = None,
        scribble_simulator: ScribbleSimulator | None = None,
        max_side: int | None = None,
        cache_dir: str | None = None,
        crop: int = 256,
        scale: tuple[float, float] = (0.5, 2.0),
        flip: float = 0.5,
        width: int = 1,
        batch_size: int = 16,
        num_workers: int = 4,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        seed: int = 0,
    ) -> None:
        super().__init__(crop, scale, flip, width, batch_size, num_workers, mean, std, seed)
        if supervision not in SUPERVISIONS:
            raise ValueError(f"supervision is {supervision!r}; a folder has {', '.join(SUPERVISIONS)}.")
        self.root = Path(root)
        self.supervision = supervision
        self.max_side = max_side
        self.cache_dir = Path(cache_dir) if cache_dir else self.root / ".gatedcrf"
        self.clicks = click_simulator or ClickSimulator()
        self.scribbles = scribble_simulator or ScribbleSimulator()
        if not (self.root / "classes.txt").is_file():
            raise ValueError(f"There is no {self.root / 'classes.txt'}; write one class name per line.")
        lines = (self.root / "classes.txt").read_text(encoding="utf-8-sig").splitlines()
        self.class_names = [line.strip() for line in lines if line.strip()]
        if not 2 <= self.num_classes < IGNORE_INDEX:
            raise ValueError(f"{self.root / 'classes.txt'} names {self.num_classes} classes; 2 to 254 are possible.")

    def prepare_data(self) -> None:
        """Check every file once and simulate missing labels; both are kept until a file changes."""
        marker = self.cache_dir / f"checked-{self._digest()}"
        if not marker.exists():
            problems = self.problems()
            if problems:
                more = f"\n... and {len(problems) - 5} more; see: gatedcrf data check" if len(problems) > 5 else ""
                raise ValueError("\n".join([f"{len(problems)} problems in {self.root}:", *problems[:5]]) + more)
            self.cache_dir.mkdir(parents=True, exist_ok=True)
            marker.touch()
        self.train_split()

    def problems(self) -> list[str]:
        """Read every file of both splits and return what is wrong, a line each."""
        found = []
        for split in (self._split("train", self._weak_files()), self.val_split()):
            with ThreadPoolExecutor() as pool:
                checks = track(pool.map(split.problem, range(len(split))), "Checking", len(split), transient=True)
                found += [problem for problem in checks if problem]
        return found

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
        simulate = None if self.supervision == "full" else self._simulate
        return FolderDataset(images, self.root / "masks" / name, self.num_classes, None, simulate, self.max_side)

    def _simulate(self, mask: LabelMap, index: int) -> list[Annotation]:
        classes = {label: label for label in range(self.num_classes)}
        if self.supervision == "clicks":
            return self.clicks(mask, classes)
        return self.scribbles(mask, classes, np.random.default_rng(index))

    def _simulated(self, split: FolderDataset) -> dict[str, list[Annotation]]:
        """Weak labels simulated from the masks, from the cache where nothing has changed."""
        path = self.cache_dir / f"{self.supervision}-{self._digest()}.json"
        if not path.is_file():
            with ThreadPoolExecutor() as pool:
                found = track(pool.map(split.vectors, range(len(split))), "Simulating", len(split), transient=True)
                content = {split.name(i): to_json(a) for i, a in enumerate(found)}
            self.cache_dir.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".part")
            temporary.write_text(json.dumps(content))
            temporary.replace(path)
        return self._read_vectors(path)

    def _weak_files(self) -> dict[str, list[Annotation]] | Path | None:
        """Labels that the user drew, if any."""
        vectors, maps = self.root / f"{self.supervision}.json", self.root / self.supervision / "train"
        if vectors.is_file():
            return self._read_vectors(vectors)
        return maps if maps.is_dir() else None

    def _read_vectors(self, path: Path) -> dict[str, list[Annotation]]:
        try:
            weak = {name: from_json(items) for name, items in json.loads(path.read_text()).items()}
        except (ValueError, AttributeError, TypeError, OverflowError) as error:
            form = '{"NAME": [{"class": 1, "points": [[x, y], ...]}, ...], ...}'
            raise ValueError(f"{path} is not of the form {form}: {error}") from error
        known = {image.stem for image in list_images(self.root / "images" / "train")}
        for name, annotations in weak.items():
            if name not in known:
                raise ValueError(
                    f"{path} labels {name!r}, but images/train has no such image; use names without suffix."
                )
            for label in {a.label for a in annotations}:
                if not 0 <= label < self.num_classes:
                    raise ValueError(
                        f"{path} gives {name!r} the class {label}; classes are 0 to {self.num_classes - 1}."
                    )
        return weak

    def _digest(self) -> str:
        """Changes with any file, and with what the simulated labels depend on."""
        key: list[object] = [self.supervision, self.clicks, self.scribbles]
        for path in sorted(path for path in self.root.rglob("*") if path.is_file() and path.parent != self.cache_dir):
            stat = path.stat()
            key.append((str(path.relative_to(self.root)), stat.st_size, stat.st_mtime_ns))
        return sha256(repr(key).encode()).hexdigest()[:16]
