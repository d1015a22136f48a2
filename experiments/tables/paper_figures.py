"""Figs. 1 to 5 of the paper, drawn from finished runs."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image as PILImage

from datamodules.dataset import SegmentationDataset
from datamodules.io.errors import InputError
from datamodules.sample import IGNORE_INDEX
from experiments.tables.figures import INCHES, Picture, add_legend, draw_grid, draw_labels, kernel_mosaic, spread
from experiments.train.run import Run
from lightning_modules.palette import colorize
from losses.kernels import GaussianKernel

LabelMap = NDArray[np.uint8]


def predict(run: Run, indices: Sequence[int]) -> list[LabelMap]:
    """Return the classes, (H, W) each, that the last weights of a run predict for validation images."""
    split, model = run.datamodule().val_split(), run.model("last")
    with torch.no_grad():
        images = (torch.from_numpy(split.image(index)).permute(2, 0, 1)[None] for index in indices)
        return [np.asarray(model(image)[0].argmax(0), dtype=np.uint8) for image in images]


def draw_predictions(runs: Mapping[str, Run | None], count: int = 4, truth: bool = True, weak: bool = False) -> Figure:
    """Draw validation images and the last predictions of runs on one dataset: Figs. 1, 4 and 5.

    Predictions are read from the folders ``gallery`` of the runs.

    Args:
        runs: Runs by title, at least one. The column of ``None`` is empty and marked as such.
        count: Number of evenly spaced images, one per row.
        truth: Draw the ground truth.
        weak: Draw the weak labels.

    Raises:
        InputError: The first run has no pictures in its folder ``gallery``.
    """
    finished = [run for run in runs.values() if run is not None]
    data = [run.datamodule() for run in finished]
    split = data[0].val_split()
    files = {index: f"gallery/{split.name(index)}.png" for index in range(len(split))}
    shown = [index for index, file in files.items() if (finished[0].path / file).is_file()]
    if not shown:
        folder = finished[0].path
        raise InputError(
            f"{folder / 'gallery'} has no predictions of validation images. Run gatedcrf validate -c "
            f"{folder / 'config.yaml'} --ckpt_path=last, then copy {folder / 'validate' / 'gallery'} there."
        )
    indices = [shown[k] for k in spread(len(shown), count)]
    images = [split.image(index) for index in indices]
    labeled = {each.supervision: each.val_split() for each in data if weak and each.supervision != "full"}
    maps = {"ground truth": [np.asarray(split.dense_mask(index)) for index in indices]} if truth else {}
    for title, run in runs.items():
        if run is None:
            maps[f"{title}\n(no finished run)"] = []
        else:
            maps[title] = [np.array(PILImage.open(run.path / files[index])) for index in indices]
    colored = {title: [colorize(labels) for labels in column] for title, column in maps.items()}
    figure, axes = draw_grid({"image": images, **dict.fromkeys(labeled, ()), **colored})
    for column, source in zip(axes.T[1:], labeled.values(), strict=False):
        for axis, image, index in zip(column, images, indices, strict=True):
            draw_labels(axis, image, source.weak_labels(index))
    classes = {label for column in maps.values() for labels in column for label in np.unique(labels)}
    add_legend(figure, classes, data[0].class_names)
    return figure


def draw_kernels(
    split: SegmentationDataset,
    count: int = 3,
    kernel: GaussianKernel | None = None,
    radius: int = 5,
    stride: int = 4,
) -> Figure:
    """Draw images above their kernels: Fig. 2.

    Red dots are anchors, the centers of windows. White neighbors should have the label of the anchor.

    Args:
        split: Dataset of the images.
        count: Number of evenly spaced images, one per column.
        kernel: Kernel on "rgb" and "xy", see :func:`kernel_mosaic`. Fig. 2 has sigma_xy = 12, radius 15 and stride 1;
            the defaults are those of the loss in Sec. 4.1.
        radius: Radius of a window, cells.
        stride: Side of a cell, pixels.
    """
    columns: dict[str, Sequence[Picture]] = {}
    for index in spread(len(split), count):
        cells = kernel_mosaic(split.image(index), kernel, radius, stride)
        height, width = (stride * side for side in cells.shape)
        columns[split.name(index)] = [split.image(index)[:height, :width], cells]  # whole windows
    figure, axes = draw_grid(columns, inches=1.6 * INCHES)
    for axis, (image, _) in zip(axes[0], columns.values(), strict=True):
        side = (2 * radius + 1) * stride
        y, x = np.mgrid[(side - 1) / 2 : image.shape[0] : side, (side - 1) / 2 : image.shape[1] : side]
        axis.plot(x.ravel(), y.ravel(), "r.", markersize=4)
    return figure


def draw_bandwidths(runs: Mapping[str, Run], count: int = 100) -> Figure:
    """Draw the largest gain and the largest loss of the second run over the first: Fig. 3.

    A gain is the difference in IoU of a class in an image. The class is white.

    Args:
        runs: Two runs by title, in Fig. 3 with two bandwidths of the spatial kernel.
        count: Number of evenly spaced validation images to compare.
    """
    data = next(iter(runs.values())).datamodule()
    split = data.val_split()
    indices = spread(len(split), count)
    truths = [np.asarray(split.dense_mask(index)) for index in indices]
    predictions = {title: predict(run, indices) for title, run in runs.items()}
    narrow, wide = predictions.values()
    gains = {
        (place, label): _iou(wide[place], truth, label) - _iou(narrow[place], truth, label)
        for place, truth in enumerate(truths)
        for label in set(np.unique(truth).tolist()) - {IGNORE_INDEX}
    }
    chosen = [max(gains, key=lambda key: gains[key]), min(gains, key=lambda key: gains[key])]
    white = {
        title: [(maps[place] == label).astype(np.float32) for place, label in chosen]
        for title, maps in {"ground truth": truths, **predictions}.items()
    }
    figure, axes = draw_grid({"image": [split.image(indices[place]) for place, _ in chosen], **white})
    for axis, (place, label) in zip(axes[:, 0], chosen, strict=True):
        axis.set_ylabel(f"{data.class_names[label]}, {100 * gains[place, label]:+.0f} points IoU", fontsize=8)
    return figure


def _iou(prediction: LabelMap, truth: LabelMap, label: int) -> float:
    known = truth != IGNORE_INDEX
    a, b = (prediction == label) & known, truth == label
    return float((a & b).sum() / (a | b).sum())
