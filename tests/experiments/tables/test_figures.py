"""Kernel mosaics against Eq. 2, and weak labels on images."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from datamodules.annotations import Annotation
from datamodules.sample import IGNORE_INDEX
from experiments.tables.figures import add_legend, draw_grid, draw_labels, kernel_mosaic
from lightning_modules.palette import voc_palette
from lightning_modules.weak_segmentation import IMAGENET_STD


def test_kernels_of_a_flat_image_are_spatial_gaussians() -> None:
    mosaic = kernel_mosaic(np.full((12, 24, 3), 90, dtype=np.uint8), radius=1, stride=4)
    neighbor, corner = np.exp(-1 / 72), np.exp(-2 / 72)
    window = np.array([[corner, neighbor, corner], [neighbor, 1, neighbor], [corner, neighbor, corner]])
    np.testing.assert_allclose(mosaic, np.hstack([window, window]), rtol=1e-6)


def test_kernels_follow_equation_2_on_averaged_colors() -> None:
    image = np.random.default_rng(0).integers(100, 120, size=(12, 12, 3)).astype(np.uint8)
    mosaic = kernel_mosaic(image, radius=1, stride=4)
    cells = image.reshape(3, 4, 3, 4, 3).mean(axis=(1, 3)) / IMAGENET_STD
    for y in range(3):
        for x in range(3):
            color = (((cells[y, x] - cells[1, 1]) / 0.1) ** 2).sum()
            space = ((y - 1) ** 2 + (x - 1) ** 2) / 36
            assert mosaic[y, x] == pytest.approx(np.exp(-(color + space) / 2), rel=1e-3)


def test_incomplete_windows_are_left_out() -> None:
    assert kernel_mosaic(np.zeros((50, 95, 3), dtype=np.uint8), radius=5, stride=4).shape == (11, 22)


def labeled_image(labels: object) -> np.ndarray:
    """Draw labels on a dark gray image of 64 x 64 at original size and return the pixels."""
    figure = Figure(figsize=(0.64, 0.64), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axis = figure.add_axes((0, 0, 1, 1), frame_on=False)
    draw_labels(axis, np.full((64, 64, 3), 20, dtype=np.uint8), labels)  # type: ignore[arg-type]
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def vector_labels() -> list[Annotation]:
    return [Annotation(1, np.array([[16.5, 16.5]])), Annotation(0, np.array([[40.0, 8.0], [40.0, 56.0]]))]


def label_map(*, clicks: bool) -> np.ndarray:
    labels = np.full((64, 64), IGNORE_INDEX, dtype=np.uint8)
    width = 1 if clicks else 4
    labels[16 : 16 + width, 16 : 16 + width] = 1
    labels[40 : 40 + width, 40 : 40 + width] = 0
    return labels


@pytest.mark.parametrize(
    "labels",
    [vector_labels(), label_map(clicks=True), label_map(clicks=False)],
    ids=["vectors", "single pixels", "strokes of pixels"],
)
def test_weak_labels_are_outlined_in_white_on_the_image_in_its_own_colors(labels: object) -> None:
    shown = labeled_image(labels).astype(int)
    assert (shown == voc_palette()[1]).all(axis=2)[14:19, 14:19].any()  # class 1
    assert (shown < 10).all(axis=2)[38:43, 38:43].any()  # class 0, black
    assert (shown > 100).all(axis=2)[34:48, 34:48].any()  # outline
    far = shown[:5, 48:]
    assert (far == 20).all()


def test_grid_leaves_places_without_an_image_empty() -> None:
    image = np.zeros((4, 6, 3), dtype=np.uint8)
    _, axes = draw_grid({"two": [image, image], "one": [image], "none": []})
    assert [[len(axis.images) for axis in row] for row in axes] == [[1, 1, 0], [1, 0, 0]]


def test_wide_grids_continue_below_in_the_order_of_the_columns() -> None:
    columns = {str(k): [np.full((4, 6), k / 30, dtype=np.float32)] * 2 for k in range(23)}
    figure, axes = draw_grid(columns)
    assert [axis.get_title() for axis in axes[0]] == list(columns)
    assert [[axis.images[0].get_array()[0, 0] for axis in row] for row in axes] == [
        [column[0][0, 0] for column in columns.values()]
    ] * 2
    FigureCanvasAgg(figure).draw()
    corners = np.array([axis.get_position().p0 for axis in axes[0]])
    assert len(np.unique(corners[:, 0].round(3))) == 8  # of three bands
    assert len(np.unique(corners[:, 1].round(3))) == 3


def test_legend_names_the_classes_in_the_figure() -> None:
    figure = Figure()
    add_legend(figure, [2, 0, IGNORE_INDEX], ["a", "b", "c"])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "c"]
    colors = [np.round(255 * np.array(patch.get_facecolor()[:3])).tolist() for patch in legend.get_patches()]
    assert colors == voc_palette()[[0, 2]].tolist()
