"""``gatedcrf data show``: a sheet of samples before and after augmentation, with their weak labels drawn large."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from rich.console import Console

from datamodules.datamodule import SegmentationDataModule
from datamodules.dataset import AugmentedCrops, SegmentationDataset
from datamodules.io.errors import InputError
from datamodules.sample import IGNORE_INDEX
from datamodules.sampler import Draw
from datamodules.transforms import Labels
from experiments.data.dataset_arguments import add_dataset, load_dataset
from experiments.tables.figures import draw_labels
from lightning_modules.palette import voc_palette

INCHES = 3.2  # side of a picture


def add_parsers(commands: Any) -> None:
    """Register the command.

    Args:
        commands: Of ``gatedcrf data``.
    """
    parser = commands.add_parser("show", help="draw samples before and after augmentation with their labels")
    add_dataset(parser)
    parser.add_argument("--count", type=int, default=4, help="images, evenly spread over the training images")
    parser.add_argument("--crops", type=int, default=3, help="augmented crops of each image")
    parser.add_argument("--out", default="samples.png", help="PNG to write")
    parser.set_defaults(run=_show)


def _show(options: argparse.Namespace) -> None:
    if options.count < 1 or options.crops < 1:
        raise InputError(f"--count is {options.count} and --crops is {options.crops}; draw at least one.")
    out = Path(options.out)
    if out.suffix.lower() != ".png":
        raise InputError(f"--out is {out}; the sheet is a PNG, so give it a name that ends in .png.")
    datamodule = load_dataset(options)
    split = datamodule.train_split()
    count = min(options.count, len(split))
    figure = draw([k * len(split) // count for k in range(count)], split, datamodule, options.crops)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100)
    Console(soft_wrap=True, highlight=False).print(f"{count} of {len(split)} training images are in {out}")


def draw(indices: list[int], split: SegmentationDataset, datamodule: SegmentationDataModule, crops: int) -> Figure:
    """Return a figure with a row per image: as it is, and augmented.

    Args:
        indices: Images of ``split``.
        split: Training images.
        datamodule: Of the augmentation and the names of the classes.
        crops: Augmented crops per image.
    """
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
        figure.legend(
            handles=handles, loc="outside lower center", ncols=min(8, len(handles)), frameon=False, fontsize=8
        )
    return figure


def _classes(labels: Labels) -> set[int]:
    if isinstance(labels, list):
        return {annotation.label for annotation in labels}
    return set(np.unique(labels[labels != IGNORE_INDEX]).tolist())
