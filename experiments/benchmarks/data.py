"""``gatedcrf benchmark data``: training samples per second of one core, beside other ways to make the same ones."""

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import PIL
import torch
import torchvision  # type: ignore[import-untyped]
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageDraw, ImageOps
from rich.console import Console
from torch.utils.data import default_collate
from torchvision import io, tv_tensors
from torchvision.transforms import v2  # type: ignore[import-untyped]

from datamodules.annotations import Annotation, Matrix
from datamodules.dataset import AugmentedCrops
from datamodules.folder.dataset import FolderDataset
from datamodules.image_cache import CachedImages, build_cache
from datamodules.io.errors import InputError
from datamodules.io.images import list_images, read_image
from datamodules.sample import IGNORE_INDEX
from datamodules.sampler import Draw
from datamodules.transforms import RandomScaleCropFlip
from experiments.benchmarks.measure import hardware, median_ms
from experiments.tables.report import to_markdown

CROP, CLICKS, CLASSES, SEED = 256, 5, 21, 0
IMAGES, BATCH = 64, 16  # the former at most
CPU = torch.device("cpu")
REFERENCE = "torchvision"
WAYS = {
    "floor": "the decoder alone, without a sample",
    "ours": "files, decoded every time",
    "ours, cached": "--data.loader.image_cache",
    REFERENCE: "decode_image; v2.ScaleJitter, RandomCrop and flip of Image, KeyPoints and, for the padding, Mask",
    "torchvision, from Pillow": "the same of Image.open and v2.PILToTensor, as its datasets do",
    "torchvision, no padding": "decode_image and the same without the Mask: the loss would not know what is padding",
    "torchvision, crop first": "v2.functional.resized_crop of the image alone, clicks moved by hand, no Mask",
    "authors' way": "Pillow: perspective transform of image and padding, then an ellipse per click",
}
HEADER = ["samples", "from", "per second and core", "ms", "times torchvision", "of the floor's pace"]

Clicks = tuple[NDArray[np.float64], NDArray[np.uint8]]
Way = Callable[[int], object]


def add_parser(commands: Any) -> None:
    """Add the subcommand.

    Args:
        commands: What ``ArgumentParser.add_subparsers`` returned.
    """
    parser = commands.add_parser("data", help="training samples per second and core, cold and cached")
    parser.add_argument(
        "--images", help=f"folder of images, of which {IMAGES} are read; without it, as many JPEGs are drawn"
    )
    parser.add_argument("--repeats", type=int, default=9, help="turns; each reads every image once")
    parser.add_argument("--out", default="runs/benchmark", help="folder of data.json and data.md")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Measure; print the table and write it.

    Args:
        options: Of the command line.

    Raises:
        InputError: No repeats, or a folder without images.
    """
    if options.repeats < 1:
        raise InputError(f"--repeats is {options.repeats}; measure at least once.")
    console, out = Console(), Path(options.out)
    with TemporaryDirectory() as name:
        images = Path(options.images or Path(name) / "images")
        if options.images is None:
            draw_photographs(images, IMAGES)
        paths = list_images(images)
        paths = paths[:: -(-len(paths) // IMAGES)]
        console.print(f"measuring {len(WAYS)} ways to read {len(paths)} images, {options.repeats} turns")
        result = measure(paths, Path(name) / "cache", options.repeats)
    text = f"{title(result)}\n\n{to_markdown(lines(result))}"
    out.mkdir(parents=True, exist_ok=True)
    (out / "data.json").write_text(json.dumps(result, indent=2) + "\n")
    (out / "data.md").write_text(text)
    console.print(text, highlight=False, soft_wrap=True)
    console.print(f"Written to {out}: data.json, data.md.", highlight=False, soft_wrap=True)


def measure(paths: list[Path], cache: Path, repeats: int) -> dict[str, Any]:
    """Return everything measured, as it is written to JSON.

    Args:
        paths: Images.
        cache: Folder for decoded images.
        repeats: Turns, in each of which every way makes a sample of every image.
    """
    threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    try:
        steps = {
            name: partial(_make_batches, way, len(paths), default_collate if name != "floor" else list)
            for name, way in make_ways(paths, cache).items()
        }
        for step in steps.values():
            step()
        ms = median_ms(steps, CPU, repeats, float("inf"))
        machine = hardware(CPU)
    finally:
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])
    return {
        "hardware": machine,
        "versions": {"Pillow": PIL.__version__, "OpenCV": cv2.__version__, "torchvision": torchvision.__version__},
        "images": len(paths),
        "kib": sum(path.stat().st_size for path in paths) / len(paths) / 2**10,
        "megapixels": sum(read_image(path).size / 3e6 for path in paths) / len(paths),
        "repeats": repeats,
        "ms": {name: total / len(paths) for name, total in ms.items()},
    }


def title(result: dict[str, Any]) -> str:
    """Return the conditions in two sentences."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return (
        f"{result['hardware']}, {versions}. {result['images']} images of {result['kib']:.0f} KiB and "
        f"{result['megapixels']:.2f} megapixels on average, a crop of {CROP} x {CROP} with a zoom of 0.5 to 2 and "
        f"{CLICKS} clicks of each, the same in every row; batches of {BATCH}, one process, one thread, median of "
        f"{result['repeats']} turns."
    )


