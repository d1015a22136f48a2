"""Cityscapes: labels of each supervision, and errors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

from datamodules.cityscapes.datamodule import CityscapesDataModule, CityscapesDataset
from datamodules.transforms import Labels

NAMES = ["aachen_000000_000019", "aachen_000001_000019", "zurich_000121_000019"]
CLICKS = {
    NAMES[0]: [{"x": 9, "y": 4, "cls": 23}, {"x": 5.5, "y": 33.25, "cls": 7}, {"x": 1, "y": 2, "cls": 33}],
    NAMES[1]: [{"x": 70, "y": 30, "cls": 29}, {"x": 1, "y": 60, "cls": 1}, {"x": 3, "y": 3, "cls": -1}],
    NAMES[2]: [],
    "frankfurt_000000_000294": [{"x": 3, "y": 3, "cls": 7}],
}


def open_cityscapes(root: Path, **options: Any) -> CityscapesDataModule:
    return CityscapesDataModule(str(root), **{"published_split": False, **options})


def plain(labels: Labels) -> list[tuple[int, list[list[float]]]]:
    assert isinstance(labels, list)
    return [(a.label, a.points.tolist()) for a in labels]


@pytest.fixture
def clicked(cityscapes_root: Path) -> Path:
    (cityscapes_root / "cityscapes_clicks.json").write_text(json.dumps(CLICKS))
    return cityscapes_root


def test_clicks_have_label_ids_and_those_of_void_are_dropped(clicked: Path) -> None:
    split = open_cityscapes(clicked).train_split()
    assert list(split.names) == [split.name(index) for index in range(len(split))] == NAMES
    assert plain(split.weak_labels(0)) == [(10, [[9, 4]]), (0, [[5.5, 33.25]]), (18, [[1, 2]])]
    assert plain(split.weak_labels(1)) == plain(split.weak_labels(2)) == []


def test_click_with_invalid_label_id_is_refused(clicked: Path) -> None:
    (clicked / "cityscapes_clicks.json").write_text(json.dumps({NAMES[0]: [{"x": 1, "y": 2, "cls": 34}]}))
    with pytest.raises(ValueError, match=r"cityscapes_clicks\.json, .*a cls of -1 to 33"):
        open_cityscapes(clicked).train_split()


def test_click_file_of_the_authors_is_found_and_a_path_takes_precedence(clicked: Path) -> None:
    for turn, name in enumerate(["cityscapes_synthetic_clicks.json", "mine.json"]):
        (clicked / name).write_text(json.dumps({NAMES[0]: [{"x": turn, "y": turn, "cls": 8}]}))
    mine = open_cityscapes(clicked, clicks=str(clicked / "mine.json"))
    assert plain(mine.train_split().weak_labels(0)) == [(1, [[1, 1]])]
    assert plain(open_cityscapes(clicked).train_split().weak_labels(0))[0] == (10, [[9, 4]])
    (clicked / "cityscapes_clicks.json").unlink()
    assert plain(open_cityscapes(clicked).train_split().weak_labels(0)) == [(1, [[0, 0]])]


def test_error_about_missing_clicks_names_the_command_that_simulates_them(cityscapes_root: Path) -> None:
    with pytest.raises(
        ValueError, match=r"cityscapes_clicks\.json does not exist; simulate it: gatedcrf data cityscapes-clicks"
    ):
        open_cityscapes(cityscapes_root).train_split()
    with pytest.raises(ValueError, match=r"gone\.json does not exist"):
        open_cityscapes(cityscapes_root, clicks=str(cityscapes_root / "gone.json")).train_split()
    (cityscapes_root / "cityscapes_clicks.json").write_text("{}")
    with pytest.raises(
        ValueError, match=rf"{NAMES[1]} is missing in the click file; see: gatedcrf data cityscapes-clicks"
    ):
        open_cityscapes(cityscapes_root).train_split().weak_labels(1)
    with pytest.raises(ValueError, match=rf"(?s)3 problems:.*{NAMES[0]} is missing.*{NAMES[2]} is missing"):
        open_cityscapes(cityscapes_root).prepare_data()


def test_dense_masks_need_no_clicks(cityscapes_root: Path) -> None:
    data = open_cityscapes(cityscapes_root, supervision="full")
    assert data.check().problems == []
    for split in (data.train_split(), data.val_split()):
        for index in range(len(split)):
            labels = split.weak_labels(index)
            assert isinstance(labels, np.ndarray)
            np.testing.assert_array_equal(labels, split.dense_mask(index))
            assert sorted(np.unique(labels).tolist()) == [0, 5, 7, 10, 11, 13, 255]


def test_validation_sees_dense_masks_beside_clicks(clicked: Path) -> None:
    val = open_cityscapes(clicked).val_split()
    assert list(val.names) == ["frankfurt_000000_000294"]
    for labels in (val.dense_mask(0), val.weak_labels(0)):
        assert isinstance(labels, np.ndarray)
        assert (labels == 13).sum() == 24 + 36 + 40 + 40  # pixels of cars


def test_image_is_decoded_unchanged(clicked: Path) -> None:
    split = open_cityscapes(clicked).train_split()
    for index, name in enumerate(NAMES):
        path = clicked / "leftImg8bit" / "train" / name.split("_")[0] / f"{name}_leftImg8bit.png"
        with PILImage.open(path) as picture:
            np.testing.assert_array_equal(split.image(index), np.array(picture))
        assert split.shape(index) == (64, 96)


def test_unpublished_numbers_of_images_are_refused(clicked: Path) -> None:
    """There are 18 training and 3 validation cities; the fixture has a part of 2 and 1 of them."""
    data = CityscapesDataModule(str(clicked))
    remedy = r"unpack leftImg8bit_trainvaltest\.zip again, or pass --data\.published_split=false"
    train = f"train/aachen has 2 images instead of the published 174; {remedy}"
    with pytest.raises(ValueError, match=f"(?s)21 problems:.*{train}.*and 16 more; see: gatedcrf data check"):
        data.prepare_data()
    assert [str(problem).split(";")[0].split("leftImg8bit/")[1] for problem in data.quick_problems("val")] == [
        "val/frankfurt has 1 images instead of the published 267",
        "val/lindau has 0 images instead of the published 59",
        "val/munster has 0 images instead of the published 174",
    ]


@pytest.fixture
def images_to_predict(cityscapes_root: Path) -> Path:
    folder = cityscapes_root / "leftImg8bit" / "test" / "berlin"
    folder.mkdir(parents=True)
    for name in ("berlin_000001_000019", "berlin_000000_000019"):
        PILImage.new("RGB", (96, 64), (9, 90, 200)).save(folder / f"{name}_leftImg8bit.png")
    return cityscapes_root


def test_test_images_are_predicted(images_to_predict: Path) -> None:
    split = open_cityscapes(images_to_predict).predict_split()
    assert isinstance(split, CityscapesDataset)
    assert list(split.names) == ["berlin_000000_000019", "berlin_000001_000019"]
    assert split.dense_mask(0) is None
    assert split.image(1)[0, 0].tolist() == [9, 90, 200]


def test_without_test_images_validation_images_are_predicted(cityscapes_root: Path) -> None:
    split = open_cityscapes(cityscapes_root).predict_split()
    assert isinstance(split, CityscapesDataset)
    assert list(split.names) == ["frankfurt_000000_000294"]


def test_crop_batch_and_width_are_those_of_the_paper(clicked: Path) -> None:
    data = CityscapesDataModule(str(clicked))
    assert (data.augmentation.crop, data.loader.batch_size, data.stroke_width) == (768, 8, 1)
    assert (data.num_classes, data.class_names[0], data.class_names[18]) == (19, "road", "bicycle")


@pytest.mark.parametrize("supervision", ["boxes", "scribbles"])
def test_unknown_supervision_is_refused(clicked: Path, supervision: str) -> None:
    with pytest.raises(ValueError, match=f"supervision is '{supervision}'; this dataset has clicks, tags, full"):
        open_cityscapes(clicked, supervision=supervision)


def test_check_names_malformed_files(clicked: Path) -> None:
    data = open_cityscapes(clicked)
    assert data.check().problems == []
    (clicked / f"leftImg8bit/train/aachen/{NAMES[1]}_leftImg8bit.png").write_bytes(b"")
    (clicked / "gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_labelIds.png").unlink()
    first, second = open_cityscapes(clicked).check().problems
    assert f"{NAMES[1]}_leftImg8bit.png cannot be read" in str(first)
    assert "frankfurt_000000_000294_gtFine_labelIds.png is missing" in str(second)
    assert [first.kind, second.kind] == ["cannot be read as an image", "missing file"]


def test_histogram_counts_clicks(clicked: Path) -> None:
    assert open_cityscapes(clicked).label_histogram() == [int(label in (0, 10, 18)) for label in range(19)]
