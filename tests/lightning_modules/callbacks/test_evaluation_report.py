"""Files and table of a real evaluation."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from torch.utils.data import DataLoader

from datamodules.sample import Sample
from lightning_modules.callbacks import EvaluationReport
from lightning_modules.callbacks.evaluation_report import draw_confusion
from lightning_modules.inference import Inference
from lightning_modules.weak_segmentation import WeakSegmentation

Trainer = Callable[..., pl.Trainer]
Module = Callable[..., WeakSegmentation]
Loader = Callable[..., DataLoader[Sample]]
SIZES = ((12, 16), (9, 21), (10, 10))


def count(model: WeakSegmentation, data: DataLoader[Sample]) -> np.ndarray:
    """Count the confusions pixel by pixel."""
    confusion = np.zeros((4, 4), dtype=int)
    for sample in data:
        prediction = model(sample["image"]).argmax(1)
        for truth, predicted in zip(sample["target"].flatten().tolist(), prediction.flatten().tolist(), strict=True):
            if truth != 255:
                confusion[truth, predicted] += 1
    return confusion


def read(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_cells_are_colored_by_their_share_of_the_row_and_absent_rows_are_gray() -> None:
    """Compare colors away from the centers, where the numbers are drawn."""
    confusion = np.array([[30, 10, 0], [0, 0, 0], [1, 0, 299]])
    figure = draw_confusion(confusion, "abc", "title")
    (axes,), canvas = figure.axes, FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())
    gray = [round(255 * 0.9)] * 3 + [255]
    blues = {share: colormaps["Blues"](share, bytes=True) for share in (0.0, 0.25, 0.75, 1 / 300, 299 / 300)}
    shares = [[0.75, 0.25, 0.0], [None] * 3, [1 / 300, 0.0, 299 / 300]]
    for row, column in np.ndindex(3, 3):
        x, y = axes.transData.transform((column - 0.4, row - 0.4)).astype(int)
        share = shares[row][column]
        np.testing.assert_allclose(pixels[-1 - y, x], gray if share is None else blues[share], atol=2)
    assert sorted(text.get_text() for text in axes.texts) == ["100", "25", "75"]
    assert [label.get_text() for label in axes.get_xticklabels()] == list("abc")
    assert axes.get_title().startswith("title")


def test_long_title_fits_into_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    draw_confusion(np.eye(2, dtype=int), "ab", 9 * "sliding window, ").savefig(path, bbox_inches="tight")
    pixels = np.array(Image.open(path))
    assert (pixels[:, [0, -1]] == 255).all()
    assert (pixels[:40, 10:60] != 255).any()


@pytest.mark.parametrize("evaluation", ["validate", "test"])
def test_files_and_table_agree_with_counts_pixel_by_pixel(
    evaluation: str,
    tmp_path: Path,
    trainer: Trainer,
    module: Module,
    loader: Loader,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, data = module(), loader(*SIZES)
    confusion = count(model, data)
    iou = [100 * confusion[k, k] / (confusion[k].sum() + confusion[:, k].sum() - confusion[k, k]) for k in range(3)]
    getattr(trainer(callbacks=[EvaluationReport()]), evaluation)(model, data, verbose=False)

    table = [[name, f"{value:.2f}"] for name, value in zip("abc", iou, strict=True)]
    mean = ["mean", f"{np.mean(iou):.2f}"]
    assert read(tmp_path / "iou_per_class.csv") == [["class", "IoU"], *table, ["d", "n/a"], mean]
    printed = capsys.readouterr().out
    assert all(value in printed for _, value in [*table, mean])
    assert "whole image, 3 images" in printed

    (_, *names), *rows = read(tmp_path / "confusion_matrix.csv")
    assert names == [row[0] for row in rows] == list("abcd")
    assert np.array_equal(np.array(rows)[:, 1:].astype(int), confusion)
    title = "step 0, whole image, 3 images"
    draw_confusion(confusion, "abcd", title).savefig(tmp_path / "expected.png", bbox_inches="tight")
    assert np.array_equal(
        *(np.array(Image.open(tmp_path / f"{name}.png")) for name in ("confusion_matrix", "expected"))
    )

    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        "evaluation": "whole image",
        "miou": pytest.approx(np.mean(iou), abs=1e-4),
        "pixel_accuracy": pytest.approx(100 * confusion.trace() / confusion.sum(), abs=1e-4),
        "iou": {**{name: pytest.approx(v, abs=1e-4) for name, v in zip("abc", iou, strict=True)}, "d": None},
        "images": 3,
        "step": 0,
        "checkpoint": None,
    }


def test_pixels_outside_of_the_crop_are_not_counted(
    tmp_path: Path, trainer: Trainer, module: Module, loader: Loader
) -> None:
    """Each image has a center crop of 8 x 8 pixels, some without a label."""
    model, data = module(inference=Inference(crop=8)), loader(*SIZES)
    trainer(callbacks=[EvaluationReport()]).validate(model, data, verbose=False)
    labeled = 0
    for sample in data:
        height, width = sample["target"].shape[1:]
        top, left = (height - 7) // 2, (width - 7) // 2  # the larger half of an odd margin is at the top and left
        labeled += int((sample["target"][:, top : top + 8, left : left + 8] != 255).sum())
    assert model.evaluation is not None
    assert model.evaluation.confusion.sum() == labeled
    assert json.loads((tmp_path / "metrics.json").read_text())["evaluation"] == "8 center crop"


def test_table_is_printed_once_in_a_run(
    trainer: Trainer, module: Module, loader: Loader, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the last of three validations prints the table."""
    run = trainer(callbacks=[EvaluationReport()], max_steps=6, val_check_interval=2, check_val_every_n_epoch=None)
    run.fit(module(), loader(*SIZES), loader(*SIZES))
    printed = capsys.readouterr().out
    assert printed.count("mean") == 1
    assert "step 6" in printed


def test_step_is_that_of_the_checkpoint(tmp_path: Path, trainer: Trainer, module: Module, loader: Loader) -> None:
    data, path = loader(*SIZES), tmp_path / "some.ckpt"
    run = trainer(max_steps=3, val_check_interval=2, check_val_every_n_epoch=None)
    run.fit(module(), data, data)
    run.save_checkpoint(path)
    model = module()
    trainer(callbacks=[EvaluationReport()]).validate(model, data, ckpt_path=path, verbose=False)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["step"], metrics["checkpoint"]) == (3, str(path))
    assert model.best == run.lightning_module.best  # an evaluation of other weights does not change it