def lines(result: dict[str, Any]) -> list[list[str]]:
    """Return the table, its header first."""
    table, times = [HEADER], result["ms"]
    for name, text in WAYS.items():
        ms = times[name]
        shares = [f"{times[REFERENCE] / ms:.2f}", f"{100 * times['floor'] / ms:.0f} %"]
        table.append([name, text, f"{1e3 / ms:,.0f}", f"{ms:.2f}", *shares])
    return table


def make_ways(paths: Sequence[Path], cache: Path) -> dict[str, Way]:
    """Return per entry of ``WAYS`` what makes the sample of an image, each with the same crop and clicks.

    Args:
        paths: Images.
        cache: Folder for decoded images.
    """
    rng = np.random.default_rng(SEED)
    transform = RandomScaleCropFlip(CROP)
    clicks, maps, given = [], [], []
    for index, path in enumerate(paths):
        height, width = read_image(path).shape[:2]
        clicks.append(
            (rng.uniform(0, (width, height), (CLICKS, 2)), rng.integers(CLASSES, size=CLICKS, dtype=np.uint8))
        )
        maps.append(transform._draw(height, width, np.random.default_rng([SEED, 0, index])))  # that of Draw below
        given.append(given_transform(maps[-1], height, width))
    weak = {
        path.stem: [Annotation(int(label), point[None]) for point, label in zip(*found, strict=True)]
        for path, found in zip(paths, clicks, strict=True)
    }
    ours = FolderDataset(list(paths), None, CLASSES, weak)
    build_cache(ours, cache)
    cold, cached = (AugmentedCrops(split, transform, SEED) for split in (ours, CachedImages(ours, cache)))
    return dict(
        zip(
            WAYS,
            [
                lambda i: read_image(paths[i]),
                lambda i: cold[Draw(i, 0, i)],
                lambda i: cached[Draw(i, 0, i)],
                lambda i: by_torchvision(_decode(paths[i]), clicks[i], given[i], padding=True),
                lambda i: by_torchvision(_open(paths[i]), clicks[i], given[i], padding=True),
                lambda i: by_torchvision(_decode(paths[i]), clicks[i], given[i], padding=False),
                lambda i: by_resized_crop(paths[i], clicks[i], maps[i]),
                lambda i: by_pillow(paths[i], clicks[i], maps[i]),
            ],
            strict=True,
        )
    )


def given_transform(matrix: Matrix, height: int, width: int) -> v2.Compose:
    """Return torchvision's transforms that do what ``matrix`` does, to whole pixels of the scaled image."""
    (scale_x, _, left), (_, zoom, top) = matrix[:2].tolist()
    size = round(height * zoom), round(width * zoom)
    firsts, before, after = [], [], []
    for length, first in ((size[1], left if scale_x > 0 else CROP - left), (size[0], top)):
        low, high = sorted((0, CROP - length))
        first = min(max(round(first), low), high)  # where the scaled image begins in the crop
        firsts.append(max(0, -first))
        before.append(max(0, first))
        after.append(max(0, CROP - length - first))
    crop = {"needs_pad": any(before + after), "padding": before + after, "needs_crop": True}
    crop |= {"left": firsts[0], "top": firsts[1], "height": CROP, "width": CROP}
    jitter, cut = v2.ScaleJitter(size), v2.RandomCrop(CROP)
    jitter.make_params, cut.make_params = lambda _: {"size": size}, lambda _: crop  # instead of drawing them
    return v2.Compose([jitter, cut, v2.RandomHorizontalFlip(float(scale_x < 0))])


def by_torchvision(
    image: torch.Tensor, clicks: Clicks, transform: v2.Compose, padding: bool
) -> dict[str, torch.Tensor]:
    """Return a sample by torchvision's transforms, without its validity if ``padding`` is false."""
    size = image.shape[-2:]
    parts = {"image": tv_tensors.Image(image), "points": tv_tensors.KeyPoints(clicks[0], canvas_size=size)}
    if padding:
        parts["valid"] = tv_tensors.Mask(torch.ones(1, *size, dtype=torch.uint8))
    moved = transform(parts)
    sample = {"image": moved["image"], "target": _draw(moved["points"], clicks[1])}
    return {**sample, "valid": moved["valid"][0].bool()} if padding else sample


