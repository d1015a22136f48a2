"""Pascal VOC: labels of each supervision, and errors."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image as PILImage

from datamodules.annotations import LabelMap, drop_outside, rasterize
from datamodules.dataset import AugmentedCrops
from datamodules.image_cache import CachedImages
from datamodules.loader import LoaderOptions
from datamodules.sampler import Draw
from datamodules.transforms import RandomScaleCropFlip
from datamodules.voc.datamodule import VOCDataModule
from datamodules.voc.dataset import VOCDataset

Xml = Callable[..., str]
TRAIN_AUG = ["2007_000032", "2007_000063", "2008_000002", "2010_000001"]


def open_voc(root: Path, **options: Any) -> VOCDataModule:
    return VOCDataModule(str(root), **{"published_split": False, **options})


def vectors(split: VOCDataset, name: str) -> list[tuple[int, list[list[float]]]]:
    labels = split.weak_labels(list(split.names).index(name))
    assert isinstance(labels, list)
    return [(a.label, a.points.tolist()) for a in labels]


def label_map(split: VOCDataset, name: str) -> LabelMap:
    labels = split.weak_labels(list(split.names).index(name))
    assert isinstance(labels, np.ndarray)
    return labels


@pytest.fixture
def scribbled(voc_root: Path, scribble_xml: Xml) -> Callable[..., VOCDataset]:
    """Give image 2007_000032, of 40 x 30 pixels, these scribbles and open the training images."""

    def write(
        strokes: list[tuple[str, list[tuple[int, int]]]], size: tuple[int, int] = (40, 30), **options: Any
    ) -> Any:
        folder = voc_root / "drawn"
        folder.mkdir(exist_ok=True)
        (folder / "2007_000032.xml").write_text(scribble_xml(size, strokes))
        return open_voc(voc_root, supervision="scribbles", scribbles=str(folder), **options).train_split()

    return write


@pytest.fixture
def without_sbd(voc_root: Path) -> Path:
    shutil.rmtree(voc_root / "benchmark_RELEASE")
    return voc_root


def test_background_clicks_lie_on_top_of_object_clicks(voc_root: Path) -> None:
    split = open_voc(voc_root).train_split()
    assert list(split.names) == [split.name(index) for index in range(len(split))] == TRAIN_AUG
    assert vectors(split, "2007_000032") == [(1, [[20.25, 15.75]]), (0, [[12.5, 2]]), (0, [[37, 7.25]])]
    assert vectors(split, "2007_000063") == [(12, [[15.25, 20.75]])]  # no background
    assert vectors(split, "2010_000001") == [(0, [[12.5, 2]]), (0, [[29, 7.25]])]  # no objects
    assert [label for label, _ in vectors(split, "2008_000002")] == [20, 20, 0, 0]


@pytest.mark.parametrize("supervision", ["clicks", "scribbles", "full"])
def test_max_side_reduces_images_and_all_labels(voc_root: Path, supervision: str) -> None:
    """The image is 40 x 30 pixels, so every coordinate is halved."""
    whole, half = (open_voc(voc_root, supervision=supervision, max_side=side).train_split() for side in (None, 20))
    assert half.shape(0) == half.image(0).shape[:2] == half.dense_mask(0).shape == (15, 20)
    blocks = whole.image(0).reshape(15, 2, 20, 2, 3).mean((1, 3))
    assert abs(half.image(0) - blocks).max() <= 0.5
    sources = [whole.dense_mask(0)[row::2, column::2] for row in (0, 1) for column in (0, 1)]
    assert np.any([half.dense_mask(0) == source for source in sources], axis=0).all()
    if supervision == "full":
        np.testing.assert_array_equal(half.weak_labels(0), half.dense_mask(0))
        return
    expected = [(label, (np.array(points) / 2).tolist()) for label, points in vectors(whole, "2007_000032")]
    assert vectors(half, "2007_000032") == expected
    drawn = open_voc(voc_root, supervision=supervision, max_side=20, rasterize_first=True).train_split()
    width = {"clicks": 1, "scribbles": 3}[supervision]
    np.testing.assert_array_equal(drawn.weak_labels(0), rasterize(half.weak_labels(0), (15, 20), width))


def test_max_side_does_not_hide_a_mask_of_another_size(voc_root: Path) -> None:
    path = voc_root / "VOCdevkit/VOC2012/SegmentationClass/2007_000032.png"
    PILImage.open(path).resize((50, 30), PILImage.Resampling.NEAREST).save(path)
    split = open_voc(voc_root, supervision="full", max_side=20).train_split()
    with pytest.raises(ValueError, match=r"2007_000032 has labels of \(H, W\) \(30, 50\), but an image of \(30, 40\)"):
        split.weak_labels(0)


def test_max_side_below_1_is_refused(voc_root: Path) -> None:
    with pytest.raises(ValueError, match="max_side is 0; use at least 1 pixel"):
        open_voc(voc_root, max_side=0).val_split()


def test_click_outside_its_image_is_not_in_any_crop(voc_root: Path) -> None:
    data = open_voc(voc_root, augmentation=RandomScaleCropFlip(64, (1.0, 1.0), 0.0), stroke_width=3)
    split = data.train_split()
    labels = split.weak_labels(2)
    assert isinstance(labels, list)
    assert [len(labels), len(drop_outside(labels, split.shape(2)))] == [4, 3]
    target = AugmentedCrops(split, data.augmentation, 0, data.stroke_width)[Draw(2, 0, 0)]["target"]
    assert {value: int((target == value).sum()) for value in (0, 20)} == {0: 18, 20: 9}


def test_clicks_of_other_files_are_used_in_their_order(voc_root: Path, tmp_path: Path) -> None:
    for turn, name in enumerate(("one.json", "two.json", "three.json")):
        (tmp_path / name).write_text(json.dumps({k: [{"x": turn, "y": 3, "cls": turn}] for k in TRAIN_AUG}))
    split = open_voc(voc_root, clicks=[str(tmp_path / name) for name in ("two.json", "three.json", "one.json")])
    assert vectors(split.train_split(), "2007_000063") == [(1, [[1, 3]]), (2, [[2, 3]]), (0, [[0, 3]])]


def test_image_missing_in_one_click_file_is_named(voc_root: Path) -> None:
    """Otherwise training would silently use only the clicks of the other file."""
    path = voc_root / "voc_whats_the_point.json"
    content = json.loads(path.read_text())
    del content["2008_000002"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"2008_000002 is missing in a click file; download it again"):
        open_voc(voc_root).train_split().weak_labels(2)
    with pytest.raises(ValueError, match=r"^2008_000002 is missing in a click file"):
        open_voc(voc_root).prepare_data()
    background = voc_root / "voc_whats_the_point_bg_from_scribbles.json"
    background.unlink()
    with pytest.raises(ValueError, match=r"voc_whats_the_point_bg_from_scribbles\.json cannot be read .*No such file"):
        open_voc(voc_root).train_split()


@pytest.mark.parametrize("supervision", ["clicks", "scribbles"])
def test_without_sbd_training_images_are_those_with_weak_labels(without_sbd: Path, supervision: str) -> None:
    """The object clicks also name images of neither split, here 2011_009999; they are ignored."""
    assert "2011_009999" in json.loads((without_sbd / "voc_whats_the_point.json").read_text())
    assert list(open_voc(without_sbd, supervision=supervision).train_split().names) == TRAIN_AUG


def test_pixel_index_becomes_pixel_center(scribbled: Callable[..., VOCDataset]) -> None:
    """A scribble of one point and width 1 sets exactly the pixel [Y, X]."""
    for x, y in [(12, 7), (0, 0), (39, 29)]:
        split = scribbled([("dog", [(x, y)])], stroke_width=1)
        assert vectors(split, "2007_000032") == [(12, [[x + 0.5, y + 0.5]])]
        labels = split.weak_labels(0)
        assert isinstance(labels, list)
        assert np.argwhere(rasterize(labels, (30, 40), 1) != 255).tolist() == [[y, x]]


def test_scribble_covers_the_pixels_from_its_first_to_its_last(scribbled: Callable[..., VOCDataset]) -> None:
    strokes = [("plane", [(2, 5), (7, 5)]), ("background", [(7, 3), (7, 9)]), ("dog", [(45, 20), (30, 20)])]
    drawn = label_map(scribbled(strokes, rasterize_first=True, stroke_width=1), "2007_000032")
    expected = np.full((30, 40), 255, dtype=np.uint8)
    expected[5, 2:8] = 1
    expected[3:10, 7] = 0  # later strokes are drawn over earlier ones
    expected[20, 30:] = 12  # and the part outside is not drawn
    np.testing.assert_array_equal(drawn, expected)


def test_scribbles_keep_the_order_of_the_file(scribbled: Callable[..., VOCDataset]) -> None:
    strokes = [("dog", [(5, 5)]), ("background", [(5, 5)]), ("plant", [(5, 5), (6, 5)]), ("background", [(6, 5)])]
    split = scribbled(strokes, rasterize_first=True, stroke_width=1)
    assert label_map(split, "2007_000032")[5, 5:7].tolist() == [16, 0]
    split = scribbled(strokes[::-1], rasterize_first=True, stroke_width=1)
    assert label_map(split, "2007_000032")[5, 5:7].tolist() == [12, 16]


def test_scribbles_of_an_image_of_another_size_are_refused(scribbled: Callable[..., VOCDataset]) -> None:
    for width, height in [(30, 40), (41, 30), (40, 31)]:
        split = scribbled([("dog", [(5, 5)])], (width, height))
        stated = rf"drawn: the scribbles of 2007_000032 are for \(H, W\) \({height}, {width}\)"
        message = rf"{stated}, but .*2007_000032\.jpg has \(30, 40\)"
        with pytest.raises(ValueError, match=message):
            split.weak_labels(0)
        assert "(30, 40)" in str(split.problem(0, training=True))


def test_rasterizing_first_draws_the_same_vectors_on_the_image(voc_root: Path) -> None:
    for supervision, width in (("clicks", 1), ("clicks", 3), ("scribbles", 3)):
        later, first = (
            open_voc(voc_root, supervision=supervision, stroke_width=width, rasterize_first=flag).train_split()
            for flag in (False, True)
        )
        for index, name in enumerate(TRAIN_AUG):
            labels = later.weak_labels(index)
            assert isinstance(labels, list)
            expected = rasterize(drop_outside(labels, later.shape(index)), later.shape(index), width)
            np.testing.assert_array_equal(label_map(first, name), expected)


def test_rasterizing_first_leaves_out_clicks_just_outside(voc_root: Path, tmp_path: Path) -> None:
    """Their 3 x 3 block would reach into the image."""
    items = [{"x": 40.25, "y": 9.5, "cls": 1}, {"x": 9.5, "y": 30.0, "cls": 1}, {"x": 39.75, "y": 20, "cls": 2}]
    (tmp_path / "clicks.json").write_text(json.dumps(dict.fromkeys(TRAIN_AUG, items)))
    options = {"clicks": [str(tmp_path / "clicks.json")], "rasterize_first": True, "stroke_width": 3}
    drawn = label_map(open_voc(voc_root, **options).train_split(), "2007_000032")
    assert {value: int((drawn == value).sum()) for value in (1, 2)} == {1: 0, 2: 6}


def pngs(folder: Path, size: tuple[int, int] | None = None) -> Path:
    """Write scribbles as grayscale PNGs, 255 = unlabeled."""
    folder.mkdir()
    for turn, name in enumerate(TRAIN_AUG):
        with PILImage.open(folder.parent / "VOCdevkit/VOC2012/JPEGImages" / f"{name}.jpg") as image:
            picture = PILImage.new("L", size or image.size, 255)
        picture.putpixel((3, 5), turn)
        picture.save(folder / f"{name}.png")
    return folder


def test_rasterized_scribbles_are_read_as_maps(without_sbd: Path) -> None:
    (without_sbd / "scribble_annotation.zip").unlink()
    pngs(without_sbd / "pascal_2012_scribble")
    split = open_voc(without_sbd, supervision="scribbles").train_split()
    assert list(split.names) == TRAIN_AUG
    for turn, name in enumerate(TRAIN_AUG):
        labels = label_map(split, name)
        assert np.argwhere(labels != 255).tolist() == [[5, 3]]
        assert labels[5, 3] == turn
        assert labels.shape == split.image(turn).shape[:2]


def test_rasterized_scribbles_of_another_size_are_a_problem(voc_root: Path) -> None:
    folder = pngs(voc_root / "drawn", size=(40, 30))
    problems = open_voc(voc_root, supervision="scribbles", scribbles=str(folder)).check().problems
    assert [(problem.kind, problem.place) for problem in problems] == [("size differs", n) for n in TRAIN_AUG[1:]]
    assert "2007_000063 has labels of (H, W) (30, 40), but an image of (40, 30)" in str(problems[0])


@pytest.mark.parametrize("form", ["scribble_annotation.zip", "scribble_annotation", "voc_scribbles.zip"])
def test_scribbles_are_found_in_every_form(voc_root: Path, form: str) -> None:
    original = voc_root / "scribble_annotation.zip"
    if form != original.name:
        with ZipFile(original) as archive:
            archive.extractall(voc_root)
        original.unlink()
    if form == "voc_scribbles.zip":
        with ZipFile(voc_root / form, "w") as archive:
            for path in (voc_root / "scribble_annotation/pascal_2012").iterdir():
                archive.write(path, path.name)
        shutil.rmtree(voc_root / "scribble_annotation")
    split = open_voc(voc_root, supervision="scribbles").train_split()
    assert list(split.names) == TRAIN_AUG
    assert vectors(split, "2007_000032") == [(0, [[2.5, 2.5], [37.5, 2.5], [37.5, 27.5]]), (1, [[20.5, 15.5]])]


def test_missing_scribbles_are_refused_and_a_path_takes_precedence(voc_root: Path, tmp_path: Path) -> None:
    moved = (voc_root / "scribble_annotation.zip").rename(tmp_path / "mine.zip")
    with pytest.raises(ValueError, match=r"voc/scribble_annotation\.zip does not exist; .*pass --data\.scribbles"):
        open_voc(voc_root, supervision="scribbles").train_split()
    (voc_root / "scribble_annotation.zip").write_text("not this one")
    assert len(open_voc(voc_root, supervision="scribbles", scribbles=str(moved)).train_split()) == 4


def test_dense_masks_are_those_of_the_split(
    voc_root: Path, voc_masks: dict[str, LabelMap], sbd_masks: dict[str, LabelMap]
) -> None:
    split = open_voc(voc_root, supervision="full").train_split()
    for name in TRAIN_AUG:
        np.testing.assert_array_equal(label_map(split, name), (sbd_masks | voc_masks)[name])
    for supervision in ("clicks", "scribbles", "full"):
        val = open_voc(voc_root, supervision=supervision).val_split()
        assert list(val.names) == ["2007_000033"]
        for labels in (val.dense_mask(0), label_map(val, "2007_000033")):
            np.testing.assert_array_equal(labels, voc_masks["2007_000033"])


def test_image_is_decoded_unchanged(voc_root: Path) -> None:
    split = open_voc(voc_root).train_split()
    for index, name in enumerate(TRAIN_AUG):
        with PILImage.open(voc_root / "VOCdevkit/VOC2012/JPEGImages" / f"{name}.jpg") as picture:
            np.testing.assert_array_equal(split.image(index), np.array(picture))
        assert split.shape(index) == split.image(index).shape[:2]


def test_unpublished_image_lists_are_refused(voc_root: Path) -> None:
    data = VOCDataModule(str(voc_root), supervision="scribbles")
    remedy = r"download VOC and SBD again into .*voc, or pass --data\.published_split=false"
    train, val = (
        rf"{n}; {remedy}"
        for n in ("has 4 images instead of the published 10,582", "has 1 images instead of the published 1,449")
    )
    with pytest.raises(ValueError, match=rf"(?s)2 problems:.train_aug {train}.*val {val}"):
        data.prepare_data()


def test_unpublished_clicks_are_refused_unless_given_by_path(voc_root: Path) -> None:
    def problems(**options: Any) -> list[str]:
        return [str(problem) for problem in VOCDataModule(str(voc_root), **options).quick_problems("train")]

    *files, number = problems()
    assert all("json is not the published file; download it again, or pass" in problem for problem in files)
    assert len(files) == 2
    assert problems(clicks=[str(voc_root / "voc_whats_the_point.json")]) == [number]
    assert "train_aug has 4 images instead of the published 10,582" in number


def test_derived_background_replaces_a_missing_published_file(voc_root: Path) -> None:
    published = voc_root / "voc_whats_the_point_bg_from_scribbles.json"
    derived = voc_root / "whats_the_point_clicks_bg.json"
    derived.write_text(json.dumps({name: [{"x": 7, "y": 8, "cls": 0}] for name in TRAIN_AUG}))
    assert vectors(open_voc(voc_root).train_split(), "2007_000063") == [(12, [[15.25, 20.75]])]  # the published one
    published.unlink()
    assert vectors(open_voc(voc_root).train_split(), "2007_000063") == [(12, [[15.25, 20.75]]), (0, [[7, 8]])]
    files = [p.place for p in VOCDataModule(str(voc_root)).quick_problems("train") if p.kind == "checksum of a file"]
    assert files == [str(voc_root / "voc_whats_the_point.json")]  # the derived file has not been published


def test_full_supervision_without_sbd_is_refused(without_sbd: Path) -> None:
    with pytest.raises(ValueError, match="train_aug has 2 images instead of the published 10,582"):
        VOCDataModule(str(without_sbd), supervision="full").prepare_data()


@pytest.mark.parametrize(("supervision", "width"), [("clicks", 1), ("scribbles", 3), ("full", 1)])
def test_default_stroke_width_is_that_of_the_paper(voc_root: Path, supervision: str, width: int) -> None:
    """Sec. 4.1: clicks of 1 pixel and strokes of 3, also if drawn before the augmentation."""
    data = open_voc(voc_root, supervision=supervision, rasterize_first=True)
    assert (data.stroke_width, data.raster_width) == (width, width)
    data = open_voc(voc_root, supervision=supervision, stroke_width=5)
    assert (data.stroke_width, data.raster_width) == (5, None)
    assert (data.num_classes, data.class_names[0], data.class_names[20]) == (21, "background", "tvmonitor")


def test_unknown_supervision_is_refused(voc_root: Path) -> None:
    with pytest.raises(ValueError, match="'polygons'; this dataset has clicks, tags, boxes, scribbles, full"):
        open_voc(voc_root, supervision="polygons")


@pytest.mark.parametrize("supervision", ["clicks", "scribbles", "full"])
def test_check_names_malformed_files(voc_root: Path, supervision: str) -> None:
    data = open_voc(voc_root, supervision=supervision)
    assert data.check().problems == []
    photograph = voc_root / "VOCdevkit/VOC2012/JPEGImages/2008_000002.jpg"
    photograph.write_bytes(photograph.read_bytes()[:300])
    (voc_root / "VOCdevkit/VOC2012/SegmentationClass/2007_000033.png").unlink()
    report = open_voc(voc_root, supervision=supervision).check()
    assert report.images == {"train": 4, "val": 1}
    unreadable, missing = report.problems
    assert (unreadable.kind, unreadable.place) == ("cannot be read as an image", str(photograph))
    assert "2008_000002.jpg cannot be read" in str(unreadable)
    assert missing.kind == "missing file"
    assert "SegmentationClass/2007_000033.png" in str(missing)


def test_check_continues_after_a_problem(voc_root: Path) -> None:
    (voc_root / "VOCdevkit/VOC2012/JPEGImages/2007_000033.jpg").unlink()  # of val
    report = VOCDataModule(str(voc_root)).check()
    assert report.images == {"train": 4, "val": 1}
    assert [problem.kind for problem in report.problems] == [
        *("checksum of a file", "checksum of a file", "number of images", "number of images", "missing file"),
    ]
    (voc_root / "voc_whats_the_point.json").write_text("[]")
    report = VOCDataModule(str(voc_root)).check()
    assert report.images == {"val": 1}
    assert [problem.kind for problem in report.problems] == ["cannot be opened", "number of images", "missing file"]


def test_histogram_counts_the_clicks_inside(voc_root: Path) -> None:
    """As in the authors' code; one click of class 20 is outside its image."""
    expected = {0: 6, 1: 1, 12: 1, 20: 1}
    assert open_voc(voc_root).label_histogram() == [expected.get(label, 0) for label in range(21)]


