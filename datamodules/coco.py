"""COCO annotations: instances as polygons or RLE, crowd regions, boxes and keypoints, as annotation tools export them.

Of pycocotools only ``mask`` is used: ``COCO`` prints and accepts any JSON, and ``mask`` makes stray memory of RLE that
does not fill its image, so everything is checked before.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from pycocotools import mask as rle
from pytorch_lightning.trainer.states import TrainerFn
from rich.progress import track

from datamodules.annotations import Annotation, LabelMap
from datamodules.clicks import ClickSimulator
from datamodules.datamodule import IMAGENET_MEAN, IMAGENET_STD, SegmentationDataModule
from datamodules.dataset import SegmentationDataset
from datamodules.files import image_size, read_image
from datamodules.sample import IGNORE_INDEX
from datamodules.scribbles import ScribbleSimulator
from datamodules.transforms import Image, Labels

Region = NDArray[np.bool_]
Instances = NDArray[np.int32]
Drawn = Mapping[int, list[Annotation]]
SUPERVISIONS = ("clicks", "keypoints", "scribbles", "full")
VISIBLE = 2  # of a keypoint; 0 is not labeled, 1 labeled but hidden
IGNORED = -1  # in a map of instances


@dataclass(frozen=True)
class CocoImage:
    """One image of a file.

    Args:
        id: As in the file.
        file_name: Path inside the folder of images.
        size: (H, W), pixels.
        packed: Its annotations as JSON: loader processes copy objects that they touch, and these would be millions.
    """

    id: int
    file_name: str
    size: tuple[int, int]
    packed: str = "[]"

    @property
    def name(self) -> str:
        """The file name without its suffix, with its folders."""
        return PurePosixPath(self.file_name).with_suffix("").as_posix()

    def annotations(self) -> dict[int, dict[str, Any]]:
        """Return what is annotated, numbered from 1."""
        return dict(enumerate(json.loads(self.packed), 1))


@dataclass(frozen=True)
class CocoFile:
    """A file that has been checked.

    Args:
        path: Where it lies.
        categories: Names by id, sorted by id.
        images: In the order of the file.
    """

    path: Path
    categories: dict[int, str]
    images: list[CocoImage]

    @property
    def annotated(self) -> bool:
        """Whether there is any annotation."""
        return any(image.annotations() for image in self.images)

    def classes(self, background: bool) -> dict[int, int]:
        """Return the class of each category id: from 1 in order of id or, without a background, from 0."""
        return {category: label for label, category in enumerate(self.categories, int(background))}


def read_coco(path: Path) -> CocoFile:
    """Read and check a COCO file; one without "annotations" is a list of images.

    Raises:
        ValueError: A file that cannot be used; the message names the annotation and the remedy.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON ({error}); pass a COCO annotation file.") from error
    for key in ("images", "categories", "annotations"):
        items = content.get(key, [] if key == "annotations" else None) if isinstance(content, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise ValueError(f"{path} has no list {key!r}; export COCO instances or keypoints, not results.")
    categories, images = dict[int, str](), dict[int, CocoImage]()
    for item in content["categories"]:
        where = f"{path}, category {item.get('id')!r}"
        category, name = _field(item, "id", int, where), _field(item, "name", str, where)
        if category in categories or name in categories.values():
            raise ValueError(f"{where} ({name!r}) is there twice; give every category an id and a name of its own.")
        categories[category] = name
    for item in content["images"]:
        where = f"{path}, image {item.get('id')!r}"
        size = (_field(item, "height", int, where), _field(item, "width", int, where))
        image = CocoImage(_field(item, "id", int, where), _field(item, "file_name", str, where), size)
        inside = PurePosixPath(image.file_name)
        if min(size) < 1 or inside.is_absolute() or ".." in inside.parts or not inside.stem:
            raise ValueError(
                f"{where} is {image.file_name!r} of {size[1]} x {size[0]} pixels; write its path inside the folder of "
                "images, and its size."
            )
        if image.id in images:
            raise ValueError(f"{where} is there twice; give every image an id of its own.")
        images[image.id] = image
    for name, count in Counter(image.name for image in images.values()).items():
        if count > 1:
            raise ValueError(
                f"{path} has {count} images {name!r}; predictions are named after them, so rename all but one."
            )
    found: dict[int, list[dict[str, Any]]] = {key: [] for key in images}
    for number, item in enumerate(content.get("annotations", [])):
        where = f"{path}, annotation {item.get('id', f'at position {number}')}"
        for key, known in (("image_id", images), ("category_id", categories)):
            if _field(item, key, int, where) not in known:
                raise ValueError(f"{where} has the {key} {item[key]}, which the file does not list; export both.")
        found[item["image_id"]].append(_checked(item, images[item["image_id"]].size, where))
    return CocoFile(
        path,
        dict(sorted(categories.items())),
        [replace(image, packed=json.dumps(found[image.id])) for image in images.values()],
    )


def _field(item: Mapping[str, Any], key: str, kind: type, where: str) -> Any:
    if not isinstance(item.get(key), kind):
        raise ValueError(f"{where} has the {key} {item.get(key)!r}; COCO needs one of type {kind.__name__}.")
    return item[key]


def _checked(item: Mapping[str, Any], size: tuple[int, int], where: str) -> dict[str, Any]:
    """Return the parts of an annotation that are used."""
    used = {"id": item.get("id"), "category_id": item["category_id"], "crowd": bool(item.get("iscrowd"))}
    segmentation, box, keypoints = (item.get(key) or None for key in ("segmentation", "bbox", "keypoints"))
    if isinstance(segmentation, list):
        for polygon in segmentation:
            reach = 2 * max(size)  # what lies farther out is in other units, and would take memory to draw
            if not _numbers(polygon, reach) or len(polygon) % 2 or len(polygon) < 6:
                raise ValueError(
                    f"{where} has the polygon {str(polygon)[:60]}; it needs three or more pairs [x, y, x, y, x, y] in "
                    f"pixels of an image of {size[1]} x {size[0]}."
                )
    elif isinstance(segmentation, dict):
        filled = sum(_run_lengths(segmentation.get("counts"), where))
        if segmentation.get("size") != list(size) or filled != size[0] * size[1]:
            raise ValueError(
                f"{where} has RLE of size {segmentation.get('size')} whose counts fill {filled} pixels, but its image "
                f"has [height, width] {list(size)}; export it at the size of the image."
            )
    elif segmentation is not None:
        raise ValueError(f"{where} has the segmentation {segmentation!r}; polygons or RLE are known.")
    if box and (not _numbers(box) or len(box) != 4 or min(box[2:]) < 0):
        raise ValueError(f"{where} has the bbox {box!r}; write [x, y, width, height].")
    if keypoints and (not _numbers(keypoints) or len(keypoints) % 3 or not {0, 1, VISIBLE}.issuperset(keypoints[2::3])):
        raise ValueError(f"{where} has the keypoints {keypoints!r}; write [x, y, v, ...] with v = 0, 1 or {VISIBLE}.")
    if not (segmentation or box or keypoints):
        raise ValueError(f"{where} has neither segmentation nor bbox nor keypoints; remove it.")
    parts = {"segmentation": segmentation, "bbox": box, "keypoints": keypoints}
    return {**used, **{key: part for key, part in parts.items() if part}}


def _numbers(values: Any, limit: float = 1e9) -> bool:
    """Whether this is a list of numbers within (-limit, limit), which neither infinity nor not-a-number is."""
    try:
        array = np.asarray(values)
    except ValueError:  # of lists that differ in length
        return False
    known = isinstance(values, list) and array.ndim == 1 and array.dtype.kind in "if"
    return known and bool((array > -limit).all() and (array < limit).all())


def _run_lengths(counts: Any, where: str) -> list[int]:
    """Return the lengths of the runs, which alternate between outside and inside.

    A compressed count takes 5 bits of each character from the lowest on, the sixth bit says that more follow, and from
    the fourth count on it is the difference to the count before the last.
    """
    runs: list[int] = []
    if isinstance(counts, str):
        value = shift = 0
        for code in (ord(character) - 48 for character in counts):
            value |= (code & 31) << shift
            shift += 5
            if not 0 <= code < 64 or shift > 40:
                raise ValueError(f"{where} has broken RLE {counts[:40]!r}; export it again.")
            if code & 32:
                continue
            if code & 16:  # the sign
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
        counts = [*runs, -1] if shift else runs  # the last count is cut off
    if not isinstance(counts, list) or not all(isinstance(run, int) and run >= 0 for run in counts):
        raise ValueError(f"{where} has broken RLE {str(counts)[:40]!r}; export it again.")
    return counts


def fill_polygons(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> Region:
    """Return the pixels, bool (H, W), of polygons [x, y, x, y, ...] of three or more corners, as COCO draws them."""
    return np.asarray(rle.decode(rle.merge(rle.frPyObjects([list(p) for p in polygons], *size))), dtype=bool)


def stack(regions: Mapping[int, Region], size: tuple[int, int]) -> Instances:
    """Draw regions into one map, smaller ones on top of larger ones and, of equal ones, the later.

    Args:
        regions: bool (H, W) by the value to draw.
        size: (H, W).

    Returns:
        int32 (H, W), 0 where there is none.
    """
    instances = np.zeros(size, dtype=np.int32)
    for value in sorted(regions, key=lambda value: -np.count_nonzero(regions[value])):
        instances[regions[value]] = value
    return instances


def compose(image: CocoImage) -> Instances:
    """Return the number of the annotation on top, int32 (H, W), of :meth:`CocoImage.annotations`.

    Where no instance lies, crowd and boxes are IGNORED and the rest is 0. An annotation without segmentation and box
    could lie anywhere: nothing is 0 then.
    """
    regions, ignored = dict[int, Region](), np.zeros(image.size, dtype=bool)
    for number, annotation in image.annotations().items():
        region = _region(annotation, image.size)
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
        counts = segmentation["counts"]
        compressed = segmentation if isinstance(counts, str) else rle.frPyObjects(segmentation, *size)
        return np.asarray(rle.decode(compressed), dtype=bool)
    x, y, width, height = annotation.get("bbox", (0, 0, 0, 0))
    if width * height == 0:
        return np.ones(size, dtype=bool)
    region = np.zeros(size, dtype=bool)
    bounds = np.clip([np.floor(y), np.ceil(y + height), np.floor(x), np.ceil(x + width)], 0, max(size)).astype(int)
    region[bounds[0] : bounds[1], bounds[2] : bounds[3]] = True
    return region


def keypoint_clicks(image: CocoImage, classes: Mapping[int, int]) -> dict[int, list[Annotation]]:
    """Return a click per visible keypoint, by the number of the annotation; those without are left out."""
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
        folder: Where the images lie.
        file: Its images and annotations.
        background: Whether class 0 is what no instance covers; false leaves that unlabeled.
        ignore_boxes: Accept boxes without a segmentation, and leave what they cover unlabeled.
        simulate: Turns a map of instances, the class of each value, the keypoints and the image's name into vectors;
            ``None`` shows the masks.
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
        """Return the file name without its suffix, with its folders."""
        return self.file.images[index].name

    def image(self, index: int) -> Image:
        """Return uint8 (H, W, 3), RGB."""
        return read_image(self._path(index))

    def mask(self, index: int) -> LabelMap:
        """Return the dense truth, uint8 (H, W)."""
        labels = np.full(len(self.file.images[index].annotations()) + 2, IGNORE_INDEX, dtype=np.uint8)
        for value, label in self._classes(index).items():
            labels[value] = label
        return np.asarray(labels[compose(self.file.images[index])])  # IGNORED is the last

    def labels(self, index: int) -> Labels:
        """Return the vectors, simulated on first use, or the label map that training may see."""
        if self.simulate is None:
            return self.mask(index)
        if index not in self._simulated:
            image = self.file.images[index]
            drawn = keypoint_clicks(image, self.file.classes(self.background))
            self._simulated[index] = self.simulate(compose(image), self._classes(index), drawn, image.name)
        return self._simulated[index]

    def shape(self, index: int) -> tuple[int, int]:
        """Return (H, W) from the file."""
        return self.file.images[index].size

    def problem(self, index: int, training: bool) -> str | None:
        """Read everything about one image and say what is wrong with it."""
        return self.mismatch(index) or super().problem(index, training)

    def mismatch(self, index: int) -> str | None:
        """Say where an image and its annotations do not fit, without decoding either."""
        image, path = self.file.images[index], self._path(index)
        if not path.is_file():
            return f"{path} is missing, but {self.file.path} lists it; put it there or pass another folder of images."
        try:
            width, height = image_size(path)
        except ValueError as error:
            return str(error)
        if (height, width) != image.size:
            found = f"{path} is {width} x {height}, but {self.file.path} says {image.size[1]} x {image.size[0]};"
            with PILImage.open(path) as picture:
                if picture.size == image.size[::-1]:
                    turned = "it was annotated without the turn that its EXIF orientation asks for; remove that with"
                    return f"{found} {turned} `exiftool -Orientation= FILE`."
            return f"{found} export the annotations of the images in that folder."
        for annotation in image.annotations().values():
            if not (self.ignore_boxes or annotation["crowd"] or "segmentation" in annotation):
                return (
                    f"{self.file.path}, annotation {annotation['id']} has no segmentation; draw its outline, or leave "
                    "what its box covers unlabeled with --data.ignore_boxes=true."
                )
        return None

    def _classes(self, index: int) -> dict[int, int]:
        """Class of each value of the map of instances."""
        classes = self.file.classes(self.background)
        annotations = self.file.images[index].annotations().items()
        return {**({0: 0} if self.background else {}), **{n: classes[a["category_id"]] for n, a in annotations}}

    def _path(self, index: int) -> Path:
        return self.folder / self.file.images[index].file_name


class CocoDataModule(SegmentationDataModule):
    """Images with COCO annotations.

    Category ids are sorted and become the classes from 1 on, or from 0 on without a background. Smaller instances lie
    on top of larger ones. Crowd regions are unlabeled. An image without annotations shows none of the categories.
    Images are turned as their EXIF orientation says, as annotation tools show them.

    Args:
        images: Folder of the training images.
        train_annotations: Their COCO file. It is not read to predict.
        val_annotations: COCO file of the validation images, with the same categories; these images are predicted.
        supervision: What training may see: "clicks" (visible keypoints, and one simulated click per visible part of
            the instances without), "keypoints" (those, and simulated clicks on the background), "scribbles" (simulated)
            or "full".
        background: Whether class 0, "background", is what no instance covers; false leaves that unlabeled.
        ignore_boxes: Accept boxes without a segmentation, and leave what they cover unlabeled. Training with keypoints
            always does.
        val_images: Folder of the validation images; ``None`` is ``images``.
        click_simulator: Its ``min_area`` is in pixels of these images.
        scribble_simulator: Likewise.
        crop: See :class:`SegmentationDataModule`, as for the rest.

    Raises:
        ValueError: A file that cannot be used; the message names the annotation and the remedy.
    """

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
            raise ValueError(f"supervision is {supervision!r}; COCO has {', '.join(SUPERVISIONS)}.")
        self.images = Path(images)
        self.val_images = Path(val_images) if val_images else self.images
        self.train_annotations = Path(train_annotations)
        self.supervision = supervision
        self.background = background
        self.ignore_boxes = ignore_boxes
        self.clicks = click_simulator or ClickSimulator()
        self.scribbles = scribble_simulator or ScribbleSimulator()
        self._val_file = read_coco(Path(val_annotations))
        self.class_names = [*(["background"] if background else []), *self._val_file.categories.values()]
        if len(set(self.class_names)) < self.num_classes:
            raise ValueError(
                f"{val_annotations} has a category 'background' beside class 0 of that name; rename it, or pass "
                "--data.background=false if it covers the background."
            )
        if not 2 <= self.num_classes < IGNORE_INDEX:
            raise ValueError(f"{val_annotations} makes {self.num_classes} classes; 2 to 254 are possible.")

    @cached_property
    def _train_file(self) -> CocoFile:
        file = read_coco(self.train_annotations)
        if file.categories != self._val_file.categories:
            differing = sorted(file.categories.items() ^ self._val_file.categories.items())
            raise ValueError(
                f"{file.path} and {self._val_file.path} differ in the categories {differing[:4]}; export them together."
            )
        return file

    def prepare_data(self) -> None:
        """Check that every image of this stage is there and of the size that was annotated.

        Raises:
            ValueError: Something is wrong; the message names the remedy.
        """
        stage = self.trainer.state.fn if self.trainer is not None else TrainerFn.FITTING
        if stage == TrainerFn.PREDICTING:
            problems = _mismatches(self.predict_split())
        elif stage == TrainerFn.FITTING:
            problems = self._missing() or _mismatches(self.train_split()) + _mismatches(self.val_split())
        else:
            problems = _mismatches(self.val_split())
        if problems:
            more = [f"... and {len(problems) - 5} more; see: gatedcrf data check"] if len(problems) > 5 else []
            raise ValueError("\n".join([f"{len(problems)} problems in {self.images}:", *problems[:5], *more]))

    def problems(self) -> list[str]:
        """Read every image and its labels and return what is wrong, a line each."""
        return self._missing() or super().problems()

    def _missing(self) -> list[str]:
        """Name the files without any annotation of the kind that is needed."""
        files = (self._train_file, self._val_file)
        lines = [f"{file.path} has no annotations; export them too." for file in files if not file.annotated]
        classes = self._train_file.classes(self.background)
        if self.supervision == "keypoints" and not any(keypoint_clicks(i, classes) for i in self._train_file.images):
            lines.append(f"{self._train_file.path} has no visible keypoint; choose another --data.supervision.")
        return lines

    def train_split(self) -> CocoDataset:
        """Training images with the labels of the chosen supervision."""
        simulate = {
            "clicks": partial(_clicks, self.clicks),  # no bound method: worker processes get a copy of it
            "keypoints": partial(_keypoints, self.clicks),
            "scribbles": partial(_scribbles, self.scribbles),
        }.get(self.supervision)
        ignore_boxes = self.ignore_boxes or self.supervision == "keypoints"
        return CocoDataset(self.images, self._train_file, self.background, ignore_boxes, simulate)

    def val_split(self) -> CocoDataset:
        """Validation images with their masks."""
        return CocoDataset(self.val_images, self._val_file, self.background, self.ignore_boxes)

    def predict_split(self) -> CocoDataset:
        """The validation images, whose file may lack annotations here."""
        return CocoDataset(self.val_images, self._val_file, self.background, ignore_boxes=True)


def _mismatches(split: CocoDataset) -> list[str]:
    with ThreadPoolExecutor() as pool:
        found = track(pool.map(split.mismatch, range(len(split))), "Checking", len(split), transient=True)
        return [problem for problem in found if problem]


def _clicks(
    simulator: ClickSimulator, instances: Instances, classes: Mapping[int, int], drawn: Drawn, name: str
) -> list[Annotation]:
    return [*simulator(instances, {v: c for v, c in classes.items() if v not in drawn}), *chain(*drawn.values())]


def _keypoints(
    simulator: ClickSimulator, instances: Instances, classes: Mapping[int, int], drawn: Drawn, name: str
) -> list[Annotation]:
    return [*simulator(instances, {v: c for v, c in classes.items() if v == 0}), *chain(*drawn.values())]


def _scribbles(
    simulator: ScribbleSimulator, instances: Instances, classes: dict[int, int], drawn: Drawn, name: str
) -> list[Annotation]:
    return simulator(instances, classes, np.random.default_rng(crc32(name.encode())))


def to_coco_results(label_map: LabelMap, image_id: int, category_ids: Mapping[int, int]) -> list[dict[str, Any]]:
    """Return a prediction as COCO results, which ``COCO.loadRes`` reads: one RLE per predicted category, of score 1.

    Args:
        label_map: Class indices, uint8 (H, W).
        image_id: As in the annotations.
        category_ids: Category id of each class that is reported; others, such as the background, are left out.
    """
    results = []
    for label in np.unique(label_map).tolist():
        if label in category_ids:
            encoded = rle.encode(np.asfortranarray(label_map == label, dtype=np.uint8))
            segmentation = {"size": list(label_map.shape), "counts": encoded["counts"].decode()}
            result = {"image_id": image_id, "category_id": category_ids[label], "segmentation": segmentation}
            results.append({**result, "score": 1.0})
    return results
