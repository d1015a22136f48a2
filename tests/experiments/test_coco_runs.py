"""Runs on COCO annotations, and both ways between labeling tools and this project, through the real command line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from datamodules.folder import FolderDataModule
from experiments import RESULT
from experiments.cli import main

NETWORK = [f"--model.network.init_args.{o}" for o in ("backbone=resnet10t", "pretrained=false", "channels=16")]
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


def dataset(root: Path) -> list[str]:
    return [
        f"--data.images={root / 'train'}",
        f"--data.val_images={root / 'val'}",
        f"--data.train_annotations={root / 'train.json'}",
        f"--data.val_annotations={root / 'val.json'}",
    ]


def test_trains_predicts_and_returns_results(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    configs = ["base.yaml", "datasets/coco.yaml", "supervision/clicks.yaml", "losses/gcrf_s.yaml"]
    small = ["--trainer.max_steps=1", "--trainer.val_check_interval=1", "--data.crop=32", "--data.batch_size=2"]
    args = [part for config in configs for part in ("-c", config)]
    options = [*small, "--data.num_workers=0", *NETWORK, *dataset(root)]
    main(["fit", *args, *options, f"--trainer.default_root_dir={run}"])
    assert set(json.loads((run / RESULT).read_text())["iou"]) == {"background", "left", "right"}

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
    assert "results.json is already there; name another, or replace it with --force" in capsys.readouterr().err
    main([*convert, "--force"])
    Image.new("P", (4, 4)).save(run / "predict" / "day1" / "val1.png")
    (run / "predict" / "day0" / "val0.png").rename(run / "predict" / "val0.png")
    for message in ("val0.png is missing; predict every image", "val1.png is 4 x 4, but"):
        with pytest.raises(SystemExit):
            main([*convert, "--force"])
        assert message in capsys.readouterr().err
        shutil.copy(run / "predict" / "val0.png", run / "predict" / "day0" / "val0.png")


def test_results_without_a_background_start_at_class_zero(root: Path, tmp_path: Path) -> None:
    for index in range(3):
        path = tmp_path / "predict" / f"day{index % 2}" / f"val{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((48, 64), index % 2, dtype=np.uint8)).save(path)
    out = tmp_path / "results.json"
    main(["data", "to-coco", str(tmp_path / "predict"), str(root / "val.json"), str(out), "--no-background"])
    assert [result["category_id"] for result in json.loads(out.read_text())] == [5, 90, 5]


def test_bad_annotations_stop_a_run_before_training(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((root / "train.json").read_text())
    del content["annotations"][3]["segmentation"]
    (root / "train.json").write_text(json.dumps(content))
    args = ["-c", "base.yaml", "-c", "datasets/coco.yaml", *NETWORK, *dataset(root)]
    with pytest.raises(SystemExit):
        main(["fit", *args, f"--trainer.default_root_dir={tmp_path / 'run'}"])
    assert "train.json, annotation 4 has no segmentation; draw its outline" in capsys.readouterr().err
    assert not (tmp_path / "run" / "metrics.csv").exists()


def test_check_counts_the_clicks(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "check", "--dataset", "coco", *dataset(root)])
    printed = capsys.readouterr().out
    assert "3 classes, 3 training and 3 validation images, no problems" in printed
    assert "0 training images without a label, 0 clicks outside" in printed


def save_labelme(folder: Path) -> Path:
    folder.mkdir()
    square = [[2, 2], [20, 2], [20, 20], [2, 20]]
    for name, shapes in {"a": [("point", [[30.5, 4]]), ("polygon", square)], "b": [("line", [[1, 1], [9, 9]])]}.items():
        drawn = [{"label": "right", "shape_type": kind, "points": points} for kind, points in shapes]
        content = {"shapes": drawn, "imagePath": f"{name}.jpg", "imageHeight": 48, "imageWidth": 64}
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def save_cvat(folder: Path) -> Path:
    folder.mkdir()
    size = 'width="64" height="48"'
    (folder / "annotations.xml").write_text(
        f'<annotations><image name="a.jpg" {size}><points label="right" points="30.5,4"/>'
        '<polygon label="right" points="2,2;20,2;20,20;2,20"/></image>'
        f'<image name="b.jpg" {size}><polyline label="right" points="1,1;9,9"/></image></annotations>'
    )
    return folder / "annotations.xml"


def save_label_studio(folder: Path) -> Path:
    folder.mkdir()
    size = {"original_width": 64, "original_height": 48}
    square = [[100 * x / 64, 100 * y / 48] for x, y in ([2, 2], [20, 2], [20, 20], [2, 20])]
    values: list[tuple[str, dict[str, Any]]] = [
        ("keypointlabels", {"x": 100 * 30.5 / 64, "y": 100 * 4 / 48}),
        ("polygonlabels", {"points": square}),
    ]
    drawn = [{"type": kind, "value": {**value, kind: ["right"]}, **size} for kind, value in values]
    tasks = [{"id": 1, "data": {"image": "/data/upload/1/0123abcd-a.jpg"}, "annotations": [{"result": drawn}]}]
    (folder / "export.json").write_text(json.dumps(tasks))
    return folder / "export.json"


@pytest.mark.parametrize(
    ("tool", "save"), [("labelme", save_labelme), ("cvat", save_cvat), ("label-studio", save_label_studio)]
)
def test_labels_of_tools_become_a_folder_of_weak_labels(
    tmp_path: Path, tool: str, save: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder's own reader understands what is written, and nothing that is there is lost."""
    out = tmp_path / "out"
    (out / "images" / "train").mkdir(parents=True)
    Image.new("RGB", (64, 48)).save(out / "images" / "train" / "a.jpg")
    (out / "classes.txt").write_text("left\nright\n")
    source = save(tmp_path / "source")
    command = ["data", "import", tool, str(source), "--out", str(out)]
    main(command)
    assert ("1 labeled images are not in" in capsys.readouterr().out) == (tool != "label-studio")  # has no image b
    clicks = FolderDataModule(str(out), supervision="clicks").train_split().labels(0)
    assert [(c.label, c.points.round(9).tolist()) for c in clicks] == [(1, [[30.5, 4.0]])]
    scribbles = FolderDataModule(str(out), supervision="scribbles").train_split().labels(0)
    assert [s.label for s in scribbles] == [1]
    assert all(((s.points > 2) & (s.points < 20)).all() for s in scribbles)

    before = (out / "scribbles.json").read_bytes()
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main([*command, "--regions", "clicks"])
    assert "clicks.json is already there" in capsys.readouterr().err
    assert (out / "scribbles.json").read_bytes() == before
    main([*command, "--regions", "clicks", "--force"])
    clicks = FolderDataModule(str(out), supervision="clicks").train_split().labels(0)
    assert [c.points.round(9).tolist() for c in clicks] == [[[11.5, 11.5]], [[30.5, 4.0]]]


def test_import_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = save_labelme(tmp_path / "source"), tmp_path / "out"
    command = ["data", "import", "labelme", str(source), "--out", str(out)]

    def refused(*options: str) -> str:
        with pytest.raises(SystemExit, match="2"):
            main([*command, *options])
        return capsys.readouterr().err

    assert "There is no" in refused()
    assert "classes.txt; write one class name per line, or name it with --classes" in refused()[20:]
    classes = tmp_path / "names.txt"
    classes.write_text("left\n")
    assert "has the label 'right'; the classes are left" in refused("--classes", str(classes))
    classes.write_text("left\n\nright\n")
    assert "names.txt has an empty line" in refused("--classes", str(classes))
    classes.write_text("left\nright\n")
    shutil.copy(source / "a.json", source / "c.json")
    assert "c.json labels 'a' again" in refused("--classes", str(classes))
    for path in source.iterdir():
        path.unlink()
    assert "holds no JSON files" in refused("--classes", str(classes))
    (source / "a.json").write_text(json.dumps({"shapes": [], "imagePath": "a.jpg", "imageHeight": 4, "imageWidth": 4}))
    assert "labels none of the images" in refused("--classes", str(classes))
    assert not out.exists()
