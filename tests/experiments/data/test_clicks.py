"""``gatedcrf data background-clicks`` and ``cityscapes-clicks``."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from datamodules.annotations import rasterize
from datamodules.cityscapes.datamodule import CityscapesDataModule
from datamodules.cityscapes.files import LABEL_IDS, CityscapesFiles
from datamodules.simulate_clicks import ClickSimulator
from datamodules.voc.datamodule import VOCDataModule
from experiments.cli import main

Xml = Callable[..., str]
TRAIN = ["aachen_000000_000019", "aachen_000001_000019", "zurich_000121_000019"]
VAL = ["frankfurt_000000_000294"]


def command(*args: str | Path) -> None:
    main(["data", *map(str, args)])


@pytest.fixture
def scribbles(tmp_path: Path, scribble_xml: Xml) -> Path:
    """The original zip with two images, one of them without background."""
    ways = [("background", [(0, 0), (4, 0), (4, 4)]), ("dog", [(1, 1)]), ("background", [(18, 461), (244, 483)])]
    with ZipFile(tmp_path / "scribble_annotation.zip", "w") as archive:
        for name, strokes in (("2008_005277", ways), ("2007_000032", ways[1:2])):
            archive.writestr(f"scribble_annotation/pascal_2012/{name}.xml", scribble_xml((500, 500), strokes))
            archive.writestr(f"scribble_annotation/pascal_context/{name}.xml", "no classes of VOC")
    return tmp_path / "scribble_annotation.zip"


def test_background_clicks_are_written_in_the_published_form(
    scribbles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "clicks.json"
    command("background-clicks", scribbles, "--out", out)
    text = out.read_text()
    assert text.strip().count("\n") == 0
    content = json.loads(text)
    assert content == {
        "2007_000032": [],
        "2008_005277": [
            {"x": 2, "y": 0, "cls": 0},
            {"x": 4, "y": 2, "cls": 0},
            {"x": 18, "y": 461, "cls": 0},
            {"x": 244, "y": 483, "cls": 0},
        ],
    }
    assert capsys.readouterr().out.split() == f"{out}: 4 clicks in 2 images".split()


def test_default_output_is_in_the_working_directory(
    scribbles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    command("background-clicks", scribbles)
    (written,) = (tmp_path / "here").iterdir()
    assert written.name == "whats_the_point_clicks_bg.json"


@pytest.mark.parametrize(("shift", "largest"), [(0.0, "0"), (1e-9, "1e-09"), (-0.5, "0.5")])
def test_comparison_prints_the_largest_difference(
    scribbles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], shift: float, largest: str
) -> None:
    command("background-clicks", scribbles, "--out", tmp_path / "ours.json")
    content = json.loads((tmp_path / "ours.json").read_text())
    content["2008_005277"][1]["y"] += shift
    (tmp_path / "theirs.json").write_text(json.dumps(content))
    compared = ["--compare", tmp_path / "theirs.json", "--force"]
    command("background-clicks", scribbles, "--out", tmp_path / "ours.json", *compared)
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("2 images in both files, 0 only derived, 0 only published, 0 with another number of clicks")
    assert f"the largest difference is {largest} pixels, in " in line


def test_comparison_counts_images_that_differ(
    scribbles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = [{"x": 1, "y": 2, "cls": 0}] * 2
    (tmp_path / "theirs.json").write_text(json.dumps({"2008_005277": two, "2011_000001": two, "2011_000002": []}))
    command("background-clicks", scribbles, "--out", tmp_path / "ours.json", "--compare", tmp_path / "theirs.json")
    expected = "1 images in both files, 1 only derived, 2 only published, 1 with another number of clicks"
    assert capsys.readouterr().out.splitlines()[-1] == expected


def test_malformed_scribbles_keep_an_older_file(
    scribbles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ZipFile(scribbles, "a") as archive:
        archive.writestr("scribble_annotation/pascal_2012/2011_000001.xml", "<annotation></annotation>")
    (tmp_path / "clicks.json").write_text("older")
    with pytest.raises(SystemExit, match="2"):
        command("background-clicks", scribbles, "--out", tmp_path / "clicks.json", "--force")
    assert "2011_000001.xml cannot be read as a scribble file (<size/height> is ''" in capsys.readouterr().err
    assert (tmp_path / "clicks.json").read_text() == "older"


def test_derived_clicks_lie_on_the_pixels_of_their_scribble(voc_root: Path, tmp_path: Path) -> None:
    """The files of clicks hold indices of pixels: a click of a scribble lies on the pixels of that scribble."""
    command("background-clicks", voc_root / "scribble_annotation.zip", "--out", tmp_path / "background.json")
    clicks = [str(voc_root / "voc_whats_the_point.json"), str(tmp_path / "background.json")]
    options = {"published_split": False, "rasterize_first": True, "stroke_width": 1}
    clicked = VOCDataModule(str(voc_root), clicks=clicks, **options).train_split()
    scribbled = VOCDataModule(str(voc_root), supervision="scribbles", **options).train_split()
    for index in range(len(clicked)):
        points, strokes = clicked.weak_labels(index), scribbled.weak_labels(index)
        assert isinstance(points, np.ndarray)
        assert isinstance(strokes, np.ndarray)
        assert (points == 0).sum() == 2
        assert (strokes[points == 0] == 0).all()


def test_cityscapes_clicks_have_label_ids_and_pixel_indices(
    cityscapes_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command("cityscapes-clicks", cityscapes_root, "--workers", "1")
    out = cityscapes_root / "cityscapes_clicks.json"
    content = json.loads(out.read_text())
    assert sorted(content) == sorted(TRAIN + VAL)
    first = content[TRAIN[0]]
    assert sorted(item["cls"] for item in first) == [7, 20, 23, 24, 24, 26, 26, 26, 26]
    assert {"x": 70, "y": 50, "cls": 24} in first
    assert all(item["x"] % 1 == item["y"] % 1 == 0 for items in content.values() for item in items)
    amount = sum(map(len, content.values()))
    assert capsys.readouterr().out.split() == f"{out}: {amount} clicks in 4 images; cls is the labelId".split()


def test_cityscapes_clicks_are_read_back_as_the_classes_of_the_pixels(cityscapes_root: Path) -> None:
    command("cityscapes-clicks", cityscapes_root, "--workers", "1")
    data = CityscapesDataModule(str(cityscapes_root), published_split=False)
    files = CityscapesFiles(cityscapes_root)
    simulator = ClickSimulator(min_area=256, things=frozenset(range(11, 19)))
    split = data.train_split()
    for index, name in enumerate(TRAIN):
        labels, mask = split.weak_labels(index), split.dense_mask(index)
        assert isinstance(labels, list)
        assert mask is not None
        drawn = rasterize(labels, mask.shape)
        assert (drawn != 255).sum() == len(labels) > 5
        np.testing.assert_array_equal(drawn[drawn != 255], mask[drawn != 255])
        direct = files.simulate_clicks("train", name, simulator)
        np.testing.assert_array_equal(drawn, rasterize(direct, mask.shape))


def test_parallel_equals_serial(cityscapes_root: Path, tmp_path: Path) -> None:
    for kind in ("leftImg8bit", "gtFine"):  # more images than a worker takes at once
        folder = cityscapes_root / kind / "train" / "aachen"
        for path in list(folder.glob(f"{TRAIN[0]}_*")):
            for k in range(2, 8):
                shutil.copy(path, folder / path.name.replace("000000", f"{k:06}"))
    command("cityscapes-clicks", cityscapes_root, "--workers", "1", "--out", tmp_path / "serial.json")
    command("cityscapes-clicks", cityscapes_root, "--workers", "3", "--out", tmp_path / "parallel.json")
    assert (tmp_path / "serial.json").read_text() == (tmp_path / "parallel.json").read_text()
    assert len(json.loads((tmp_path / "serial.json").read_text())) == 10


def test_options_set_splits_and_smallest_area(cityscapes_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "clicks.json"
    for options, names, poles in [
        (["--splits", "val"], VAL, 0),
        (["--splits", "train", "--min_area", "255"], TRAIN, 3),
        (["--splits", "val", "train", "--min_area", "1"], TRAIN + VAL, 4),
    ]:
        command("cityscapes-clicks", cityscapes_root, "--workers", "1", "--force", "--out", out, *options)
        content = json.loads(out.read_text())
        assert sorted(content) == sorted(names)
        assert sum(item["cls"] == LABEL_IDS[5] for items in content.values() for item in items) == poles


@pytest.mark.parametrize("name", ["background-clicks", "cityscapes-clicks"])
def test_unwritable_output_is_refused_before_the_work(
    scribbles: Path, cityscapes_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    source = {"background-clicks": scribbles, "cityscapes-clicks": cityscapes_root}[name]
    (tmp_path / "older.json").write_text("older")
    for out, message in [
        (tmp_path / "older.json", "older.json already exists; choose another file, or replace"),
        (tmp_path / "older.json" / "new.json", "new.json cannot be written (File exists); choose another"),
        (tmp_path, f"{tmp_path} already exists"),
    ]:
        with pytest.raises(SystemExit, match="2"):
            command(name, source, "--out", out)
        assert message in capsys.readouterr().err
    assert (tmp_path / "older.json").read_text() == "older"
    command(name, source, "--out", tmp_path / "new" / "folder" / "new.json")
    assert (tmp_path / "new" / "folder" / "new.json").is_file()


@pytest.mark.parametrize("option", ["--workers", "--min_area"])
def test_options_below_one_are_refused(cityscapes_root: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        command("cityscapes-clicks", cityscapes_root, option, "0")
    assert f"argument {option}: '0' is not a positive integer" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--min-area=1", "--mini=1", "--data.augmentation.crop=3"])
def test_unknown_options_are_refused(cityscapes_root: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        command("cityscapes-clicks", cityscapes_root, "--workers", "1", option)
    assert option in capsys.readouterr().err
    assert not list(cityscapes_root.glob("*.json"))


def test_malformed_map_is_named_and_nothing_is_written(
    cityscapes_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = CityscapesFiles(cityscapes_root).annotation("train", TRAIN[1], "instanceIds")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SystemExit, match="2"):
        command("cityscapes-clicks", cityscapes_root, "--workers", "2")
    assert f"{TRAIN[1]}_gtFine_instanceIds.png cannot be read" in capsys.readouterr().err
    assert not list(cityscapes_root.glob("*.json*"))
