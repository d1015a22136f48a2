"""Pascal VOC 2012 with the annotations of SBD, ScribbleSup and What's the Point, Sec. 4.1."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from datamodules.annotations import Annotation, LabelMap, drop_outside, rasterize
from datamodules.click_files import Clicks, merge, read_clicks
from datamodules.datamodule import IMAGENET_MEAN, IMAGENET_STD, SegmentationDataModule
from datamodules.dataset import SegmentationDataset
from datamodules.files import image_size, read_image, read_label_map
from datamodules.scribblesup import ScribbleFiles
from datamodules.transforms import Image, Labels
from datamodules.voc_files import CLASSES, VOCFiles, check_list

SUPERVISIONS = ("clicks", "scribbles", "full")
CLICK_FILES = {
    "voc_whats_the_point.json": "0ad942dc53197a1d7ce549000414adea39ac688d6c4ae7a1af27830469c73dc6",
    "voc_whats_the_point_bg_from_scribbles.json": "45fdf2eff36a0ffc56a889efab2ca40788f074f8372dde4e8f81951bc7c79952",
}
"""sha256 of the published files of clicks, those of the background on top."""
SCRIBBLES = ("scribble_annotation.zip", "scribble_annotation", "voc_scribbles.zip", "pascal_2012_scribble")

Weak = Clicks | ScribbleFiles | Path | None
"""Clicks by name, ScribbleSup's files, a folder of rasterized scribbles NAME.png, or ``None`` for dense masks."""


@dataclass(frozen=True)
class VOCDataset(SegmentationDataset):
    """Some of the images.

    Args:
        files: Where everything lies.
        names: Of the images.
        weak: What training sees.
        raster_width: Draw vectors that wide before the augmentation, which then scales them; ``None`` draws after it.
    """

    files: VOCFiles
    names: Sequence[str]
    weak: Weak = None
    raster_width: int | None = None

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """Return the name of the image, YYYY_NNNNNN."""
        return self.names[index]

    def image_file(self, index: int) -> Path:
        """Return the path of the photograph."""
        return self.files.image(self.names[index])

    def shape(self, index: int) -> tuple[int, int]:
        """Return (H, W) from the header of the photograph."""
        width, height = image_size(self.image_file(index))
        return height, width

    def image(self, index: int) -> Image:
        """Return uint8 (H, W, 3), RGB."""
        return read_image(self.image_file(index))

    def mask(self, index: int) -> LabelMap:
        """Return the dense mask, uint8 (H, W)."""
        return self.files.mask(self.names[index])

    def labels(self, index: int) -> Labels:
        """Return the vectors or the label map that training may see."""
        name = self.names[index]
        if self.weak is None:
            return self.mask(index)
        if isinstance(self.weak, Path):
            return read_label_map(self.weak / f"{name}.png", len(CLASSES))
        vectors = self._vectors(index)
        if self.raster_width is None:
            return vectors
        return rasterize(drop_outside(vectors, self.shape(index)), self.shape(index), self.raster_width)

    def _vectors(self, index: int) -> list[Annotation]:
        """Return clicks or scribbles in continuous coordinates."""
        name = self.names[index]
        if isinstance(self.weak, ScribbleFiles):
            scribbles, size = self.weak.read(name)
            if size != (actual := self.shape(index)):
                raise ValueError(
                    f"{self.weak.path}: the scribbles of {name} are for {size[1]} x {size[0]} pixels but "
                    f"{self.image_file(index)} has {actual[1]} x {actual[0]}; fetch both again."
                )
            return [Annotation(s.label, s.points + 0.5) for s in scribbles]  # from indices to centers of pixels
        assert isinstance(self.weak, dict)
        if name not in self.weak:
            raise ValueError(f"The files of clicks do not name {name}; fetch them again, or name them all in clicks.")
        return self.weak[name]