def test_images_are_cached_decoded(voc_root: Path, tmp_path: Path) -> None:
    data = VOCDataModule(
        str(voc_root), published_split=False, loader=LoaderOptions(image_cache=str(tmp_path / "cache"))
    )
    data.prepare_data()
    cached, split = CachedImages(data.train_split(), tmp_path / "cache"), data.train_split()
    for index in range(len(split)):
        np.testing.assert_array_equal(cached.image(index), split.image(index))


def test_boxes_are_those_of_the_annotations_at_the_size_of_the_image(voc_root: Path) -> None:
    """Pixels 5 to 10 of 1-based columns are the interval 4 to 10. Images of VOC are at most halved here."""
    folder = voc_root / "VOCdevkit/VOC2012/Annotations"
    folder.mkdir()
    box = "<bndbox><xmin>5</xmin><ymin>3</ymin><xmax>10</xmax><ymax>8</ymax></bndbox>"
    for name in TRAIN_AUG:
        text = (
            f"<object><name>dog</name>{box}<difficult>1</difficult></object><object><name>person</name>{box}</object>"
        )
        (folder / f"{name}.xml").write_text(f"<annotation>{text}</annotation>")
    data = open_voc(voc_root, supervision="boxes", max_side=20)
    assert list(data.quick_problems("train")) == []
    assert vectors(data.train_split(), "2007_000032") == [(12, [[2, 1], [5, 4]]), (15, [[2, 1], [5, 4]])]
    (folder / "2007_000063.xml").write_text("<annotation><object><name>unicorn</name></object></annotation>")
    with pytest.raises(ValueError, match=r"2007_000063\.xml is not an annotation of VOC"):
        vectors(data.train_split(), "2007_000063")
    (folder / "2007_000032.xml").unlink()
    assert ["2007_000032.xml is missing" in str(error) for error in data.quick_problems("train")] == [True]


def test_tags_are_the_classes_of_the_clicks(voc_root: Path) -> None:
    clicks, tags = (open_voc(voc_root, supervision=name).train_split() for name in ("clicks", "tags"))
    for name in TRAIN_AUG:
        expected = sorted({label for label, _ in vectors(clicks, name)})
        assert vectors(tags, name) == [(label, []) for label in expected]
