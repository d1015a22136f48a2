"""Parts of figures: grids of images, weak labels, class legends and kernel mosaics."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from datamodules.annotations import Box, fractional_indices
from datamodules.sample import IGNORE_INDEX
from datamodules.transforms import Labels
from lightning_modules.palette import colorize, voc_palette
from lightning_modules.weak_segmentation import IMAGENET_STD
from losses import GaussianKernel
from losses.kernels import mosaic

INCHES = 1.8  # width of an image
WIDEST = 10  # columns side by side; more are drawn in several bands, one below the other
SPARSE = 0.002  # fraction of labeled pixels below which each pixel is drawn as a dot

Picture = NDArray[np.uint8] | NDArray[np.float32]


def spread(length: int, count: int) -> list[int]:
    """Return ``count`` evenly spaced indices of a sequence, or all indices if there are fewer."""
    count = min(count, length)
    return [k * length // count for k in range(count)]


def draw_grid(columns: Mapping[str, Sequence[Picture]], inches: float = INCHES) -> tuple[Figure, NDArray[np.object_]]:
    """Draw columns of images side by side, at most ``WIDEST``, and further columns below them.

    Args:
        columns: Images from top to bottom, by title: uint8 RGB (H, W, 3), or gray values (H, W) in [0, 1]. A short
            column leaves its lower places empty.
        inches: Width of a column.

    Returns:
        The figure, and its axes as an array (rows, columns).
    """
    rows = max(map(len, columns.values()))
    tallest = max(image.shape[0] / image.shape[1] for column in columns.values() for image in column)
    bands = -(-len(columns) // WIDEST)
    width = -(-len(columns) // bands)
    size = (inches * width, (inches * tallest * rows + 0.3) * bands + 0.3)
    figure = Figure(figsize=size, dpi=110, layout="compressed")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)  # type: ignore[union-attr, call-arg]
    axes = figure.subplots(bands * rows, width, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], frame_on=False)
    axes = np.hstack(np.split(axes, bands))[:, : len(columns)]
    for place, (title, images) in zip(axes.T, columns.items(), strict=True):
        place[0].set_title(title, fontsize=9)
        for axis, image in zip(place, images, strict=False):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    return figure, axes


def draw_labels(axis: Axes, image: NDArray[np.uint8], labels: Labels) -> None:
    """Draw an image and its weak labels, enlarged and outlined in white.

    Args:
        axis: Where to draw.
        image: RGB, (H, W, 3).
        labels: Annotations, or a label map (H, W). Tags are squares in the upper left corner.
    """
    axis.imshow(image)
    if not isinstance(labels, list):
        labeled = labels != IGNORE_INDEX
        if labeled.mean() < SPARSE:  # single pixels would be invisible
            y, x = np.nonzero(labeled)
            axis.scatter(x, y, s=16, c=colorize(labels[y, x]) / 255, edgecolors="white", linewidths=0.5)
            return
        if not labeled.all():
            axis.contour(labeled, [0.5], colors="white", linewidths=1.2)
        axis.imshow(np.dstack([colorize(labels), np.uint8(255) * labeled]), zorder=2)
        return
    for place, annotation in enumerate(labels):
        color = voc_palette()[annotation.label] / 255
        x, y = fractional_indices(annotation.points).T
        if isinstance(annotation, Box):
            (left, right), (top, bottom) = x, y
            x, y = np.array([left, right, right, left, left]), np.array([top, top, bottom, bottom, top])
        if len(x) == 0:
            side = image.shape[0] / 16
            axis.plot(side * (place + 0.8), side * 0.8, "s", markersize=8, color=color, markeredgecolor="white")
        elif annotation.is_click:
            axis.plot(x, y, "o", markersize=5, color=color, markeredgecolor="white", markeredgewidth=0.8)
        else:
            axis.plot(x, y, "-", linewidth=3.2, color="white", solid_capstyle="round")
            axis.plot(x, y, "-", linewidth=2.2, color=color, solid_capstyle="round")


def add_legend(figure: Figure, labels: Iterable[int], class_names: Sequence[str]) -> None:
    """Draw a legend of classes, in colors of the VOC palette, below a figure.

    Args:
        figure: Where to draw.
        labels: Classes to name. ``IGNORE_INDEX`` is skipped.
        class_names: Names of all classes of the dataset.
    """
    colors = {class_names[label]: tuple(voc_palette()[label] / 255) for label in sorted({*labels} - {IGNORE_INDEX})}
    patches = [Patch(facecolor=color, edgecolor="gray", label=name) for name, color in colors.items()]
    columns = max(1, int(figure.get_figwidth()))  # an inch for each
    figure.legend(handles=patches, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)


def kernel_mosaic(
    image: NDArray[np.uint8], kernel: GaussianKernel | None = None, radius: int = 5, stride: int = 4
) -> NDArray[np.float32]:
    """Return the kernel k(f_a, f_b) of Eq. 2 of each cell b and the anchor a, the center of its window.

    Args:
        image: RGB, (H, W, 3).
        kernel: Kernel on "rgb", in standard deviations of ImageNet's colors, and on "xy", in cells. ``None`` is the
            kernel of Sec. 4.1.
        radius: Radius r. Windows have a side of 2 r + 1 cells; incomplete windows at the border are left out.
        stride: Side of a cell in pixels of the image. Colors are averaged over a cell.

    Returns:
        Values in [0, 1], (H', W'), one per cell. Anchors have the value 1.
    """
    colors = torch.from_numpy(image).permute(2, 0, 1)[None].float() / torch.tensor(IMAGENET_STD).view(3, 1, 1)
    features = {"rgb": F.avg_pool2d(colors, stride)}
    return np.asarray(mosaic(features, [kernel or GaussianKernel()], radius)[0])