class VOCDataModule(SegmentationDataModule):
    """Pascal VOC 2012: 10,582 training images (with those of SBD) and 1,449 validation images, 21 classes.

    Args:
        root: Holds the trees that ``gatedcrf data download`` names.
        supervision: What training may see: "clicks", "scribbles" or "full". Only "full" needs the masks of SBD.
        clicks: Files of clicks, later ones on top; ``None`` is the two published ones in ``root``.
        scribbles: ScribbleSup's files in any of their forms, or a folder of rasterized scribbles; ``None`` looks for
            them in ``root``.
        rasterize_first: Draw clicks and scribbles before the augmentation, as competing papers do, instead of after it.
        published_split: Hold the lists of images and the published files of clicks against their checksums.
        width: Width of clicks and strokes, pixels; ``None`` is 1 for clicks and 3 for scribbles, Sec. 4.1.
        crop: See :class:`SegmentationDataModule`, as for the rest.

    Raises:
        ValueError: An unknown supervision.
    """

    def __init__(
        self,
        root: str,
        supervision: str = "clicks",
        clicks: Sequence[str] | None = None,
        scribbles: str | None = None,
        rasterize_first: bool = False,
        published_split: bool = True,
        crop: int = 256,
        scale: tuple[float, float] = (0.5, 2.0),
        flip: float = 0.5,
        width: int | None = None,
        batch_size: int = 48,
        num_workers: int = 8,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        seed: int = 0,
        image_cache: str | None = None,
        window_scale: bool = False,
    ) -> None:
        if supervision not in SUPERVISIONS:
            raise ValueError(f"supervision is {supervision!r}; VOC has {', '.join(SUPERVISIONS)}.")
        if width is None:
            width = 3 if supervision == "scribbles" else 1
        super().__init__(crop, scale, flip, width, batch_size, num_workers, mean, std, seed, image_cache, window_scale)
        self.class_names = list(CLASSES)
        self.files = VOCFiles(Path(root))
        self.supervision = supervision
        self.clicks = None if clicks is None else [Path(path) for path in clicks]
        self.scribbles = None if scribbles is None else Path(scribbles)
        self.raster_width = width if rasterize_first else None
        self.published_split = published_split

    @cached_property
    def _click_files(self) -> list[Clicks]:
        classes = {label: label for label in range(len(CLASSES))}
        if self.clicks is not None:
            return [read_clicks(path, classes) for path in self.clicks]
        paths = {self.files.root / name: checksum for name, checksum in CLICK_FILES.items()}
        clicks = [read_clicks(path, classes) for path in paths]
        for path, checksum in paths.items():
            if self.published_split and sha256(path.read_bytes()).hexdigest() != checksum:
                raise ValueError(f"{path} is not the published file; fetch it again, or name yours with --data.clicks.")
        return clicks

    @cached_property
    def weak(self) -> Weak:
        """The weak labels, read once."""
        if self.supervision == "clicks":
            return merge(self._click_files)
        if self.supervision == "scribbles":
            path = self.scribbles or self._find_scribbles()
            return path if path.is_dir() and next(path.glob("*.png"), None) else ScribbleFiles(path)
        return None

    def train_split(self) -> VOCDataset:
        """Return the images of train_aug with the labels of the chosen supervision."""
        names = self.files.train_aug(self._labeled())
        self._check_list("train_aug", names)
        return VOCDataset(self.files, names, self.weak, self.raster_width)

    def val_split(self) -> VOCDataset:
        """Return the validation images with their dense masks."""
        names = self.files.val()
        self._check_list("val", names)
        return VOCDataset(self.files, names)

    def _check_list(self, split: str, names: Sequence[str]) -> None:
        if self.published_split:
            remedy = f"fetch VOC and SBD again into {self.files.root}, or pass --data.published_split=false for a part."
            check_list(split, names, remedy)

    def _labeled(self) -> list[str]:
        """Names that have weak labels; the published file of objects also names images of neither split."""
        if isinstance(self.weak, dict):
            return sorted(set.intersection(*(set(clicks) for clicks in self._click_files)))
        if isinstance(self.weak, ScribbleFiles):
            return list(self.weak.members)
        return [path.stem for path in self.weak.glob("*.png")] if isinstance(self.weak, Path) else []

    def _find_scribbles(self) -> Path:
        paths = [self.files.root / name for name in SCRIBBLES]
        for path in paths:
            if path.exists():
                return path
        raise ValueError(
            f"{self.files.root} holds no scribbles; put scribble_annotation.zip there or pass --data.scribbles=PATH."
        )
