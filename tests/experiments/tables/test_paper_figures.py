"""The figures show what the runs predict, in its place."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from datamodules.shapes.datamodule import ShapesDataset
from experiments.tables.figures import kernel_mosaic
from experiments.tables.paper_figures import draw_bandwidths, draw_kernels, draw_predictions, first_run, predict, spread
from experiments.tables.results import Results
from experiments.train.run import load_datamodule, load_model
from lightning_modules.palette import colorize
from losses import GaussianKernel


def pictures(figure: Figure) -> list[list[np.ndarray]]:
    return [[np.asarray(image.get_array()) for image in axis.images] for axis in figure.axes]


def test_predictions_are_those_of_the_final_weights(finished: Path) -> None:
    split, model = load_datamodule(finished).val_split(), load_model(finished, "last")
    (prediction,) = predict(finished, [1])
    batch = {"image": torch.from_numpy(split.image(1)).permute(2, 0, 1)[None]}
    with torch.no_grad():
        expected = model(batch["image"]).argmax(1)[0]
    np.testing.assert_array_equal(prediction, expected)


def test_each_row_is_an_image_its_truth_and_its_predictions(finished: Path) -> None:
    split = load_datamodule(finished).val_split()
    figure = draw_predictions({"clicks": finished, "full": None}, count=2)
    assert [axis.get_title() for axis in figure.axes[:4]] == ["image", "truth", "clicks", "full\n(no finished run)"]
    for row, index in enumerate(spread(split, 2)):
        image, truth, prediction, nothing = pictures(figure)[4 * row : 4 * row + 4]
        np.testing.assert_array_equal(image[0], split.image(index))
        np.testing.assert_array_equal(truth[0], colorize(np.asarray(split.dense_mask(index))))
        np.testing.assert_array_equal(prediction[0], colorize(predict(finished, [index])[0]))
        assert not nothing


def test_kernels_lie_below_the_whole_windows_of_their_image() -> None:
    split = ShapesDataset(3, 100, "clicks", seed=0)
    shown = pictures(draw_kernels(split, count=2))
    for column, index in enumerate(spread(split, 2)):
        np.testing.assert_array_equal(shown[column][0], split.image(index)[:93, :93])
        expected = kernel_mosaic(split.image(index), GaussianKernel({"rgb": 0.1, "xy": 12.0}), radius=15, stride=1)
        np.testing.assert_array_equal(shown[2 + column][0], expected)


def test_bandwidths_show_the_largest_gain_above_the_largest_loss(finished: Path, fit: object) -> None:
    other = fit("--seed_everything=1")  # type: ignore[operator]
    split = load_datamodule(finished).val_split()
    figure = draw_bandwidths({"narrow": finished, "wide": other})
    indices = range(len(split))
    predicted = {run: predict(run, indices) for run in (finished, other)}
    gains = {}
    for index in indices:
        truth = np.asarray(split.dense_mask(index))
        for label in np.unique(truth):
            of_class = [predicted[run][index] == label for run in (other, finished)]
            wide, narrow = ((m & (truth == label)).sum() / (m | (truth == label)).sum() for m in of_class)
            gains[index, int(label)] = wide - narrow
    for row, value in enumerate((max(gains.values()), min(gains.values()))):
        image, truth, narrow, wide = (found[0] for found in pictures(figure)[4 * row : 4 * row + 4])
        (place,) = [k for k in indices if np.array_equal(image, split.image(k))]
        labels = [label for (k, label), gain in gains.items() if k == place and gain == value]
        assert any(np.array_equal(truth[..., 0] > 0, split.dense_mask(place) == label) for label in labels)
        assert any(np.array_equal(wide[..., 1] > 0, predicted[other][place] == label) for label in labels)
        assert any(np.array_equal(narrow[..., 2] > 0, predicted[finished][place] == label) for label in labels)
        assert f"{100 * value:+.0f} points" in figure.axes[4 * row].get_ylabel()


def test_first_run_has_the_lowest_seed_and_may_be_missing() -> None:
    results = Results(Path(), "shapes", "paper", {"clicks.pce": {10: Path("ten"), 2: Path("two")}})
    assert first_run(results, "clicks.pce") == Path("two")
    assert first_run(results, "full.pce") is None


@pytest.mark.parametrize(("length", "count", "expected"), [(10, 4, [0, 2, 5, 7]), (3, 4, [0, 1, 2]), (7, 1, [0])])
def test_images_are_evenly_spread(length: int, count: int, expected: list[int]) -> None:
    assert spread(ShapesDataset(length, 32, "clicks", seed=0), count) == expected
