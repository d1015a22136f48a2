"""Which file of a folder holds the labels of a supervision, and what its entries must be."""

from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from datamodules.annotations import Annotation, Box
from datamodules.io.errors import InputError
from datamodules.io.images import is_image
from datamodules.io.names import find_png

FORMS: dict[str, tuple[Callable[[Annotation], bool], str]] = {
    "clicks.json": (
        lambda label: label.is_click and not isinstance(label, Box),
        "a click has one point; write an entry per click, and lines to scribbles.json",
    ),
    "scribbles.json": (
        lambda label: len(label.points) > 0 and not isinstance(label, Box),
        'a scribble is {"class": 1, "points": [[x, y], [x, y], ...]}',
    ),
    "boxes.json": (lambda label: isinstance(label, Box), 'a box is {"class": 1, "box": [x0, y0, x1, y1]}'),
    "tags.json": (lambda label: len(label.points) == 0, 'tags are class indices: {"NAME": [0, 1], ...}'),
}
"""Of each file, whether an entry belongs into it, and the remedy."""


def find_labels(root: Path, supervision: str) -> Path | None:
    """Return the JSON file or the folder of the weak labels, or ``None`` if training reads masks/train.

    Raises:
        InputError: There are neither. The message names a file with a similar name.
    """
    kinds = {"full": (), "tags": ("tags", "clicks", "scribbles")}.get(supervision, (supervision,))
    for path in (root / f"{kind}.json" for kind in kinds):
        if path.is_file():
            return path
    maps = root / "scribbles" / "train"
    if supervision == "scribbles" and maps.is_dir():
        return maps
    if kinds:
        _refuse_missing(root / f"{kinds[0]}.json")
    return None


def missing_masks(root: Path, supervision: str, images: Sequence[Path]) -> Iterator[InputError]:
    """Yield an error that names both missing files if labels are simulated and some masks are missing."""
    path, masks = root / f"{supervision}.json", root / "masks" / "train"
    missing = sum(not find_png(masks, image).is_file() for image in images)
    if supervision != "full" and missing:
        message = (
            f"{path} is missing, so {supervision} are simulated from {masks}, which lacks {missing} of {len(images)}"
        )
        yield InputError(f"{message} masks; add them, or write the file.", "missing file", path)


def check_form(path: Path, name: str, label: Annotation) -> None:
    """Raise :class:`InputError` if a label of image ``name`` does not belong into a file."""
    belongs, remedy = FORMS.get(path.name, (lambda _: True, ""))
    if not belongs(label):
        found = "a box" if isinstance(label, Box) else f"{len(label.points)} points"
        raise InputError(f"{path} has an entry of {name!r} with {found}, class {label.label}; {remedy}.")


def _refuse_missing(path: Path) -> None:
    """Raise :class:`InputError` if there are no masks from which the labels of a file can be simulated."""
    root, masks = path.parent, path.parent / "masks" / "train"
    if masks.is_dir() and any(map(is_image, masks.iterdir())):
        return
    if other := next((each for depth in ("*", "*/*") for each in root.glob(f"{depth}/{path.name}")), None):
        raise InputError(f"{path} is missing, but {other} exists; move it to {path}.")
    others = [each.name for each in root.iterdir() if "json" in each.name.lower()]
    known, close = [name for name in others if name in FORMS], get_close_matches(path.name, {*others} - {*FORMS}, n=1)
    rename = f" Did you mean {close[0]!r}? Then rename it." if close else ""
    if known and not close:
        rename = f" There is {known[0]}, which the supervision {Path(known[0]).stem} reads."
    remedy = f"write it, or put a mask of each training image into {masks}, from which {path.stem} are then simulated"
    raise InputError(f"{path} is missing; {remedy}.{rename}")
