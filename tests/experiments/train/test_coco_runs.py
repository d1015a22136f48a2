"""Runs on COCO annotations and predictions as COCO results, through the command line."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from experiments.cli import main

CATEGORIES = [{"id": 5, "name": "left"}, {"id": 90, "name": "right"}]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Images of two colored objects on a dark ground, in two folders, with a COCO file each."""
    root = tmp_path / "data"
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        images, annotations = [], []
        for index in range(3):
            image = rng.integers(0, 40, size=(48, 64, 3), dtype=np.uint8)
            name = f"day{index % 2}/{split}{index}.png"
            (root / split / name).parent.mkdir(parents=True, exist_ok=True)
            images.append({"id": 10 + index, "file_name": name, "height": 48, "width": 64})
            for category, x in ((5, 8), (90, 36)):
                image[8:40, x : x + 20, category == 5] += 180
                outline = [x, 8, x + 20, 8, x + 20, 40, x, 40]
                place = {"id": len(annotations) + 1, "image_id": 10 + index, "category_id": category, "iscrowd": 0}
                annotations.append({**place, "segmentation": [outline], "bbox": [x, 8, 20, 32], "area": 640})
            Image.fromarray(image).save(root / split / name)
        content = {"images": images, "categories": CATEGORIES, "annotations": annotations}
        (root / f"{split}.json").write_text(json.dumps(content))
    return root


Fit = Callable[..., dict[str, Any]]
Count = Callable[[Path], Counter[int]]


def dataset(root: Path) -> list[str]:
    return [
        f"--data.images={root / 'train'}",
        f"--data.val_images={root / 'val'}",
        f"--data.train_annotations={root / 'train.json'}",
        f"--data.val_annotations={root / 'val.json'}",
    ]


def test_run_trains_on_polygons_and_predictions_become_results(
    root: Path, tmp_path: Path, fit_a_step: Fit, labels_seen: Count, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert set(fit_a_step(run, "coco", "clicks", *dataset(root))["iou"]) == {"background", "left", "right"}
    seen_in_training = labels_seen(run)
    assert (seen_in_training[1], seen_in_training[2]) == (3, 3)

    (root / "train.json").unlink()  # prediction needs neither the training data nor labels
    unlabeled = json.loads((root / "val.json").read_text())
    del unlabeled["annotations"][0]["segmentation"]
    (root / "val.json").write_text(json.dumps(unlabeled))
    main(["predict", "-c", str(run / "config.yaml"), f"--ckpt_path={run / 'checkpoints/best.ckpt'}"])
    del unlabeled["annotations"]
    (root / "val.json").write_text(json.dumps(unlabeled))
    out = tmp_path / "results" / "results.json"
    convert = ["data", "to-coco", str(run / "predict"), str(root / "val.json"), str(out)]
    main(convert)
    loaded = COCO(str(root / "val.json")).loadRes(str(out))
    seen = 0
    for image in unlabeled["images"]:
        prediction = np.array(Image.open((run / "predict" / image["file_name"]).with_suffix(".png")))
        drawn = np.zeros((48, 64), dtype=int)
        for annotation in loaded.imgToAnns[image["id"]]:
            drawn[loaded.annToMask(annotation) > 0] = {5: 1, 90: 2}[annotation["category_id"]]
            seen += 1
        assert np.array_equal(prediction, drawn)
    assert seen > 0

    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(convert)
    assert "results.json already exists; choose another file, or replace" in capsys.readouterr().err
    main([*convert, "--force"])
    Image.new("P", (4, 4)).save(run / "predict" / "day1" / "val1.png")
    (run / "predict" / "day0" / "val0.png").rename(run / "predict" / "val0.png")
    for message in ("val0.png is missing; predict every image", "val1.png has (H, W) (4, 4), but"):
        with pytest.raises(SystemExit):
            main([*convert, "--force"])
        assert message in capsys.readouterr().err
        shutil.copy(run / "predict" / "val0.png", run / "predict" / "day0" / "val0.png")


def test_run_trains_on_keypoints_and_check_counts_them(
    root: Path, tmp_path: Path, fit_a_step: Fit, labels_seen: Count, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((root / "train.json").read_text())
    for annotation in content["annotations"]:
        annotation["keypoints"] = [12, 10, 2, 40, 30, 2, 20, 20, 1]  # two are visible
        annotation["num_keypoints"] = 3
        del annotation["segmentation"]
    (root / "train.json").write_text(json.dumps(content))
    fit_a_step(tmp_path / "run", "coco", "clicks", *dataset(root), "--data.supervision=keypoints")
    seen = labels_seen(tmp_path / "run")
    assert set(seen) == {0, 2}  # the later annotation has the same keypoints and is drawn over the earlier one
    assert seen[2] == 3 * 2
    capsys.readouterr()
    main(["data", "check", "--dataset", "coco", "--supervision", "keypoints", *dataset(root)])
    printed = [line.split()[:7] for line in capsys.readouterr().out.splitlines()]
    assert ["│", "left", "│", "3", "│", str(3 * 2), "│"] in printed


def test_results_without_a_background_start_at_class_zero(root: Path, tmp_path: Path) -> None:
    for index in range(3):
        path = tmp_path / "predict" / f"day{index % 2}" / f"val{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((48, 64), index % 2, dtype=np.uint8)).save(path)
    out = tmp_path / "results.json"
    main(["data", "to-coco", str(tmp_path / "predict"), str(root / "val.json"), str(out), "--no-background"])
    assert [result["category_id"] for result in json.loads(out.read_text())] == [5, 90, 5]


def test_empty_results_are_explained(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty list is correct, but ``COCO.loadRes`` fails on it."""
    for index in range(3):
        path = tmp_path / "predict" / f"day{index % 2}" / f"val{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("P", (64, 48)).save(path)
    out = tmp_path / "results.json"
    main(["data", "to-coco", str(tmp_path / "predict"), str(root / "val.json"), str(out)])
    assert json.loads(out.read_text()) == []
    assert "No image has a predicted category; COCO.loadRes cannot read an empty list" in capsys.readouterr().out
    with pytest.raises(IndexError):
        COCO(str(root / "val.json")).loadRes(str(out))
