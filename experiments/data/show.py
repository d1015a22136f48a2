"""``gatedcrf data show``: draw training images, their weak labels and augmented crops."""

import argparse

import numpy as np
from matplotlib.figure import Figure

from datamodules.datamodule import SegmentationDataModule
from datamodules.dataset import AugmentedCrops
from datamodules.io.errors import InputError
from datamodules.proposals.propose import propose
from datamodules.sampler import Draw
from experiments.data.arguments import load_dataset
from experiments.tables.figures import add_legend, draw_labels, spread

INCHES = 3.2  # side of one picture


def run(options: argparse.Namespace) -> None:
    """Write a PNG with one row per image.

    Raises:
        InputError: The dataset cannot be opened, or the file is not a PNG.
        OSError: The file cannot be written.
    """
    out = options.out
    if out.suffix.lower() != ".png":
        raise InputError(f"--out={out} is not a PNG; choose a name that ends in .png.")
    datamodule = load_dataset(options)
    length = len(datamodule.train_split())
    indices = spread(length, options.count)
    figure = draw(indices, datamodule, options.crops)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100)
    print(f"{len(indices)} of {length} training images are in {out}")


def draw(indices: list[int], datamodule: SegmentationDataModule, crops: int) -> Figure:
    """Return a figure with one row per image: the image, then its augmented crops.

    Args:
        indices: Training images.
        datamodule: Dataset with its augmentation and class names.
        crops: Crops per image.
    """
    split = datamodule.train_split()
    generator = datamodule.label_generator
    proposals = None if generator is None else lambda index, _: propose(generator, split, index)
    augmented = AugmentedCrops(split, datamodule.augmentation, datamodule.seed, datamodule.stroke_width, proposals)
    figure = Figure(figsize=(INCHES * (crops + 1), INCHES * len(indices) + 0.5), layout="constrained")
    axes = figure.subplots(len(indices), crops + 1, squeeze=False)
    seen: set[int] = set()
    for row, index in zip(axes, indices, strict=True):
        image, labels = split.image(index), split.weak_labels(index)
        draw_labels(row[0], image, labels)
        row[0].set_title(split.name(index), fontsize=8)
        found = [each.label for each in labels] if isinstance(labels, list) else np.unique(labels).tolist()
        seen.update(found)
        for epoch, axis in enumerate(row[1:]):
            sample = augmented[Draw(index, epoch, index)]
            draw_labels(axis, sample["image"].permute(1, 2, 0).numpy(), sample["target"].numpy())
    for axis in axes.flat:
        axis.set_axis_off()
    add_legend(figure, seen, datamodule.class_names)
    return figure
