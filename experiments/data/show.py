"""``gatedcrf data show``: training images, their weak labels and augmented crops in one figure."""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from rich.console import Console

from datamodules.datamodule import SegmentationDataModule
from datamodules.dataset import AugmentedCrops
from datamodules.io.errors import InputError
from datamodules.sample import IGNORE_INDEX
from datamodules.sampler import Draw
from datamodules.transforms import Labels
from experiments.data.arguments import load_dataset
from experiments.tables.figures import draw_labels
from lightning_modules.palette import voc_palette

INCHES = 3.2  # side of one picture


def run(options: argparse.Namespace) -> None:
    """Write a PNG with one row per image.

    Args:
        options: The dataset, ``count``, ``crops`` and ``out``.

    Raises:
        InputError: The dataset cannot be opened, or the file is not a PNG.
        OSError: The file cannot be written.
    """
    out = Path(options.out)
    if out.suffix.lower() != ".png":
        raise InputError(f"--out={out} is not a PNG; choose a name that ends in .png.")
    datamodule = load_dataset(options)
    length = len(datamodule.train_split())
    count = min(options.count, length)
    figure = draw([k * length // count for k in range(count)], datamodule, options.crops)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100)
    Console(soft_wrap=True, highlight=False, markup=False).print(f"{count} of {length} training images are in {out}")


def draw(indices: list[int], datamodule: SegmentationDataModule, crops: int) -> Figure:
    """Return a figure with one row per image: the image, then its augmented crops.

    Args:
        indices: Training images.
        datamodule: Dataset with its augmentation and class names.
        crops: Crops per image.
    """
    split = datamodule.train_split()
    augmented = AugmentedCrops(split, datamodule.augmentation, datamodule.seed, datamodule.stroke_width)
    figure = Figure(figsize=(INCHES * (crops + 1), INCHES * len(indices) + 0.5), layout="constrained")
    axes = figure.subplots(len(indices), crops + 1, squeeze=False)
    seen: set[int] = set()
    for row, index in zip(axes, indices, strict=True):
        image, labels = split.image(index), split.weak_labels(index)
        draw_labels(row[0], image, labels)
        row[0].set_title(split.name(index), fontsize=8)
        seen |= _classes(labels)
        for epoch, axis in enumerate(row[1:]):
            sample = augmented[Draw(index, epoch, index)]
            draw_labels(axis, sample["image"].permute(1, 2, 0).numpy(), sample["target"].numpy())
    for axis in axes.flat:
        axis.set_axis_off()
    handles = [
        Patch(facecolor=tuple(voc_palette()[label] / 255), edgecolor="black", label=datamodule.class_names[label])
        for label in sorted(seen)
    ]
    if handles:
        columns = min(8, len(handles))
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
    return figure


def _classes(labels: Labels) -> set[int]:
    if isinstance(labels, list):
        return {annotation.label for annotation in labels}
    return set(np.unique(labels[labels != IGNORE_INDEX]).tolist())
