"""Figs. 1 to 5 of the paper, drawn from finished runs."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from datamodules.dataset import SegmentationDataset
from datamodules.sample import IGNORE_INDEX
from experiments.tables.figures import INCHES, kernel_mosaic
from experiments.tables.results import Results
from experiments.train.run import Run
from lightning_modules.palette import colorize, voc_palette
from losses.kernels import GaussianKernel

Map = NDArray[np.uint8]
Columns = Mapping[str, Sequence[Map | None]]


def first_run(results: Results, training: str) -> Run | None:
    """Return the finished run of a training with the lowest seed, for example of "clicks.gcrf_s"."""
    seeds = results.runs.get(training, {})
    return seeds[min(seeds)] if seeds else None


def predict(run: Run, indices: Sequence[int]) -> list[Map]:
    """Return the classes that the final weights of a run give to validation images, uint8 (H, W) each."""
    split, model = run.datamodule().val_split(), run.model("last")
    with torch.no_grad():
        images = (torch.from_numpy(split.image(index)).permute(2, 0, 1)[None] for index in indices)
        return [np.asarray(model(image)[0].argmax(0), dtype=np.uint8) for image in images]


def draw_predictions(runs: Mapping[str, Run | None], count: int = 4, truth: bool = True) -> Figure:
    """Draw evenly spread validation images, truth, and the predictions of each run: Figs. 1, 4 and 5.

    Args:
        runs: By title, at least one; the column of ``None`` stays empty and says so.
        count: Images, a row each.
        truth: Draw the dense annotation.
    """
    data = next(run for run in runs.values() if run is not None).datamodule()
    split = data.val_split()
    indices = spread(split, count)
    maps: dict[str, Sequence[Map | None]] = {"truth": [split.dense_mask(index) for index in indices]} if truth else {}
    for title, run in runs.items():
        if run is None:
            maps[f"{title}\n(no finished run)"] = [None] * len(indices)
        else:
            maps[title] = predict(run, indices)
    pictures = {title: [None if m is None else colorize(m) for m in column] for title, column in maps.items()}
    figure = _draw_columns({"image": [split.image(index) for index in indices], **pictures})
    shown = {int(label) for column in maps.values() for m in column if m is not None for label in np.unique(m)}
    named = {data.class_names[label]: tuple(voc_palette()[label] / 255) for label in sorted(shown - {IGNORE_INDEX})}
    patches = [Patch(facecolor=color, edgecolor="gray", label=name) for name, color in named.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=2 * len(pictures), frameon=False, fontsize=8)
    return figure


def draw_kernels(split: SegmentationDataset, count: int = 3) -> Figure:
    """Draw images above kernels around every 31st pixel, at full size with sigma_xy = 12: Fig. 2.

    A dot is an anchor. White is high: a neighbor that pays for a label other than that of the anchor in the center of
    its window.
    """
    kernel, radius = GaussianKernel({"rgb": 0.1, "xy": 12.0}), 15
    images = [split.image(index) for index in spread(split, count)]
    figure, axes = _grid(2, len(images), images, inches=1.6 * INCHES)
    for (above, below), image in zip(axes.T, images, strict=True):
        mosaic = kernel_mosaic(image, kernel, radius, stride=1)
        above.imshow(image[: mosaic.shape[0], : mosaic.shape[1]])  # whole windows
        y, x = np.mgrid[radius : mosaic.shape[0] : 2 * radius + 1, radius : mosaic.shape[1] : 2 * radius + 1]
        above.plot(x.ravel(), y.ravel(), "r.", markersize=4)
        below.imshow(mosaic, cmap="gray", vmin=0, vmax=1)
    return figure


def draw_bandwidths(runs: Mapping[str, Run], count: int = 100) -> Figure:
    """Draw, in white, the class that gains most from the second of two runs, and the one that loses most: Fig. 3.

    Args:
        runs: Two, by title.
        count: Evenly spread validation images to look at; the gain is in IoU of one class in one image.
    """
    data = next(iter(runs.values())).datamodule()
    split = data.val_split()
    indices = spread(split, count)
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
        title: [np.dstack([(maps[place] == label) * np.uint8(255)] * 3) for place, label in chosen]
        for title, maps in {"truth": truths, **predictions}.items()
    }
    figure = _draw_columns({"image": [split.image(indices[place]) for place, _ in chosen], **white})
    for axis, (place, label) in zip(figure.axes[:: len(white) + 1], chosen, strict=True):
        axis.set_ylabel(f"{data.class_names[label]}, {100 * gains[place, label]:+.0f} points IoU", fontsize=8)
    return figure


def spread(split: SegmentationDataset, count: int) -> list[int]:
    """Return the indices of ``count`` evenly spread images, or of all where there are fewer."""
    count = min(count, len(split))
    return [k * len(split) // count for k in range(count)]


def _iou(prediction: Map, truth: Map, label: int) -> float:
    known = truth != IGNORE_INDEX
    a, b = (prediction == label) & known, truth == label
    return float((a & b).sum() / (a | b).sum())


def _draw_columns(columns: Columns) -> Figure:
    pictures = next(iter(columns.values()))
    figure, axes = _grid(len(pictures), len(columns), pictures)
    for place, (title, column) in enumerate(columns.items()):
        axes[0, place].set_title(title, fontsize=9)
        for axis, picture in zip(axes[:, place], column, strict=True):
            if picture is not None:
                axis.imshow(picture)
    return figure


def _grid(
    rows: int, columns: int, pictures: Sequence[Map | None], inches: float = INCHES
) -> tuple[Figure, NDArray[np.object_]]:
    tallest = max(p.shape[0] / p.shape[1] for p in pictures if p is not None)
    figure = Figure(figsize=(inches * columns, inches * tallest * rows + 0.5), layout="compressed")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], frame_on=False)
    return figure, axes
