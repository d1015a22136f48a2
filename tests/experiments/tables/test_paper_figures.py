"""Figures show the images, labels and predictions of their runs in the right places."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from datamodules.io.errors import InputError
from datamodules.shapes.datamodule import ShapesDataset
from experiments.tables.figures import kernel_mosaic, spread
from experiments.tables.paper_figures import draw_bandwidths, draw_kernels, draw_predictions, predict
from experiments.tables.results import Results
from experiments.train.run import Run
from lightning_modules.palette import colorize, voc_palette
from losses import GaussianKernel


@pytest.fixture(scope="module")
def run(finished: Path) -> Run:
    return Run(finished)


def pictures(figure: Figure) -> list[list[np.ndarray]]:
    return [[np.asarray(image.get_array()) for image in axis.images] for axis in figure.axes]


def test_predictions_are_those_of_the_last_weights(run: Run) -> None:
    split, model = run.datamodule().val_split(), run.model("last")
    (prediction,) = predict(run, [1])
    with torch.no_grad():
        expected = model(torch.from_numpy(split.image(1)).permute(2, 0, 1)[None]).argmax(1)[0]
    np.testing.assert_array_equal(prediction, expected)


def test_each_row_is_an_image_its_truth_and_its_predictions(run: Run) -> None:
    split = run.datamodule().val_split()
    figure = draw_predictions({"clicks": run, "full": None}, count=2)
    titles = ["image", "ground truth", "clicks", "full\n(no finished run)"]
    assert [axis.get_title() for axis in figure.axes[:4]] == titles
    for row, index in enumerate(spread(len(split), 2)):
        image, truth, prediction, nothing = pictures(figure)[4 * row : 4 * row + 4]
        np.testing.assert_array_equal(image[0], split.image(index))
        np.testing.assert_array_equal(truth[0], colorize(np.asarray(split.dense_mask(index))))
        np.testing.assert_array_equal(prediction[0], colorize(predict(run, [index])[0]))
        assert not nothing


def test_weak_labels_stand_between_the_image_and_its_truth(run: Run) -> None:
    """All clicks are drawn on the image itself, in their colors."""
    split = run.datamodule().val_split()
    figure = draw_predictions({"clicks\npCE": run}, count=1, weak=True)
    assert [axis.get_title() for axis in figure.axes] == ["image", "clicks", "ground truth", "clicks\npCE"]
    np.testing.assert_array_equal(pictures(figure)[1][0], split.image(0))
    labels = split.weak_labels(0)
    assert isinstance(labels, list)
    for line, click in zip(figure.axes[1].lines, labels, strict=True):
        np.testing.assert_array_equal(np.transpose(line.get_data()), click.points - 0.5)
        np.testing.assert_array_equal(line.get_color(), voc_palette()[click.label] / 255)


def test_run_without_gallery_is_refused_with_the_remedy(finished: Path, tmp_path: Path) -> None:
    shutil.copy(finished / "config.yaml", tmp_path)
    with pytest.raises(InputError, match=r"has no predictions of validation images. Run gatedcrf validate -c"):
        draw_predictions({"clicks": Run(tmp_path)})


def test_legend_names_the_classes_that_are_seen(run: Run) -> None:
    data = run.datamodule()
    (legend,) = draw_predictions({"clicks": run}, count=1).legends
    seen = {*np.unique(data.val_split().dense_mask(0)).tolist(), *np.unique(predict(run, [0])[0]).tolist()}
    assert [text.get_text() for text in legend.get_texts()] == [data.class_names[label] for label in sorted(seen)]


def test_kernels_lie_below_the_whole_windows_of_their_image() -> None:
    split, kernel = ShapesDataset(3, 100, "clicks", seed=0), GaussianKernel({"rgb": 0.1, "xy": 12.0})
    figure = draw_kernels(split, count=2, kernel=kernel, radius=3, stride=4)
    shown = pictures(figure)
    for column, index in enumerate(spread(len(split), 2)):
        np.testing.assert_array_equal(shown[column][0], split.image(index)[:84, :84])  # 3 windows of 28 pixels
        np.testing.assert_array_equal(shown[2 + column][0], kernel_mosaic(split.image(index), kernel, 3, 4))
        anchors = figure.axes[column].lines[0].get_data()
        assert [sorted(set(places)) for places in anchors] == [[13.5, 41.5, 69.5]] * 2


def test_bandwidths_show_the_largest_gain_above_the_largest_loss(run: Run, fit: object) -> None:
    other = Run(fit("--seed_everything=1"))  # type: ignore[operator]
    split = run.datamodule().val_split()
    figure = draw_bandwidths({"narrow": run, "wide": other})
    indices = range(len(split))
    predicted = {each: predict(each, indices) for each in (run, other)}
    gains = {}
    for index in indices:
        truth = np.asarray(split.dense_mask(index))
        for label in np.unique(truth):
            of_class = [predicted[each][index] == label for each in (other, run)]
            wide, narrow = ((m & (truth == label)).sum() / (m | (truth == label)).sum() for m in of_class)
            gains[index, int(label)] = wide - narrow
    for row, value in enumerate((max(gains.values()), min(gains.values()))):
        image, *white = (found[0] for found in pictures(figure)[4 * row : 4 * row + 4])
        (place,) = [k for k in indices if np.array_equal(image, split.image(k))]
        labels = [label for (k, label), gain in gains.items() if k == place and gain == value]
        maps = [split.dense_mask(place), predicted[run][place], predicted[other][place]]
        assert any(np.array_equal(white, [m == label for m in maps]) for label in labels)
        assert f"{100 * value:+.0f} points" in figure.axes[4 * row].get_ylabel()


def test_first_run_has_the_lowest_seed_and_may_be_missing() -> None:
    ten, two = Run("ten"), Run("two")
    results = Results(Path("shapes"), {"clicks.pce": {10: ten, 2: two}})
    assert results.first("clicks.pce") is two
    assert results.first("full.pce") is None


@pytest.mark.parametrize(("length", "count", "expected"), [(10, 4, [0, 2, 5, 7]), (3, 4, [0, 1, 2]), (7, 1, [0])])
def test_images_are_evenly_spread(length: int, count: int, expected: list[int]) -> None:
    assert spread(length, count) == expected
