"""Click files: parsing, errors, and the published files of VOC.

``data/`` holds twenty images of the published files. The whole files are tested if the environment variable
GATEDCRF_VOC_CLICKS names their folder.
"""

import json
import os
from collections import Counter, defaultdict
from hashlib import md5, sha256
from itertools import chain
from math import floor
from pathlib import Path

import numpy as np
import pytest

from datamodules.annotations import Annotation, drop_outside
from datamodules.io.click_files import Clicks, merge, read_clicks, write_clicks
from datamodules.io.errors import InputError
from datamodules.sample import IGNORE_INDEX
from datamodules.voc.datamodule import CLICK_FILES, VOCDataModule

SAME = {label: label for label in range(21)}


def plain(clicks: Clicks) -> dict[str, list[tuple[int, list[list[float]]]]]:
    return {name: [(click.label, click.points.tolist()) for click in items] for name, items in clicks.items()}


def test_clicks_are_in_file_order_with_x_first(tmp_path: Path) -> None:
    """As in the published files: coordinates may be integers, keys are in any order."""
    text = (
        '{"2008_004171": [{"y": 322.25, "x": 253, "rank": 2, "cls": 16}, {"y": 1.5, "x": 0.0, "rank": 1, "cls": 3}], '
        '"2007_000032": [], "2007_000027": [{"x": 18, "y": 461, "cls": 0}]}'
    )
    (tmp_path / "clicks.json").write_text(text)
    clicks = read_clicks(tmp_path / "clicks.json", SAME)
    assert plain(clicks) == {
        "2008_004171": [(16, [[253, 322.25]]), (3, [[0, 1.5]])],
        "2007_000032": [],
        "2007_000027": [(0, [[18, 461]])],
    }
    assert list(clicks) == ["2008_004171", "2007_000032", "2007_000027"]
    assert all(click.is_click and click.points.dtype == np.float64 for items in clicks.values() for click in items)


def test_points_outside_the_image_are_kept(tmp_path: Path) -> None:
    items = [{"x": 1198.5, "y": 500, "cls": 1}, {"x": -3, "y": 1e6, "cls": 1}]
    (tmp_path / "clicks.json").write_text(json.dumps({"a": items}))
    assert plain(read_clicks(tmp_path / "clicks.json", SAME)) == {"a": [(1, [[1198.5, 500]]), (1, [[-3, 1e6]])]}


def test_values_are_mapped_to_classes_and_void_is_dropped(tmp_path: Path) -> None:
    items = [{"x": k, "y": 0, "cls": value} for k, value in enumerate([7, 0, 33, -1, 7])]
    (tmp_path / "clicks.json").write_text(json.dumps({"a": items, "b": items[1:2]}))
    clicks = read_clicks(tmp_path / "clicks.json", {-1: IGNORE_INDEX, 0: IGNORE_INDEX, 7: 0, 33: 18})
    assert plain(clicks) == {"a": [(0, [[0, 0]]), (18, [[2, 0]]), (0, [[4, 0]])], "b": []}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": [', "cannot be read as JSON .*; see: gatedcrf data download"),
        ("<html>moved</html>", "cannot be read as JSON"),
        ("[]", "is not of the form"),
        ('{"a": {"x": 1, "y": 2, "cls": 3}}', "is not of the form"),
        ('{"a": [[1, 2, 3]]}', r"image 'a': \[1, 2, 3\] is not a click"),
        ('{"a": [{"x": 1, "y": 2}]}', "is not a click"),
        ('{"a": [{"x": 1, "y": null, "cls": 3}]}', "is not a click"),
        ('{"a": [{"x": "1", "y": 2, "cls": 3}]}', "is not a click"),
        ('{"a": [{"x": NaN, "y": 2, "cls": 3}]}', "is not a click with finite x and y"),
        ('{"a": [{"x": 1, "y": Infinity, "cls": 3}]}', "is not a click with finite x and y"),
        ('{"a": [{"x": 1, "y": 2, "cls": 21}]}', "a cls of 0 to 20"),
        ('{"a": [{"x": 1, "y": 2, "cls": 2.5}]}', "a cls of 0 to 20"),
        ('{"a": [], "b": [{"x": 1, "y": 2, "cls": 255}]}', "image 'b'.* a cls of 0 to 20"),
    ],
)
def test_malformed_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "clicks.json").write_text(content)
    with pytest.raises(InputError, match=rf"clicks\.json.*{message}"):
        read_clicks(tmp_path / "clicks.json", SAME)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.json cannot be read .*No such file.*; see: gatedcrf data download"):
        read_clicks(tmp_path / "gone.json", SAME)


