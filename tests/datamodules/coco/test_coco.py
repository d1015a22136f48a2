"""COCO files against ``pycocotools.coco`` and loops over pixels, and errors that name the annotation and the remedy."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage
from pycocotools import mask as rle
from pycocotools.coco import COCO

from datamodules.annotations import Box, rasterize
from datamodules.coco.datamodule import CocoDataModule, to_coco_results
from datamodules.coco.file import read_coco
from datamodules.image_cache import CachedImages
from datamodules.loader import LoaderOptions
from datamodules.proposals import BoxLabels
from datamodules.proposals.propose import propose
from datamodules.simulate_clicks import ClickSimulator
from datamodules.simulate_scribbles import ScribbleSimulator

Write = Callable[..., Path]
Open = Callable[..., CocoDataModule]
H, W = 24, 32
CATEGORIES = [{"id": 70, "name": "cat"}, {"id": 3, "name": "dog"}]  # sparse, and not in order
SQUARE = {"id": 7, "image_id": 1, "category_id": 3, "segmentation": [[4, 4, 12, 4, 12, 12, 4, 12]], "iscrowd": 0}
BOX = {"id": 8, "image_id": 1, "category_id": 70, "bbox": [19.5, 2.2, 6.0, 5.5]}
NOSE = {"id": 9, "image_id": 1, "category_id": 70, "keypoints": [20, 5, 2, 21.25, 6.5, 2, 22, 7, 1, 0, 0, 0]}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a COCO file of one image, and the image."""

    def write_file(*annotations: dict[str, Any], name: str = "train.json", **changes: Any) -> Path:
        (tmp_path / "images").mkdir(exist_ok=True)
        image = {"id": 1, "file_name": "a.1.png", "height": H, "width": W}
        PILImage.new("RGB", (W, H)).save(tmp_path / "images" / "a.1.png")
        content = {"images": [image], "categories": CATEGORIES, "annotations": list(annotations), **changes}
        path = tmp_path / name
        path.write_text(json.dumps(content))
        return path

    return write_file


@pytest.fixture
def coco(write: Write, tmp_path: Path) -> Open:
    """Open a file as the training and the validation data."""

    def open_file(*annotations: dict[str, Any], **options: Any) -> CocoDataModule:
        path = write(*annotations)
        settings = {"click_simulator": ClickSimulator(1), "scribble_simulator": ScribbleSimulator(1)}
        return CocoDataModule(str(tmp_path / "images"), str(path), str(path), **{**settings, **options})

    return open_file


