"""File layout, classes and masks of Cityscapes, and clicks simulated from them, Sec. 6.4."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

from datamodules.annotations import Annotation, LabelMap
from datamodules.io.errors import InputError
from datamodules.io.images import naming
from datamodules.sample import IGNORE_INDEX
from datamodules.simulate_clicks import ClickSimulator

CLASSES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""labelId of each class index; the others are void."""
THINGS = frozenset(range(11, 19))
"""Classes with instance annotations."""
TRAIN_IDS = {label: LABEL_IDS.index(label) if label in LABEL_IDS else IGNORE_INDEX for label in range(-1, 34)}
"""Class index of each labelId, or IGNORE_INDEX."""
PUBLISHED = {
    "train": {
        **{"aachen": 174, "bochum": 96, "bremen": 316, "cologne": 154, "darmstadt": 85, "dusseldorf": 221},
        **{"erfurt": 109, "hamburg": 248, "hanover": 196, "jena": 119, "krefeld": 99, "monchengladbach": 94},
        **{"strasbourg": 365, "stuttgart": 196, "tubingen": 144, "ulm": 95, "weimar": 142, "zurich": 122},
    },
    "val": {"frankfurt": 267, "lindau": 59, "munster": 174},
}
"""Number of images of each city."""


@dataclass(frozen=True)
class CityscapesFiles:
    """Files of Cityscapes. Methods raise :class:`InputError` for a missing or malformed file.

    Args:
        root: Folder with ``leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png`` and
            ``gtFine/SPLIT/CITY/NAME_gtFine_{labelIds,instanceIds}.png``.
    """

    root: Path

    def names(self, split: str) -> list[str]:
        """Return the image names of a split, CITY_SEQUENCE_FRAME, sorted."""
        folder = self.root / "leftImg8bit" / split
        suffix = "_leftImg8bit.png"
        names = sorted(path.name.removesuffix(suffix) for path in folder.glob(f"*/*{suffix}"))
        if not names:
            raise InputError(f"{folder} has no CITY/*{suffix}; see: gatedcrf data download cityscapes.")
        return names

    def unpublished(self, split: str) -> list[InputError]:
        """Return the cities whose number of images differs from the published one."""
        found, published = Counter(name.split("_")[0] for name in self.names(split)), Counter(PUBLISHED[split])
        remedy = "unpack leftImg8bit_trainvaltest.zip again, or pass --data.published_split=false for a part"
        problems = []
        for city in sorted(city for city in {*found, *published} if found[city] != published[city]):
            folder = self.root / "leftImg8bit" / split / city
            message = f"{folder} has {found[city]} images instead of the published {published[city]}; {remedy}."
            problems.append(InputError(message, "number of images", folder))
        return problems

    def image(self, split: str, name: str) -> Path:
        """Return the path of an image."""
        return self.root / "leftImg8bit" / split / name.split("_")[0] / f"{name}_leftImg8bit.png"

    def annotation(self, split: str, name: str, kind: str) -> Path:
        """Return the path of a map of kind "labelIds" or "instanceIds"."""
        return self.root / "gtFine" / split / name.split("_")[0] / f"{name}_gtFine_{kind}.png"

    def dense_mask(self, split: str, name: str) -> LabelMap:
        """Return class indices, uint8 (H, W)."""
        path = self.annotation(split, name, "labelIds")
        labels = _read_ids(path)
        table = np.full(256, IGNORE_INDEX, dtype=np.uint8)
        table[list(LABEL_IDS)] = np.arange(len(LABEL_IDS))
        if (wrong := labels[(labels > 33) & (labels != 255)]).size:  # 255 is -1, the license plate
            message = f"{path} has the value {wrong[0]}, which is not a labelId; unpack it again."
            raise InputError(message, "value out of range", path)
        return np.asarray(table[labels])

    def simulate_clicks(self, split: str, name: str, simulator: ClickSimulator) -> list[Annotation]:
        """Return a click for each connected component of an instance or a stuff class, Sec. 6.4."""
        path = self.annotation(split, name, "instanceIds")
        instances = _read_ids(path)
        found = np.unique(instances).tolist()
        label_ids = {value: value // 1000 if value >= 1000 else value for value in found}
        if wrong := [value for value, label in label_ids.items() if label not in TRAIN_IDS and value < 65535]:
            message = f"{path} has the value {wrong[0]}, which is not an instanceId; unpack it again."
            raise InputError(message, "value out of range", path)
        classes = {v: TRAIN_IDS.get(label, IGNORE_INDEX) for v, label in label_ids.items()}
        return simulator(instances, {v: c for v, c in classes.items() if c != IGNORE_INDEX})


def _read_ids(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """Return a grayscale PNG of 8 or 16 bits, int32 (H, W)."""
    if not path.is_file():
        raise InputError(f"{path} is missing; unpack gtFine_trainvaltest.zip again.", "missing file", path)
    with naming(path, "an id map"), PILImage.open(path) as picture:
        mode, values = picture.mode, np.array(picture)
    if mode not in ("L", "I", "I;16"):
        message = f"{path} has mode {mode} instead of grayscale; unpack gtFine_trainvaltest.zip again."
        raise InputError(message, "colors instead of indices", path)
    return values.astype(np.int32)