def test_written_clicks_are_read_back_exactly(tmp_path: Path) -> None:
    points = np.random.default_rng(0).uniform(-5, 600, size=(4, 1, 2))
    clicks = {"b": [Annotation(k, point) for k, point in enumerate(points)], "a": []}
    path = tmp_path / "clicks.json"
    path.write_text("an older file")
    write_clicks(path, clicks, {0: 7, 1: 8, 2: 11, 3: 33})
    assert plain(read_clicks(path, {7: 0, 8: 1, 11: 2, 33: 3})) == plain(clicks)
    assert list(read_clicks(path, {7: 0, 8: 1, 11: 2, 33: 3})) == ["b", "a"]
    assert [list(item) for item in json.loads(path.read_text())["b"]] == [["x", "y", "cls"]] * 4
    assert path.read_text().count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


def test_merged_files_keep_common_images_with_later_clicks_on_top() -> None:
    def click(x: float) -> Annotation:
        return Annotation(0, np.array([[x, 0.0]]))

    joined = merge([{"d": [], "a": [click(1), click(2)], "b": [click(3)]}, {"c": [click(4)], "a": [click(5)], "b": []}])
    assert {name: [c.points[0, 0] for c in items] for name, items in joined.items()} == {"a": [1, 2, 5], "b": [3]}
    assert merge([]) == {}


EXTRACT = Path(__file__).parent / "data"
PUBLISHED = os.environ.get("GATEDCRF_VOC_CLICKS")
needs_published = pytest.mark.skipif(PUBLISHED is None, reason="GATEDCRF_VOC_CLICKS is not set")
TRAIN = (
    *(28784, 800, 695, 1103, 901, 1263, 547, 2114, 1142, 2923, 610, 694, 1416, 693, 694, 9561, 1013, 857, 673),
    *(593, 778),
)
"""Clicks of each class in the images of train_aug."""
VAL = (3830, 105, 104, 141, 111, 151, 113, 226, 131, 258, 132, 80, 150, 105, 104, 857, 166, 146, 101, 95, 106)
NO_OBJECTS = """
    2009_000996 2009_001229 2008_007383 2009_004138 2008_005108 2010_005593 2008_006634 2007_001724 2008_007060
    2008_008713 2008_006524 2008_004588 2010_000137 2011_000228 2008_002372 2008_006092 2011_001476 2009_000032
"""
NO_BACKGROUND = """
    2008_002250 2009_001906 2009_005299 2008_006530 2009_004560 2011_000315 2009_001867 2009_001774 2009_000474
    2009_003605 2008_004672 2010_005152 2008_008074 2011_002270 2008_001031 2010_001220 2009_003419 2008_001825
    2010_003961 2009_000449 2009_004582 2007_008260 2010_002531 2007_005173 2011_001601
"""


class Files:
    """Both click files, as JSON and as VOCDataModule reads them."""

    def __init__(self, folder: Path) -> None:
        self.paths = [folder / name for name in CLICK_FILES]
        self.objects, self.background = (json.loads(path.read_text()) for path in self.paths)
        self.read = [read_clicks(path, SAME) for path in self.paths]
        self.merged = merge(self.read)


@pytest.fixture(scope="module", params=["extract", pytest.param("published", marks=needs_published)])
def files(request: pytest.FixtureRequest) -> Files:
    return Files(EXTRACT if request.param == "extract" else Path(PUBLISHED or ""))


@pytest.fixture(scope="module")
def published() -> Files:
    return Files(Path(PUBLISHED or ""))


def test_every_click_is_read(files: Files) -> None:
    for clicks, content in zip(files.read, (files.objects, files.background), strict=True):
        assert plain(clicks) == {
            name: [(i["cls"], [[i["x"], i["y"]]]) for i in items] for name, items in content.items()
        }
        assert all(click.points.min() >= 0 for items in clicks.values() for click in items)


def test_object_clicks_have_classes_1_to_20_and_contiguous_ranks(files: Files) -> None:
    for items in files.objects.values():
        ranks = defaultdict(list)
        for item in items:
            assert item.keys() == {"x", "y", "rank", "cls"}
            ranks[item["cls"]].append(item["rank"])
        assert set(ranks) <= set(range(1, 21))
        assert all(sorted(found) == list(range(1, len(found) + 1)) for found in ranks.values())
    places = [(name, item["x"], item["y"]) for name, items in files.objects.items() for item in items]
    assert len(set(places)) == len(places)