def polygon(rng: np.random.Generator) -> list[float]:
    """Draw up to nine corners, some of them outside the image."""
    corners = rng.uniform(-6, [W + 6, H + 6], size=(rng.integers(3, 10), 2))
    return [float(value) for value in corners.ravel()]


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Count pixels column by column."""
    counts, inside = [0], False
    for pixel in mask.T.ravel():
        if pixel != inside:
            counts.append(0)
            inside = bool(pixel)
        counts[-1] += 1
    return counts


@pytest.fixture
def crowded() -> list[dict[str, Any]]:
    """Polygons, RLE in both forms and crowd, overlapping."""
    rng = np.random.default_rng(0)
    segmentations: list[Any] = [[polygon(rng)], [polygon(rng), polygon(rng)], [polygon(rng)]]
    for cut in (0.3, 0.9, 0.6):
        noise = rng.random((H, W)) > cut
        segmentations.append({"size": [H, W], "counts": run_lengths(noise)})
        counts = rle.encode(np.asfortranarray(noise.T.reshape(H, W), dtype=np.uint8))["counts"].decode()
        segmentations.append({"size": [H, W], "counts": counts})
    return [
        {"id": k, "image_id": 1, "category_id": [3, 70][k % 2], "segmentation": s, "iscrowd": int(k in (0, 3))}
        for k, s in enumerate(segmentations)
    ]


@pytest.mark.parametrize("background", [True, False])
def test_dense_mask_is_the_smallest_instance_at_each_pixel(
    coco: Open, crowded: list[dict[str, Any]], background: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    data = coco(*crowded, background=background, supervision="full")
    data.prepare_data()
    assert data.class_names == (["background"] if background else []) + ["dog", "cat"]
    mask = data.train_split().dense_mask(0)
    assert np.array_equal(mask, data.train_split().weak_labels(0))
    assert capsys.readouterr().out.strip() == ""  # except for the progress bar
    reference = COCO(str(data.train_annotations))
    drawn = {a["id"]: reference.annToMask(a) for a in reference.dataset["annotations"]}
    expected = np.zeros((H, W), dtype=int)
    for y in range(H):
        for x in range(W):
            here = [a for a in crowded if drawn[a["id"]][y, x]]
            instances = [a for a in here if not a["iscrowd"]]
            if instances:
                top = min(instances, key=lambda a: (drawn[a["id"]].sum(), -a["id"]))
                expected[y, x] = {3: 0, 70: 1}[top["category_id"]] + background
            else:
                expected[y, x] = 0 if background and not here else 255
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, expected)
    assert set(np.unique(expected)) == {0, 1, 255} | ({2} if background else set())


def test_boxes_are_refused_or_unlabeled(coco: Open) -> None:
    with pytest.raises(ValueError, match=r"train\.json, annotation 8 has no segmentation; .*ignore_boxes=true"):
        coco(SQUARE, BOX).prepare_data()
    data = coco(SQUARE, BOX, ignore_boxes=True, supervision="full")
    data.prepare_data()
    expected = np.zeros((H, W), dtype=int)
    expected[2:8, 19:26] = 255  # every pixel that the box touches
    expected[4:12, 4:12] = 1
    assert np.array_equal(data.train_split().dense_mask(0), expected)


def test_annotation_with_keypoints_only_leaves_the_background_unlabeled(coco: Open) -> None:
    mask = coco(SQUARE, NOSE, ignore_boxes=True).val_split().dense_mask(0)
    assert (mask[4:12, 4:12] == 1).all()
    assert (mask == 255).sum() == H * W - 64


def test_touching_instances_of_a_class_get_a_click_each(coco: Open) -> None:
    right = {**SQUARE, "segmentation": [[12, 4, 20, 4, 20, 12, 12, 12]]}
    other = {**SQUARE, "category_id": 70, "segmentation": [[4, 15, 9, 15, 9, 20, 4, 20]]}
    clicks = coco(SQUARE, right, other).train_split().weak_labels(0)
    assert isinstance(clicks, list)
    assert all(click.is_click for click in clicks)
    found = [(click.label, *click.points[0].tolist()) for click in clicks if click.label]
    assert found == [(1, 8.5, 8.5), (1, 16.5, 8.5), (2, 6.5, 17.5)]
    assert sum(click.label == 0 for click in clicks) == 1  # the background is one region


def test_keypoints_replace_the_simulated_click_of_their_instance(coco: Open) -> None:
    cat = {**NOSE, "segmentation": [[18, 3, 26, 3, 26, 11, 18, 11]]}
    points = [(2, 20.0, 5.0), (2, 21.25, 6.5)]
    for supervision, dogs in (("clicks", [(1, 8.5, 8.5)]), ("keypoints", [])):
        data = coco(SQUARE, cat, supervision=supervision)
        data.prepare_data()
        clicks = data.train_split().weak_labels(0)
        assert isinstance(clicks, list)
        assert [(c.label, *c.points[0].tolist()) for c in clicks if c.label] == dogs + points
        assert sum(click.label == 0 for click in clicks) == 1


def test_no_background_click_lies_where_a_box_may_hide_an_object(coco: Open) -> None:
    boxed = {**NOSE, "bbox": [0, 0, W, H - 3]}
    for background in (True, False):
        split = coco(boxed, supervision="keypoints", background=background).train_split()
        clicks = split.weak_labels(0)
        assert isinstance(clicks, list)
        low = [click for click in clicks if click.points[0, 1] >= H - 3]
        assert [click.label for click in low] == [0] * background
        assert len(clicks) == 2 + background
    data = coco(boxed, supervision="keypoints")
    assert data.train_split().mismatch(0) is None
    assert "has no segmentation" in str(data.val_split().mismatch(0))
    nowhere = coco(NOSE, supervision="keypoints").train_split().weak_labels(0)
    assert isinstance(nowhere, list)
    assert [click.label for click in nowhere] == [2, 2]


def test_scribbles_stay_inside_and_are_the_same_in_every_process(coco: Open) -> None:
    data = coco(
        SQUARE, {**SQUARE, "category_id": 70, "segmentation": [[20, 2, 30, 2, 30, 22]]}, supervision="scribbles"
    )
    split = data.train_split()
    scribbles = split.weak_labels(0)
    assert isinstance(scribbles, list)
    assert [scribble.label for scribble in scribbles] == [0, 1, 2]
    drawn = rasterize(scribbles, (H, W))
    assert np.array_equal(drawn[drawn != 255], split.dense_mask(0)[drawn != 255])
    again = pickle.loads(pickle.dumps(data.train_split())).weak_labels(0)
    assert [a.points.tolist() for a in again] == [a.points.tolist() for a in scribbles]


RLE = {"size": [H, W], "counts": [H * W]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 2}, "annotation 7 has image_id 2, which is not in the file"),
        ({"category_id": 4}, "annotation 7 has category_id 4, which is not in the file"),
        ({"category_id": "3"}, "annotation 7 has category_id '3'; expected int"),
        ({"segmentation": [[1, 1, 5, 1, 5]]}, r"annotation 7 has the polygon \[1, 1, 5, 1, 5\]; expected"),
        ({"segmentation": [[1, 1, 5, 1]]}, "has the polygon"),  # a box to pycocotools
        ({"segmentation": [1, 1, 5, 1, 5, 5]}, "the polygon 1; expected"),
        ({"segmentation": [[1, 1, 5, float("nan"), 5, 5]]}, r"in pixels of an image with \(H, W\) \(24, 32\)"),
        ({"segmentation": [[1, 1, 5, 1e6, 5, 5]]}, "in pixels of an image with"),
        ({"segmentation": "outline"}, "the segmentation 'outline'; expected polygons or RLE"),
        (
            {"segmentation": {**RLE, "size": [W, H]}},
            r"RLE of size \[32, 24\] .* does not fill its image with .*\(24, 32.*; export it again",
        ),
        ({"segmentation": {**RLE, "counts": [3, 4]}}, "annotation 7 has RLE .* does not fill its image"),
        ({"segmentation": {**RLE, "counts": [3, -4, H * W + 1]}}, "does not fill its image"),
        ({"segmentation": {**RLE, "counts": "P1"}}, "does not fill its image"),  # uninitialized to pycocotools
        ({"segmentation": {**RLE, "counts": "PPPPPPPPPPPP1"}}, "malformed"),
        ({"segmentation": {**RLE, "counts": "Ph0o"}}, "malformed"),  # the whole image, then half a number
        ({"segmentation": {**RLE, "counts": "é"}}, "malformed"),
        ({"segmentation": {"size": [H, W]}}, "malformed"),
        ({"bbox": [1, 2, -3, 4]}, r"bbox \[1, 2, -3, 4\]; expected \[x, y, width, height\]"),
        ({"keypoints": [1, 2]}, r"the keypoints \[1, 2\]; expected \[x, y, v"),
        ({"keypoints": [1, 2, 3]}, r"with v = 0, 1 or 2"),
        ({"segmentation": []}, "no segmentation, bbox or keypoints; remove it"),
    ],
)
def test_malformed_annotation_is_named(write: Write, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"train\.json, .*{message}"):
        read_coco(write({**SQUARE, **change}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": None}, "no list 'images'; export COCO instances"),
        ({"categories": None}, "no list 'categories'"),
        ({"annotations": {}}, "no list 'annotations'"),
        ({"annotations": [None]}, "no list 'annotations'"),
        ({"categories": [*CATEGORIES, {"id": 3, "name": "bird"}]}, r"category 3 \('bird'\) is not unique"),
        ({"categories": [*CATEGORIES, {"id": 4, "name": "dog"}]}, r"category 4 \('dog'\) is not unique"),
        ({"images": [{"id": 1, "file_name": "a.png", "height": "9", "width": 9}]}, "image 1 has height '9'"),
        ({"images": [{"id": 1, "file_name": "a.png", "height": 0, "width": 9}]}, r"'a.png' and \(H, W\) \(0, 9\)"),
        ({"images": [{"id": 1, "file_name": "../a.png", "height": 9, "width": 9}]}, "a path inside the image folder"),
        (
            {"images": [{"id": 1, "file_name": f, "height": 9, "width": 9} for f in ("a.png", "b.png")]},
            "image 1 is not unique",
        ),
        (
            {"images": [{"id": i, "file_name": f, "height": 9, "width": 9} for i, f in enumerate(["a.png", "a.jpg"])]},
            "has 2 images 'a'; rename all but one",
        ),
    ],
)
def test_malformed_file_is_named(write: Write, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"train\.json.*{message}"):
        read_coco(write(**change))


def test_compressed_rle_is_read_if_and_only_if_it_is_complete(write: Write) -> None:
    """Differences of run lengths may be negative and take several characters."""
    rng = np.random.default_rng(1)
    for size in [(1, 1), (1, 300), (50, 70), (400, 500)]:
        for share in (0, 0.001, 0.5, 0.999, 1):
            counts = rle.encode(np.asfortranarray(rng.random(size) < share, dtype=np.uint8))["counts"].decode()
            image = {"id": 1, "file_name": "a.png", "height": size[0], "width": size[1]}
            segmentation = {"size": list(size), "counts": counts}
            read_coco(write({**SQUARE, "segmentation": segmentation}, images=[image]))
            with pytest.raises(ValueError, match=r"annotation 7 has RLE .* that is malformed or does not fill"):
                read_coco(write({**SQUARE, "segmentation": {**segmentation, "counts": counts[:-1]}}, images=[image]))


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    for name in ("a.json", "b.json"):
        with pytest.raises(ValueError, match=rf"{name} cannot be read as JSON .*; pass a COCO annotation file"):
            read_coco(tmp_path / name)


def test_unsuitable_categories_are_refused(coco: Open, write: Write, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="supervision is 'polygons'; this dataset has clicks, keypoints"):
        coco(SQUARE, supervision="polygons")
    train, val = str(write(SQUARE)), str(write(name="val.json", categories=CATEGORIES[:1]))
    data = CocoDataModule(str(tmp_path / "images"), train, val)
    with pytest.raises(ValueError, match=r"train\.json and .*val\.json differ in categories: \[\(3, 'dog'\)\]"):
        data.prepare_data()
    with pytest.raises(ValueError, match="has 1 classes; expected 2 to 254"):
        CocoDataModule("images", train, val, background=False)
    named = str(write(name="val.json", categories=[{"id": 0, "name": "background"}, *CATEGORIES]))
    with pytest.raises(ValueError, match=r"category 'background', the name of class 0.*background=false"):
        CocoDataModule("images", train, named)
    assert CocoDataModule("images", train, named, background=False).class_names == ["background", "dog", "cat"]


def rotate(path: Path) -> None:
    """Set an EXIF orientation that rotates the image by 90 degrees."""
    picture = PILImage.open(path)
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(path, exif=exif)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda path: path.unlink(), r"a\.1\.png is missing, but .*train\.json lists it; add it"),
        (lambda path: path.write_text("text"), r"a\.1\.png cannot be read as an image"),
        (
            lambda path: PILImage.new("RGB", (W, W)).save(path),
            r"a\.1\.png has \(H, W\) \(32, 32\), but .*train\.json has \(24, 32\); export",
        ),
        (
            rotate,
            r"a\.1\.png has .*\(32, 24\), but .* has \(24, 32\); .* EXIF orientation; .*: exiftool -Orientation= FILE",
        ),
    ],
)
def test_image_mismatch_is_named(coco: Open, tmp_path: Path, break_it: Callable[[Path], Any], message: str) -> None:
    data = coco(SQUARE)
    assert data.check().problems == []
    break_it(tmp_path / "images" / "a.1.png")
    with pytest.raises(ValueError, match=message):
        data.prepare_data()
    (problem,) = data.check().problems  # of both splits, which are the same here
    assert problem.kind in ("missing file", "cannot be read as an image", "size differs")


def test_truncated_image_is_found_by_check_only(coco: Open, tmp_path: Path) -> None:
    """A run reads headers only; ``gatedcrf data check`` decodes every image."""
    data = coco(SQUARE)
    path = tmp_path / "images" / "a.1.png"
    PILImage.effect_noise((W, H), 90).save(path, format="JPEG")
    path.write_bytes(path.read_bytes()[:-200])
    data.prepare_data()
    (problem,) = data.check().problems
    assert "a.1.png cannot be read as an image" in str(problem)


def test_images_are_checked_before_they_are_cached(coco: Open, tmp_path: Path) -> None:
    data = coco(SQUARE, loader=LoaderOptions(image_cache=str(tmp_path / "cache")))
    data.prepare_data()
    cached = CachedImages(data.train_split(), tmp_path / "cache")
    assert np.array_equal(cached.image(0), data.train_split().image(0))
    (tmp_path / "images" / "a.1.png").unlink()
    with pytest.raises(ValueError, match="lists it; add it"):
        data.prepare_data()


def test_missing_annotations_or_keypoints_are_named(coco: Open) -> None:
    with pytest.raises(ValueError, match=r"train\.json has no annotations; export it with annotations"):
        coco().prepare_data()
    with pytest.raises(ValueError, match=r"train\.json has no visible keypoint; choose another"):
        coco(SQUARE, supervision="keypoints").prepare_data()


def test_results_are_read_back_by_pycocotools(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(SQUARE)
    category_ids = {label: category for category, label in read_coco(path).classes(background=True).items()}
    assert category_ids == {1: 3, 2: 70}
    labels = np.random.default_rng(0).integers(0, 3, size=(H, W)).astype(np.uint8)
    assert to_coco_results(np.zeros((H, W), dtype=np.uint8), 1, category_ids) == []
    results = json.loads(json.dumps(to_coco_results(labels, 1, category_ids)))
    (tmp_path / "results.json").write_text(json.dumps(results))
    loaded = COCO(str(path)).loadRes(str(tmp_path / "results.json"))
    assert [annotation["score"] for annotation in loaded.anns.values()] == [1.0, 1.0]
    for annotation in loaded.anns.values():
        label = {3: 1, 70: 2}[annotation["category_id"]]
        assert np.array_equal(loaded.annToMask(annotation), labels == label)


def test_boxes_and_tags_of_the_annotations(coco: Open) -> None:
    """An annotation without a box has none. Tags include the background."""
    data = coco(
        SQUARE,
        BOX,
        {**BOX, "id": 11, "iscrowd": 1, "segmentation": {"counts": [H * W], "size": [H, W]}},
        supervision="boxes",
    )
    assert list(data.quick_problems("train")) == []
    (box,) = data.train_split().weak_labels(0)
    assert isinstance(box, Box)
    np.testing.assert_allclose(box.points, [[19.5, 2.2], [25.5, 7.7]])
    tags = coco(SQUARE, BOX, supervision="tags").train_split().weak_labels(0)
    classes = coco(SQUARE, BOX, ignore_boxes=True).train_split().file.classes(background=True)
    assert isinstance(tags, list)
    assert {tag.label for tag in tags} == {0, classes[SQUARE["category_id"]], classes[BOX["category_id"]]}
    with pytest.raises(ValueError, match="background=true"):
        coco(SQUARE, supervision="boxes", background=False)


def test_crowds_and_objects_without_a_box_are_unlabeled_outside_the_boxes(coco: Open) -> None:
    crowd = {**SQUARE, "id": 11, "iscrowd": 1, "segmentation": [[18, 0, 22, 0, 22, H, 18, H]], "bbox": [18, 0, 4, H]}
    split = coco(SQUARE, BOX, crowd, supervision="boxes").train_split()
    expected = np.zeros((H, W), dtype=np.uint8)
    expected[:, 18:22] = expected[4:12, 4:12] = 255
    expected[2:8, 19:25] = 2
    np.testing.assert_array_equal(propose(BoxLabels(), split, 0), expected)
    anywhere = propose(BoxLabels(), coco(BOX, NOSE, supervision="boxes").train_split(), 0)
    np.testing.assert_array_equal(anywhere, np.where(expected == 2, 2, 255))
    (named,) = {coco(*each, supervision="boxes").train_split().hidden(0) is None for each in ([BOX], [])}
    assert named
