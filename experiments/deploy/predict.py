"""``gatedcrf predict CHECKPOINT IMAGES``: write the predictions of photographs.

::

    OUT/NAME.png                 indexed PNG of the size of the image; its values are class indices
    OUT/predictions.json         names of the classes, the checkpoint, and the image of each PNG
    OUT/overlays/NAME.jpg        with --overlay
    OUT/probabilities/NAME.npy   with --probabilities
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from rich.progress import track

from datamodules.io.atomic import atomic_write
from datamodules.io.errors import InputError
from datamodules.io.images import list_images, read_image
from datamodules.io.json_files import read_json
from lightning_modules.palette import save_palette_png
from lightning_modules.predictor import Predictor, load

INDEX = "predictions.json"


def run(options: argparse.Namespace) -> None:
    """Predict the images.

    Raises:
        InputError: The checkpoint or an image cannot be read, two images have one name, or the folder holds something
            else.
        OSError: A file cannot be written.
    """
    images = find_images(options.images)
    reserve(options.out, options.checkpoint, images)
    model = load(options.checkpoint)
    _write_index(options, images, model.class_names)
    for path in track(images, "Predicting", transient=True):
        _write(model, path, options)
    print(f"wrote {len(images)} masks of class indices to {options.out}; {INDEX} there has the names of the classes")
    if options.overlay:
        print(f"wrote overlays to {options.out / 'overlays'}")
    if options.probabilities:
        print(f"wrote probabilities to {options.out / 'probabilities'}")


def find_images(sources: Sequence[Path]) -> list[Path]:
    """Return the images of files and folders.

    Raises:
        InputError: A source is missing, a folder has no images, or two images have the same name.
    """
    images = [path for source in sources for path in (list_images(source) if source.is_dir() else [source])]
    named: dict[str, Path] = {}
    for path in images:
        if not path.is_file():
            raise InputError(f"There is no image or folder {path}.")
        other = named.setdefault(path.stem, path)
        if other.resolve() != path.resolve():
            raise InputError(f"{other} and {path} would both be written to {path.stem}.png; predict one at a time.")
    return list(named.values())


def reserve(out: Path, checkpoint: Path, images: Sequence[Path]) -> None:
    """Refuse a folder that holds anything but predictions of this checkpoint for images of the same folders.

    Raises:
        InputError: It does.
    """
    if not out.exists():
        return
    remedy = "choose another folder with --out, or remove it"
    if not out.is_dir():
        raise InputError(f"{out} is a file; {remedy}.")
    if not (out / INDEX).is_file():
        if any(out.iterdir()):
            raise InputError(f"{out} is not empty and has no {INDEX}, so it is not from this command; {remedy}.")
        return
    index = read_json(out / INDEX)
    if not isinstance(index, dict) or not {"checkpoint", "images"} <= index.keys():
        raise InputError(f"{out / INDEX} is not from this command; {remedy}.")
    folders = {str(Path(image).parent) for image in index["images"].values()}
    given = {str(image.resolve().parent) for image in images}
    if index["checkpoint"] != str(checkpoint.resolve()):
        raise InputError(f"{out} holds predictions of {index['checkpoint']}; {remedy}.")
    if folders != given:
        raise InputError(f"{out} holds predictions for images of {', '.join(sorted(folders))}; {remedy}.")


def _write_index(options: argparse.Namespace, images: Sequence[Path], class_names: Sequence[str]) -> None:
    path = options.out / INDEX
    before = read_json(path)["images"] if path.is_file() else {}
    now = {f"{image.stem}.png": str(image.resolve()) for image in images}
    checkpoint = str(options.checkpoint.resolve())
    index = {"checkpoint": checkpoint, "classes": list(class_names), "images": dict(sorted((before | now).items()))}
    atomic_write(path, json.dumps(index, indent=2, ensure_ascii=False) + "\n")


def _write(model: Predictor, path: Path, options: argparse.Namespace) -> None:
    image, name = read_image(path), path.stem
    classes: NDArray[np.uint8] = model.predict(image)
    save_palette_png(classes, options.out / f"{name}.png")
    if options.overlay:
        _save(PILImage.fromarray(model.overlay(image, classes)), options.out / "overlays" / f"{name}.jpg")
    if options.probabilities:
        folder = options.out / "probabilities"
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.npy", model.predict(image, probabilities=True).astype(np.float16))


def _save(picture: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=90)