def test_background_clicks_are_pairs_some_of_which_coincide(files: Files) -> None:
    assert all(len(items) % 2 == 0 for items in files.background.values())
    assert all(item.keys() == {"x", "y", "cls"} and item["cls"] == 0 for item in chain(*files.background.values()))
    pairs = [(items[k], items[k + 1]) for items in files.background.values() for k in range(0, len(items), 2)]
    assert any(first == second for first, second in pairs)
    ends = [(item["x"], item["y"]) for item in files.background["2008_005277"]]
    assert [(18, 461), (244, 483)] in [ends[k : k + 2] for k in range(0, len(ends), 2)]


def test_images_without_object_or_background_clicks_are_kept(files: Files) -> None:
    assert files.background.keys() == files.merged.keys() < files.objects.keys()
    for kind, names in ((files.objects, NO_OBJECTS), (files.background, NO_BACKGROUND)):
        empty = {name for name in files.merged if not kind[name]}
        assert empty
        assert empty == set(names.split()) & files.merged.keys()
        assert all(files.merged[name] for name in empty)


def test_no_pixel_has_clicks_of_two_classes_and_background_comes_last(files: Files) -> None:
    for name, clicks in files.merged.items():
        pixels = defaultdict(set)
        for click in clicks:
            pixels[tuple(np.floor(click.points[0]).astype(int).tolist())].add(click.label)
        assert all(len(labels) == 1 for labels in pixels.values())
        assert [c.label for c in clicks] == [i["cls"] for i in (*files.objects[name], *files.background[name])]


def test_some_clicks_lie_outside_every_image_of_voc(files: Files) -> None:
    """No image of VOC has a side of more than 500 pixels."""
    outside = [[c for c in chain(*clicks.values()) if c.points.max() >= 500] for clicks in files.read]
    assert [floor(max(click.points[0, 0] for click in found)) for found in outside] == [754, 1198]
    assert {click.points[0, 1] for click in outside[1] if click.points[0, 0] < 500} == {500}
    left = [drop_outside(items, (500, 500)) for items in files.merged.values()]
    assert sum(map(len, files.merged.values())) - sum(map(len, left)) == sum(map(len, outside))


@needs_published
def test_published_files_have_the_known_checksums_and_counts(published: Files) -> None:
    for path, size, checksum in zip(
        published.paths,
        (2_565_949, 1_985_939),
        ("37247e4507ca7b0aa049fe5a6c7bbca2", "d4f14a94647a1e9453306a010a08797e"),
        strict=True,
    ):
        data = path.read_bytes()
        known = (size, checksum, CLICK_FILES[path.name])
        assert (len(data), md5(data).hexdigest(), sha256(data).hexdigest()) == known
    objects, background = published.objects, published.background
    assert (len(objects), len(background)) == (12_180, 12_031)
    assert (sum(map(len, objects.values())), sum(map(len, background.values()))) == (32_697, 32_614)
    years = Counter(name[:4] for name in background)
    assert years == {"2007": 311 + 321, "2008": 3967 + 313, "2009": 2392 + 303, "2010": 2695 + 315, "2011": 1217 + 197}
    amounts = [len(clicks) for clicks in published.merged.values()]
    assert (min(amounts), max(amounts), max(map(len, objects.values()))) == (1, 44, 42)
    outside = [[c for c in chain(*clicks.values()) if c.points.max() >= 500] for clicks in published.read]
    assert list(map(len, outside)) == [18, 39 + 6]
    whole = [i for items in background.values() for i in items if isinstance(i["x"], int) and isinstance(i["y"], int)]
    assert len(whole) >= 2 * 45


@needs_published
def test_class_totals_of_train_aug_and_val_add_up(published: Files) -> None:
    totals = Counter(click.label for clicks in published.merged.values() for click in clicks)
    assert [totals[label] for label in range(21)] == [train + val for train, val in zip(TRAIN, VAL, strict=True)]
    assert (sum(TRAIN[1:]), sum(VAL[1:])) == (29_070, 3_382)


@needs_published
def test_without_sbd_all_images_with_clicks_but_val_are_trained_on(voc_root: Path, published: Files) -> None:
    """The published checksums pass, then the number of images of the small tree is refused."""
    (voc_root / "benchmark_RELEASE").rename(voc_root / "unused")
    for path in published.paths:
        (voc_root / path.name).unlink()
        (voc_root / path.name).symlink_to(path.resolve())
    names = VOCDataModule(str(voc_root), published_split=False).train_split().names
    assert list(names) == sorted(published.background.keys() - {"2007_000033"})  # the val image of the small tree
    with pytest.raises(InputError, match="train_aug has 12030 images instead of the published 10,582"):
        VOCDataModule(str(voc_root)).prepare_data()
