"""``gatedcrf data import``: exports of annotation tools become a folder to train on."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datamodules.folder.datamodule import FolderDataModule
from experiments.cli import main


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


@pytest.fixture
def unlabeled(folder_root: Path) -> Path:
    """A folder with one training image and no masks for it."""
    for kind in ("images", "masks"):
        shutil.rmtree(folder_root / kind / "train")
    (folder_root / "images" / "train").mkdir()
    Image.new("RGB", (64, 48)).save(folder_root / "images" / "train" / "a.jpg")
    return folder_root


@pytest.mark.parametrize(
    ("tool", "save"), [("labelme", save_labelme), ("cvat", save_cvat), ("label-studio", save_label_studio)]
)
def test_labels_of_tools_become_a_folder_of_weak_labels(
    unlabeled: Path,
    tmp_path: Path,
    tool: str,
    save: Callable[[Path], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Existing files are kept."""
    out = unlabeled
    source = save(tmp_path / "source")
    command = ["data", "import", tool, str(source), "--out", str(out)]
    main(command)
    assert ("Skipped 1 labeled images that are not in" in capsys.readouterr().out) == (
        tool != "label-studio"
    )  # has no image b
    clicks = FolderDataModule(str(out), supervision="clicks").train_split().weak_labels(0)
    assert [(c.label, c.points.round(9).tolist()) for c in clicks] == [(1, [[30.5, 4.0]])]
    scribbles = FolderDataModule(str(out), supervision="scribbles").train_split().weak_labels(0)
    assert [s.label for s in scribbles] == [1]
    assert all(((s.points > 2) & (s.points < 20)).all() for s in scribbles)

    before = (out / "scribbles.json").read_bytes()
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main([*command, "--regions", "clicks"])
    assert "clicks.json already exists" in capsys.readouterr().err
    assert (out / "scribbles.json").read_bytes() == before
    main([*command, "--regions", "clicks", "--force"])
    clicks = FolderDataModule(str(out), supervision="clicks").train_split().weak_labels(0)
    assert [c.points.round(9).tolist() for c in clicks] == [[[11.5, 11.5]], [[30.5, 4.0]]]


def test_run_trains_on_imported_clicks(
    unlabeled: Path,
    tmp_path: Path,
    fit_a_step: Callable[..., dict[str, Any]],
    labels_seen: Callable[[Path], Counter[int]],
) -> None:
    main(["data", "import", "labelme", str(save_labelme(tmp_path / "source")), "--out", str(unlabeled)])
    fit_a_step(tmp_path / "run", "folder", "clicks", f"--data.root={unlabeled}")
    assert labels_seen(tmp_path / "run") == {1: 1}


def test_malformed_input_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = save_labelme(tmp_path / "source"), tmp_path / "out"
    command = ["data", "import", "labelme", str(source), "--out", str(out)]

    def refused(*options: str) -> str:
        with pytest.raises(SystemExit, match="2"):
            main([*command, *options])
        return capsys.readouterr().err

    assert "classes.txt" in refused()
    classes = tmp_path / "names.txt"
    classes.write_text("left\n")
    assert "has the label 'right'; the classes are left" in refused("--classes", str(classes))
    classes.write_text("left\n\nright\n")
    assert "names.txt has an empty line" in refused("--classes", str(classes))
    classes.write_bytes(b"left\xff")
    assert "names.txt cannot be read as a list of class names" in refused("--classes", str(classes))
    classes.unlink()
    assert "names.txt; write one class name per line." in refused("--classes", str(classes))
    classes.write_text("left\nright\n")
    shutil.copy(source / "a.json", source / "c.json")
    assert "c.json labels a second image 'a'" in refused("--classes", str(classes))
    for path in source.iterdir():
        path.unlink()
    assert "labels none of the images" in refused("--classes", str(classes))
    (source / "a.json").write_text(json.dumps({"shapes": [], "imagePath": "a.jpg", "imageHeight": 4, "imageWidth": 4}))
    assert "labels none of the images" in refused("--classes", str(classes))
    assert not out.exists()
