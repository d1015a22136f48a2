"""The pictures of a table: predictions side by side (Fig. 1) and kernels (Fig. 2)."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image as PILImage

from datamodules.dataset import SegmentationDataset
from datamodules.sample import IGNORE_INDEX
from datamodules.transforms import Labels
from experiments.train.run import Run
from lightning_modules.palette import colorize, voc_palette
from lightning_modules.weak_segmentation import IMAGENET_STD
from losses import GaussianKernel
from losses.kernel_mosaic import mosaic

SPARSE = 0.002  # share of labeled pixels below which each is drawn as a dot
INCHES = 1.8  # per picture


def save_gallery(path: Path, runs: Mapping[str, Run]) -> None:
    """Draw images, weak labels, truth and the predictions of each run: Fig. 1.

    Args:
        path: PNG to write.
        runs: Finished runs of one dataset by title "supervision loss", whose ``gallery`` holds the same images.
    """
    splits = {title: run.datamodule().val_split() for title, run in runs.items()}
    split = next(iter(splits.values()))
    first = next(iter(runs.values())).path / "gallery"
    indices = [index for index in range(len(split)) if (first / f"{split.name(index)}.png").is_file()]
    weak = {title.split()[0]: split for title, split in splits.items() if not title.startswith("full")}

    columns: dict[str, Callable[[Axes, int], object]] = {"image": lambda axis, i: axis.imshow(split.image(i))}
    for supervision, labeled in weak.items():
        columns[supervision] = partial(_draw_weak, labeled)
    columns["truth"] = partial(_draw_truth, split)
    for title, run in runs.items():
        columns[title.replace(" ", "\n", 1)] = partial(_draw_prediction, split, run)

    tallest = max(split.image(index).shape[0] / split.image(index).shape[1] for index in indices)
    size = (INCHES * len(columns), INCHES * tallest * len(indices) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(indices), len(columns), squeeze=False)
    for row, index in zip(axes, indices, strict=True):
        for axis, draw in zip(row, columns.values(), strict=True):
            draw(axis, index)
            axis.set_axis_off()
    for axis, title in zip(axes[0], columns, strict=True):
        axis.set_title(title, fontsize=9)
    figure.savefig(path, dpi=110)


def _draw_weak(split: SegmentationDataset, axis: Axes, index: int) -> None:
    draw_labels(axis, split.image(index), split.weak_labels(index))


def _draw_truth(split: SegmentationDataset, axis: Axes, index: int) -> None:
    if (mask := split.dense_mask(index)) is not None:
        axis.imshow(colorize(mask))


def _draw_prediction(split: SegmentationDataset, run: Run, axis: Axes, index: int) -> None:
    axis.imshow(colorize(np.array(PILImage.open(run.path / "gallery" / f"{split.name(index)}.png"))))


def draw_labels(axis: Axes, image: NDArray[np.uint8], labels: Labels) -> None:
    """Draw weak labels over an image, large enough to see."""
    faded = image // 2 + 96
    if not isinstance(labels, list):
        labeled = labels != IGNORE_INDEX
        axis.imshow(np.where(labeled[..., None], colorize(labels), faded))
        if labeled.mean() < SPARSE:  # or a click of one pixel would not be seen
            y, x = np.nonzero(labeled)
            axis.scatter(x, y, s=16, c=colorize(labels[y, x]) / 255, edgecolors="white", linewidths=0.5)
        return
    axis.imshow(faded)
    for annotation in labels:
        color = voc_palette()[annotation.label] / 255
        x, y = annotation.points.T - 0.5
        if annotation.is_click:
            axis.plot(x, y, "o", markersize=5, color=color, markeredgecolor="white", markeredgewidth=0.8)
        else:
            axis.plot(x, y, "-", linewidth=3.2, color="white", solid_capstyle="round")
            axis.plot(x, y, "-", linewidth=2.2, color=color, solid_capstyle="round")


def save_kernels(path: Path, split: SegmentationDataset, count: int = 3) -> None:
    """Draw images above their kernels, on the logits grid and with the values of Sec. 4.1: Fig. 2.

    White is high: a neighbor that pays for a label other than that of the anchor at the center of the window.

    Args:
        path: PNG to write.
        split: Where the images come from.
        count: Number of images.
    """
    images = [split.image(k * len(split) // count) for k in range(min(count, len(split)))]
    tallest = max(image.shape[0] / image.shape[1] for image in images)
    figure = Figure(figsize=(2 * INCHES * len(images), 4 * INCHES * tallest), layout="constrained")
    axes = figure.subplots(2, len(images), squeeze=False)
    for (above, below), image in zip(axes.T, images, strict=True):
        above.imshow(image)
        below.imshow(kernel_mosaic(image), cmap="gray", vmin=0, vmax=1)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.savefig(path, dpi=110)


def kernel_mosaic(
    image: NDArray[np.uint8], kernel: GaussianKernel | None = None, radius: int = 5, stride: int = 4
) -> NDArray[np.float32]:
    """Return k(f_a, f_b) of Eq. 2 for every cell b and the anchor a at the center of its window.

    Args:
        image: uint8 (H, W, 3).
        kernel: Of "rgb", in standard deviations of ImageNet's colors, and "xy"; ``None`` is that of Sec. 4.1.
        radius: r; the grid is cut into windows of side 2 r + 1, and an incomplete one at the border is left out.
        stride: Pixels per cell of the grid; colors are averaged over them.

    Returns:
        float32 (H', W') in [0, 1], a value per cell; anchors are 1.
    """
    colors = torch.from_numpy(image).permute(2, 0, 1)[None].float() / torch.tensor(IMAGENET_STD).view(3, 1, 1)
    features = {"rgb": F.avg_pool2d(colors, stride)}
    return np.asarray(mosaic(features, [kernel or GaussianKernel()], radius)[0])
