"""One training step on the formats of the paper's datasets, through the command line."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules.cityscapes.files import TRAIN_IDS
from datamodules.sample import IGNORE_INDEX
from experiments.cli import main

TRAIN_AUG = ["2007_000032", "2007_000063", "2008_000002", "2010_000001"]

Fit = Callable[..., dict[str, Any]]
Count = Callable[[Path], Counter[int]]


def test_voc_trains_on_clicks_and_predicts(voc_root: Path, tmp_path: Path, fit_a_step: Fit, labels_seen: Count) -> None:
    shutil.rmtree(voc_root / "benchmark_RELEASE")  # weak labels do not need the masks of SBD
    run = tmp_path / "run"
    result = fit_a_step(run, "voc", "clicks", f"--data.root={voc_root}")
    assert labels_seen(run) == {0: 6, 1: 1, 12: 1, 20: 1}
    assert list(result["iou"])[:3] == ["background", "aeroplane", "bicycle"]
    assert len(result["iou"]) == 21
    assert result["iou"]["background"] is not None  # the validation image has background and a person
    assert result["iou"]["person"] is not None
    main(["predict", "-c", str(run / "config.yaml"), f"--ckpt_path={run / 'checkpoints/last.ckpt'}"])
    with Image.open(run / "predict" / "2007_000033.png") as picture:
        assert picture.size == (36, 28)


def test_voc_trains_on_scribbles(voc_root: Path, tmp_path: Path, fit_a_step: Fit, labels_seen: Count) -> None:
    """Other forms of ScribbleSup are tested in datamodules/voc."""
    shutil.unpack_archive(voc_root / "scribble_annotation.zip", voc_root)
    folder = voc_root / "scribble_annotation" / "pascal_2012"
    drawn = [draw((folder / f"{name}.xml").read_text()) for name in TRAIN_AUG]
    fit_a_step(tmp_path / "run", "voc", "scribbles", f"--data.root={voc_root}")
    expected = Counter(value for labels in drawn for value in labels[labels != IGNORE_INDEX].tolist())
    assert labels_seen(tmp_path / "run") == expected


def draw(xml: str) -> np.ndarray:
    """Draw the right angle of the background and the point of the object, 3 pixels wide."""
    numbers = [int(number) for number in re.findall(r">(\d+)<", xml)]
    width, height, _, _, left, top, right, _, _, bottom, x, y = numbers
    labels = np.full((height, width), IGNORE_INDEX, dtype=np.uint8)
    labels[top - 1 : top + 2, left - 1 : right + 2] = 0
    labels[top - 1 : bottom + 2, right - 1 : right + 2] = 0
    tag = re.findall("<tag>(.*?)</tag>", xml)[1]
    labels[y - 1 : y + 2, x - 1 : x + 2] = {"plane": 1, "bike": 2, "dog": 12, "monitor": 20}[tag]
    return labels


def test_voc_trains_on_masks_of_voc_and_sbd(
    voc_root: Path,
    voc_masks: dict[str, np.ndarray],
    sbd_masks: dict[str, np.ndarray],
    tmp_path: Path,
    fit_a_step: Fit,
    labels_seen: Count,
) -> None:
    """Other layouts of SBD are tested in datamodules/voc."""
    fit_a_step(tmp_path / "run", "voc", "full", f"--data.root={voc_root}")
    masks = sbd_masks | voc_masks
    expected = Counter(value for name in TRAIN_AUG for value in masks[name].flatten().tolist())
    del expected[IGNORE_INDEX]
    assert labels_seen(tmp_path / "run") == expected


def test_cityscapes_trains_on_simulated_clicks_and_predicts_label_ids(
    cityscapes_root: Path, tmp_path: Path, fit_a_step: Fit, labels_seen: Count
) -> None:
    main(["data", "cityscapes-clicks", str(cityscapes_root), "--workers", "1"])
    run = tmp_path / "run"
    result = fit_a_step(run, "cityscapes", "clicks", f"--data.root={cityscapes_root}")
    # in each of three images: road, sign, sky, two persons, four parts of cars; the pole is one pixel too small
    assert labels_seen(tmp_path / "run") == {0: 3, 7: 3, 10: 3, 11: 6, 13: 12}
    assert len(result["iou"]) == 19
    assert {name for name in ("road", "sky", "car") if result["iou"][name] is not None} == {"road", "sky", "car"}
    main(["predict", "-c", str(run / "config.yaml"), f"--ckpt_path={run / 'checkpoints/last.ckpt'}"])
    for_the_server = run / "predict" / "labelIds" / "frankfurt_000000_000294_pred_labelIds.png"
    indices = np.array(Image.open(run / "predict" / "frankfurt_000000_000294.png"))
    assert [TRAIN_IDS[label] for label in np.array(Image.open(for_the_server)).flat] == indices.flatten().tolist()


def test_cityscapes_trains_on_clicks_of_the_authors(
    cityscapes_root: Path, tmp_path: Path, fit_a_step: Fit, labels_seen: Count
) -> None:
    """The authors' file has labelIds, clicks on void, and both training and validation images."""
    names = [path.name.removesuffix("_leftImg8bit.png") for path in cityscapes_root.glob("leftImg8bit/*/*/*.png")]
    clicks = [{"cls": label, "x": 7.0 * turn, "y": 20.5} for turn, label in enumerate((7, 26, 1, 33, 23))]
    (cityscapes_root / "cityscapes_synthetic_clicks.json").write_text(json.dumps(dict.fromkeys(names, clicks)))
    fit_a_step(tmp_path / "run", "cityscapes", "clicks", f"--data.root={cityscapes_root}")
    assert labels_seen(tmp_path / "run") == {0: 3, 13: 3, 18: 3, 10: 3}


def test_cityscapes_trains_on_masks(
    cityscapes_root: Path, city_instances: np.ndarray, tmp_path: Path, fit_a_step: Fit, labels_seen: Count
) -> None:
    fit_a_step(tmp_path / "run", "cityscapes", "full", f"--data.root={cityscapes_root}")
    label_ids = {0: [7], 5: [17], 7: [20], 10: [23], 11: [24000, 24001], 13: [26, 26000, 26001]}
    expected = {index: 3 * int(np.isin(city_instances, values).sum()) for index, values in label_ids.items()}
    assert labels_seen(tmp_path / "run") == expected


def test_unpublished_lists_are_refused_before_training(
    voc_root: Path, tmp_path: Path, fit_a_step: Fit, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        fit_a_step(tmp_path / "run", "voc", "full", f"--data.root={voc_root}", "--data.published_split=true")
    error = capsys.readouterr().err
    assert "val has 1 images instead of the published 1,449" in error
    assert "--data.published_split=false" in error
    assert not (tmp_path / "run" / "metrics.csv").exists()
