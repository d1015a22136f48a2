"""Pascal VOC 2012 with the annotations of SBD, ScribbleSup and What's the Point, Sec. 4.1."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from datamodules.datamodule import LoaderOptions, SegmentationDataModule
from datamodules.io.click_files import merge, read_clicks
from datamodules.io.errors import InputError
from datamodules.transforms import RandomScaleCropFlip
from datamodules.validation import find_unlabeled
from datamodules.voc.dataset import VOCDataset, Weak
from datamodules.voc.files import CLASSES, VOCFiles, unpublished
from datamodules.voc.scribblesup import ScribbleFiles

CLICK_FILES = {
    "voc_whats_the_point.json": "0ad942dc53197a1d7ce549000414adea39ac688d6c4ae7a1af27830469c73dc6",
    "voc_whats_the_point_bg_from_scribbles.json": "45fdf2eff36a0ffc56a889efab2ca40788f074f8372dde4e8f81951bc7c79952",
}
"""sha256 of the published files of clicks, those of the background on top."""
DERIVED_BACKGROUND = "whats_the_point_clicks_bg.json"
"""What ``gatedcrf data background-clicks`` writes, for where the published file is not."""
SCRIBBLES = ("scribble_annotation.zip", "scribble_annotation", "voc_scribbles.zip", "pascal_2012_scribble")


class VOCDataModule(SegmentationDataModule):
    """Pascal VOC 2012: 10,582 training images (with those of SBD) and 1,449 validation images, 21 classes.

    Args:
        root: Holds the trees that ``gatedcrf data download`` names.
        supervision: What training may see: "clicks", "scribbles" or "full". Only "full" needs the masks of SBD.
        clicks: One or several files of clicks, later ones on top; ``None`` is the two published ones in ``root``, or
            the derived one of the background where the published one is not there.
        scribbles: ScribbleSup's files in any of their forms, or a folder of rasterized scribbles; ``None`` looks for
            them in ``root``.
        rasterize_first: Draw clicks and scribbles before the augmentation, as competing papers do, instead of after it.
        published_split: Hold the lists of images and the published files of clicks against their checksums.
        stroke_width: Width of clicks and strokes, pixels; ``None`` is 1 for clicks and 3 for scribbles, Sec. 4.1.
        augmentation: See :class:`SegmentationDataModule`, as for the rest.

    Raises:
        InputError: An unknown supervision.
    """

    supervisions = ("clicks", "scribbles", "full")

    def __init__(
        self,
        root: str,
        supervision: str = "clicks",
        clicks: Sequence[str] | str | None = None,
        scribbles: str | None = None,
        rasterize_first: bool = False,
        published_split: bool = True,
        augmentation: RandomScaleCropFlip = RandomScaleCropFlip(crop=256),
        stroke_width: int | None = None,
        loader: LoaderOptions = LoaderOptions(48, 8),
        seed: int = 0,
    ) -> None:
        if stroke_width is None:
            stroke_width = 3 if supervision == "scribbles" else 1
        super().__init__(supervision, augmentation, stroke_width, loader, seed)
        self.class_names = list(CLASSES)
        self.files = VOCFiles(Path(root))
        paths = [clicks] if isinstance(clicks, str) else clicks
        self.clicks = None if paths is None else [Path(path) for path in paths]
        self.scribbles = None if scribbles is None else Path(scribbles)
        self.raster_width = stroke_width if rasterize_first else None
        self.published_split = published_split

    @property
    def _click_files(self) -> list[Path]:
        if self.clicks is not None:
            return self.clicks
        objects, background = (self.files.root / name for name in CLICK_FILES)
        derived = self.files.root / DERIVED_BACKGROUND
        return [objects, derived if derived.exists() and not background.exists() else background]

    @cached_property
    def weak(self) -> Weak:
        """The weak labels, read once."""
        if self.supervision == "clicks":
            classes = {label: label for label in range(len(CLASSES))}
            return merge([read_clicks(path, classes) for path in self._click_files])
        if self.supervision == "scribbles":
            path = self.scribbles or self._find_scribbles()
            return path if path.is_dir() and next(path.glob("*.png"), None) else ScribbleFiles(path)
        return None

    def train_split(self) -> VOCDataset:
        """Return the images of train_aug with the labels of the chosen supervision."""
        return VOCDataset(self.files, self.files.train_aug(self._labeled()), self.weak, self.raster_width)

    def val_split(self) -> VOCDataset:
        """Return the validation images with their dense masks."""
        return VOCDataset(self.files, self.files.val())

    def quick_problems(self, split: str) -> Iterator[InputError]:
        """Yield lists and files that are not the published ones, and training images without labels.

        Args:
            split: "train", "val" or "predict".
        """
        remedy = f"fetch VOC and SBD again into {self.files.root}, or pass --data.published_split=false for a part."
        if split != "train":
            yield from unpublished("val", self.files.val(), remedy) if self.published_split else ()
            return
        images = self.train_split()
        if self.published_split:
            yield from self._unpublished_clicks()
            yield from unpublished("train_aug", images.names, remedy)
        if self.weak is not None:
            yield from find_unlabeled(images, self._labeled())

    def _unpublished_clicks(self) -> list[InputError]:
        paths = self._click_files if self.supervision == "clicks" and self.clicks is None else []
        return [
            InputError(
                f"{path} is not the published file; fetch it again, or name yours with --data.clicks.",
                "checksum of a file",
                path,
            )
            for path in paths
            if path.name in CLICK_FILES and sha256(path.read_bytes()).hexdigest() != CLICK_FILES[path.name]
        ]

    def _labeled(self) -> set[str]:
        """Names that have weak labels; the published file of objects also names images of neither split."""
        if isinstance(self.weak, Path):
            return {path.stem for path in self.weak.glob("*.png")}
        return set(self.weak.members if isinstance(self.weak, ScribbleFiles) else self.weak or ())

    def _find_scribbles(self) -> Path:
        paths = [self.files.root / name for name in SCRIBBLES]
        for path in paths:
            if path.exists():
                return path
        raise InputError(
            f"{self.files.root} holds no scribbles; put scribble_annotation.zip there or pass --data.scribbles=PATH."
        )
