"""Pascal VOC 2012 with SBD, ScribbleSup and What's the Point, Sec. 4.1."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from datamodules.datamodule import SegmentationDataModule
from datamodules.extra_inputs import classes_of
from datamodules.io.click_files import merge, read_clicks
from datamodules.io.errors import InputError
from datamodules.loader import LoaderOptions
from datamodules.proposals import Proposals
from datamodules.simulate_boxes import to_tags
from datamodules.transforms import RandomScaleCropFlip
from datamodules.validation import find_problems
from datamodules.voc.boxes import BoxFiles
from datamodules.voc.dataset import VOCDataset, Weak
from datamodules.voc.files import CLASSES, VOCFiles, unpublished
from datamodules.voc.scribblesup import ScribbleFiles

CLICK_FILES = {
    "voc_whats_the_point.json": "0ad942dc53197a1d7ce549000414adea39ac688d6c4ae7a1af27830469c73dc6",
    "voc_whats_the_point_bg_from_scribbles.json": "45fdf2eff36a0ffc56a889efab2ca40788f074f8372dde4e8f81951bc7c79952",
}
"""SHA-256 of the published click files: objects, then background, which lies on top."""
DERIVED_BACKGROUND = "whats_the_point_clicks_bg.json"
"""Output of ``gatedcrf data background-clicks``, used if the published background clicks are missing."""
SCRIBBLES = ("scribble_annotation.zip", "scribble_annotation", "voc_scribbles.zip", "pascal_2012_scribble")


class VOCDataModule(SegmentationDataModule):
    """Pascal VOC 2012 with SBD: 10,582 training images and 1,449 validation images, 21 classes.

    Args:
        root: Folder with the files that ``gatedcrf data download`` names.
        supervision: Training labels: "clicks", "tags" (the classes of the clicks), "boxes" (of VOC's annotations),
            "scribbles" or "full". Only "full" needs the masks of SBD.
        clicks: One or several click files, later ones on top. ``None`` reads the published files in ``root``, or the
            derived background clicks if the published ones are missing.
        scribbles: ScribbleSup as a zip or a folder, or a folder of rasterized scribbles. ``None`` looks in ``root``.
        rasterize_first: Draw clicks and scribbles before the augmentation, as competing papers do, instead of after it.
        published_split: Compare image lists and click files with their published checksums.
        max_side: Reduce larger images to this longest side, pixels, when they are read. mIoU and predictions then
            refer to the reduced images.
        augmentation: See :class:`SegmentationDataModule`, also for ``loader`` and ``seed``.
        stroke_width: Width of clicks and strokes, pixels of the crop. ``None`` is 1 for clicks and 3 for scribbles,
            Sec. 4.1.
    """

    supervisions = ("clicks", "tags", "boxes", "scribbles", "full")

    def __init__(
        self,
        root: str,
        supervision: str = "clicks",
        clicks: Sequence[str] | str | None = None,
        scribbles: str | None = None,
        rasterize_first: bool = False,
        published_split: bool = True,
        max_side: int | None = None,
        augmentation: RandomScaleCropFlip = RandomScaleCropFlip(crop=256),
        stroke_width: int | None = None,
        loader: LoaderOptions = LoaderOptions(48, 8),
        seed: int = 0,
        proposals: Proposals = Proposals(),
    ) -> None:
        if stroke_width is None:
            stroke_width = 3 if supervision == "scribbles" else 1
        super().__init__(supervision, augmentation, stroke_width, loader, seed, proposals)
        self.class_names = list(CLASSES)
        self.files = VOCFiles(Path(root))
        self.clicks = [clicks] if isinstance(clicks, str) else clicks
        self.scribbles = scribbles
        self.raster_width = stroke_width if rasterize_first else None
        self.published_split = published_split
        self.max_side = max_side

    @cached_property
    def weak(self) -> Weak:
        """Weak labels, read once."""
        if self.supervision in ("clicks", "tags"):
            classes = {label: label for label in range(len(CLASSES))}
            clicks = merge([read_clicks(path, classes) for path in self._click_files()])
            tags = self.supervision == "tags"
            return {name: to_tags(classes_of(each)) for name, each in clicks.items()} if tags else clicks
        if self.supervision == "boxes":
            return BoxFiles(self.files.voc / "Annotations")
        if self.supervision == "scribbles":
            path = self._find_scribbles()
            return path if path.is_dir() and next(path.glob("*.png"), None) else ScribbleFiles(path)
        return None

    def train_split(self) -> VOCDataset:
        """Return the training images with the labels of the supervision."""
        names = self.files.train_aug(() if self.supervision == "boxes" else self._labeled())  # all of VOC has boxes
        return VOCDataset(self.files, names, self.weak, self.raster_width, max_side=self.max_side)

    def val_split(self) -> VOCDataset:
        """Return the validation images with their dense masks."""
        return VOCDataset(self.files, self.files.val(), max_side=self.max_side)

    def quick_problems(self, split: str) -> Iterator[InputError]:
        """Yield lists and files that differ from the published ones, and training images without labels."""
        remedy = f"download VOC and SBD again into {self.files.root}, or pass --data.published_split=false for a part."
        if split != "train":
            yield from unpublished("val", self.files.val(), remedy) if self.published_split else ()
            return
        images = self.train_split()
        if self.published_split:
            yield from self._unpublished_clicks()
            yield from unpublished("train_aug", images.names, remedy)
        if self.weak is not None:
            yield from find_problems(images, training=True, skip=self._labeled())

    def _click_files(self) -> list[Path]:
        if self.clicks is not None:
            return [Path(path) for path in self.clicks]
        objects, background = (self.files.root / name for name in CLICK_FILES)
        derived = self.files.root / DERIVED_BACKGROUND
        return [objects, derived if derived.exists() and not background.exists() else background]

    def _unpublished_clicks(self) -> Iterator[InputError]:
        if self.supervision in ("clicks", "tags") and self.clicks is None:
            for path in self._click_files():
                if path.name in CLICK_FILES and sha256(path.read_bytes()).hexdigest() != CLICK_FILES[path.name]:
                    message = f"{path} is not the published file; download it again, or pass --data.clicks=FILE."
                    yield InputError(message, "checksum of a file", path)

    def _labeled(self) -> set[str]:
        """Return the names with weak labels. The published object clicks also name images of neither split."""
        if isinstance(self.weak, Path):
            return {path.stem for path in self.weak.glob("*.png")}
        if isinstance(self.weak, BoxFiles):
            return self.weak.names()
        return set(self.weak.members if isinstance(self.weak, ScribbleFiles) else self.weak or ())

    def _find_scribbles(self) -> Path:
        paths = [self.files.root / name for name in SCRIBBLES] if self.scribbles is None else [Path(self.scribbles)]
        for path in paths:
            if path.exists():
                return path
        remedy = "see: gatedcrf data download scribblesup, or pass --data.scribbles=PATH"
        raise InputError(f"{paths[0]} does not exist; {remedy}.")