def by_resized_crop(path: Path, clicks: Clicks, matrix: Matrix) -> dict[str, torch.Tensor]:
    """Return image and target, where only what the crop shows is resized, cut at whole pixels."""
    image = _decode(path)
    (scale_x, _, left), (_, zoom, top) = matrix[:2].tolist()
    side = round(CROP / zoom)
    first = round(-left / scale_x) - (side if scale_x < 0 else 0)
    image = v2.functional.resized_crop(image, round(-top / zoom), first, side, side, [CROP, CROP])
    if scale_x < 0:
        image = v2.functional.horizontal_flip(image)
    return {"image": image, "target": _draw(torch.from_numpy(_move(clicks[0], matrix)), clicks[1])}


def by_pillow(path: Path, clicks: Clicks, matrix: Matrix) -> dict[str, torch.Tensor]:
    """Return a sample in the manner of the authors, where a click is four pixels with the Pillow of today."""
    photograph = _open_upright(path)
    inverse = (*np.linalg.inv(matrix)[:2].ravel().tolist(), 0, 0)
    size, perspective = (CROP, CROP), PILImage.Transform.PERSPECTIVE
    image = photograph.transform(size, perspective, inverse, PILImage.Resampling.BILINEAR)
    valid = PILImage.new("L", photograph.size, 1).transform(size, perspective, inverse)
    target = PILImage.new("L", size, IGNORE_INDEX)
    draw = ImageDraw.Draw(target)
    for (x, y), label in zip(_move(clicks[0], matrix).tolist(), clicks[1].tolist(), strict=True):
        draw.ellipse((x - 0.5, y - 0.5, x + 0.5, y + 0.5), fill=label)
    planes, labels, inside = (torch.from_numpy(np.array(part)) for part in (image, target, valid))
    return {"image": planes.permute(2, 0, 1), "target": labels, "valid": inside.bool()}


def draw_photographs(folder: Path, number: int, size: tuple[int, int] = (500, 375), suffix: str = "jpg") -> None:
    """Write images of quality 90, about as hard to decode as photographs: smooth, edges, grain.

    Args:
        folder: Where, not there yet.
        number: Of images.
        size: (W, H), pixels.
        suffix: "jpg" or "png".
    """
    folder.mkdir(parents=True)
    for index in range(number):
        rng = np.random.default_rng([SEED, index])
        image = np.full((*size[::-1], 3), 128.0)
        for cell in 2 ** np.arange(2, 8):
            coarse = rng.normal(size=(size[1] // cell + 2, size[0] // cell + 2, 3))
            image += 1.5 * cell**0.7 * cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
        for _ in range(8):
            shape = np.zeros(image.shape[:2], dtype=np.uint8)
            center, axes = rng.integers(size).tolist(), rng.integers(20, 120, size=2).tolist()
            cv2.ellipse(shape, center, axes, rng.uniform(0, 180), 0, 360, 1, cv2.FILLED)
            image[shape == 1] = 0.3 * image[shape == 1] + 0.7 * rng.uniform(0, 255, size=3)
        image += rng.normal(0, 6, size=(*size[::-1], 1))
        PILImage.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{index:03}.{suffix}", quality=90)


def _move(points: NDArray[np.float64], matrix: Matrix) -> NDArray[np.float64]:
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def _draw(points: torch.Tensor, classes: NDArray[np.uint8]) -> torch.Tensor:
    x, y = points.floor().long().unbind(1)
    inside = (x >= 0) & (x < CROP) & (y >= 0) & (y < CROP)
    target = torch.full((CROP, CROP), IGNORE_INDEX, dtype=torch.uint8)
    target[y[inside], x[inside]] = torch.from_numpy(classes)[inside]
    return target


def _decode(path: Path) -> torch.Tensor:
    image: torch.Tensor = io.decode_image(io.read_file(str(path)), io.ImageReadMode.RGB, apply_exif_orientation=True)
    return image


def _open(path: Path) -> torch.Tensor:
    image: torch.Tensor = v2.functional.pil_to_tensor(_open_upright(path))
    return image


def _open_upright(path: Path) -> PILImage.Image:
    with PILImage.open(path) as picture:
        ImageOps.exif_transpose(picture, in_place=True)
        return picture.convert("RGB")


def _make_batches(way: Way, number: int, collate: Callable[[list[Any]], object]) -> None:
    for first in range(0, number, BATCH):
        collate([way(index) for index in range(first, min(first + BATCH, number))])
