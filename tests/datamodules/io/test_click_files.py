"""Files of clicks: what is read, what is refused, and what the published files of VOC hold."""

import json
import os
from collections import Counter, defaultdict
from hashlib import md5, sha256
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.annotations import Annotation, drop_outside
from datamodules.io.click_files import Clicks, merge, read_clicks, write_clicks
from datamodules.sample import IGNORE_INDEX
from datamodules.voc.datamodule import VOCDataModule

SAME = {label: label for label in range(21)}
Items = dict[str, list[dict[str, Any]]]


def plain(clicks: Clicks) -> dict[str, list[tuple[int, list[list[float]]]]]:
    return {name: [(click.label, click.points.tolist()) for click in items] for name, items in clicks.items()}


def test_clicks_are_read_in_the_order_of_the_file_with_x_first(tmp_path: Path) -> None:
    """The form of both published files: a single line, coordinates that may be whole, keys in any order."""
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


def test_points_outside_of_any_image_are_kept(tmp_path: Path) -> None:
    items = [{"x": 1198.5, "y": 500, "cls": 1}, {"x": -3, "y": 1e6, "cls": 1}]
    (tmp_path / "clicks.json").write_text(json.dumps({"a": items}))
    assert plain(read_clicks(tmp_path / "clicks.json", SAME)) == {"a": [(1, [[1198.5, 500]]), (1, [[-3, 1e6]])]}


def test_values_are_mapped_to_classes_and_void_is_left_out(tmp_path: Path) -> None:
    items = [{"x": k, "y": 0, "cls": value} for k, value in enumerate([7, 0, 33, -1, 7])]
    (tmp_path / "clicks.json").write_text(json.dumps({"a": items, "b": items[1:2]}))
    clicks = read_clicks(tmp_path / "clicks.json", {-1: IGNORE_INDEX, 0: IGNORE_INDEX, 7: 0, 33: 18})
    assert plain(clicks) == {"a": [(0, [[0, 0]]), (18, [[2, 0]]), (0, [[4, 0]])], "b": []}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": [', "cannot be read as JSON .*; fetch it again"),
        ("", "cannot be read as JSON"),
        ("<html>moved</html>", "cannot be read as JSON"),
        pytest.param("[" * 100_000, "cannot be read as JSON", id="nested"),
        ("[]", "holds a list; clicks are"),
        ('{"a": {"x": 1, "y": 2, "cls": 3}}', "'a' is no list; write"),
        ('{"a": null}', "'a' is no list"),
        ('{"a": [[1, 2, 3]]}', r"\[1, 2, 3\] of 'a' is no click; write"),
        ('{"a": [{"x": 1, "y": 2}]}', "of 'a' is no click"),
        ('{"a": [{"x": 1, "y": null, "cls": 3}]}', "of 'a' is no click"),
        ('{"a": [{"x": "1", "y": 2, "cls": 3}]}', "of 'a' is no click"),
        ('{"a": [{"x": 1, "y": 2, "cls": true}]}', "of 'a' is no click"),
        ('{"a": [{"x": NaN, "y": 2, "cls": 3}]}', "of 'a' is not finite"),
        ('{"a": [{"x": 1, "y": Infinity, "cls": 3}]}', "of 'a' is not finite"),
        pytest.param(f'{{"a": [{{"x": {10**400}, "y": 2, "cls": 3}}]}}', "of 'a' is not finite", id="beyond float64"),
        ('{"a": [{"x": 1, "y": 2, "cls": 21}]}', "no class of 0 to 20"),
        ('{"a": [{"x": 1, "y": 2, "cls": -1}]}', "no class of 0 to 20"),
        ('{"a": [{"x": 1, "y": 2, "cls": 2.5}]}', "no class of 0 to 20"),
        ('{"a": [], "b": [{"x": 1, "y": 2, "cls": 255}]}', "of 'b' .*no class of 0 to 20"),
    ],
)
def test_wrong_file_is_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "clicks.json").write_text(content)
    with pytest.raises(ValueError, match=rf"clicks\.json.*{message}"):
        read_clicks(tmp_path / "clicks.json", SAME)


def test_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no file .*gone\.json; see: gatedcrf data download"):
        read_clicks(tmp_path / "gone.json", SAME)
    with pytest.raises(ValueError, match=rf"{tmp_path.name} cannot be read"):
        read_clicks(tmp_path, SAME)


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


def test_images_that_all_files_name_are_joined_and_later_clicks_lie_on_top() -> None:
    def click(x: float) -> Annotation:
        return Annotation(0, np.array([[x, 0.0]]))

    joined = merge([{"d": [], "a": [click(1), click(2)], "b": [click(3)]}, {"c": [click(4)], "a": [click(5)], "b": []}])
    assert {name: [c.points[0, 0] for c in items] for name, items in joined.items()} == {"a": [1, 2, 5], "b": [3]}
    assert merge([]) == {}


CLICK_FILES = ("voc_whats_the_point.json", "voc_whats_the_point_bg_from_scribbles.json")  # objects, background
# What the published files hold. They are not part of this repository.
FOLDER = Path(os.environ.get("GATEDCRF_VOC_CLICKS", Path(__file__).parents[4] / "shared" / "data" / "voc_clicks"))
published = pytest.mark.skipif(
    not all((FOLDER / name).is_file() for name in CLICK_FILES), reason=f"{FOLDER} has no {' and '.join(CLICK_FILES)}"
)
TRAIN = (
    *(28784, 800, 695, 1103, 901, 1263, 547, 2114, 1142, 2923, 610, 694, 1416, 693, 694, 9561, 1013, 857, 673),
    *(593, 778),
)
"""Clicks of each class on the images of train_aug."""
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


@pytest.fixture(scope="module")
def objects() -> Items:
    content: Items = json.loads((FOLDER / CLICK_FILES[0]).read_text())
    return content


@pytest.fixture(scope="module")
def background() -> Items:
    content: Items = json.loads((FOLDER / CLICK_FILES[1]).read_text())
    return content


@pytest.fixture(scope="module")
def both() -> Clicks:
    """As VOCDataModule reads them."""
    return merge([read_clicks(FOLDER / name, SAME) for name in CLICK_FILES])


@published
def test_published_files_are_the_known_ones_and_are_read_in_full(objects: Items, background: Items) -> None:
    known = [
        (
            2_565_949,
            "37247e4507ca7b0aa049fe5a6c7bbca2",
            "0ad942dc53197a1d7ce549000414adea39ac688d6c4ae7a1af27830469c73dc6",
        ),
        (
            1_985_939,
            "d4f14a94647a1e9453306a010a08797e",
            "45fdf2eff36a0ffc56a889efab2ca40788f074f8372dde4e8f81951bc7c79952",
        ),
    ]
    for name, content, (size, checksum, longer) in zip(CLICK_FILES, (objects, background), known, strict=True):
        data = (FOLDER / name).read_bytes()
        assert (len(data), md5(data).hexdigest(), sha256(data).hexdigest()) == (size, checksum, longer)
        assert b"\n" not in data
        expected = {image: [(i["cls"], [[i["x"], i["y"]]]) for i in items] for image, items in content.items()}
        assert plain(read_clicks(FOLDER / name, SAME)) == expected


@published
def test_published_counts_of_images_and_points(objects: Items, background: Items) -> None:
    assert (len(objects), len(background)) == (12_180, 12_031)
    assert (sum(map(len, objects.values())), sum(map(len, background.values()))) == (32_697, 32_614)
    assert next(iter(objects)) == next(iter(background)) == "2008_004171"
    assert list(objects) != sorted(objects)
    unknown = set(objects) - set(background)
    assert len(unknown) == 149
    assert sum(len(objects[name]) for name in unknown) == 245
    assert sum(not objects[name] for name in unknown) == 2
    assert set(background) < set(objects)
    years = Counter(name[:4] for name in background)
    assert years == {"2007": 311 + 321, "2008": 3967 + 313, "2009": 2392 + 303, "2010": 2695 + 315, "2011": 1217 + 197}


@published
def test_published_clicks_of_objects_have_classes_1_to_20_and_contiguous_ranks(objects: Items) -> None:
    assert {frozenset(item) for items in objects.values() for item in items} == {frozenset(("x", "y", "rank", "cls"))}
    for items in objects.values():
        ranks = defaultdict(list)
        for item in items:
            ranks[item["cls"]].append(item["rank"])
        assert set(ranks) <= set(range(1, 21))
        assert all(sorted(found) == list(range(1, len(found) + 1)) for found in ranks.values())
    places = [(name, item["x"], item["y"]) for name, items in objects.items() for item in items]
    assert len(set(places)) == len(places)
    assert max(map(len, objects.values())) == 42


@published
def test_published_clicks_of_the_background_are_pairs_of_which_45_are_whole_numbers(background: Items) -> None:
    assert {frozenset(item) for items in background.values() for item in items} == {frozenset(("x", "y", "cls"))}
    assert {item["cls"] for items in background.values() for item in items} == {0}
    assert all(len(items) % 2 == 0 for items in background.values())
    pairs = [
        (name, [(item["x"], item["y"]) for item in items[k : k + 2]])
        for name, items in background.items()
        for k in range(0, len(items), 2)
    ]
    whole = [(name, pair) for name, pair in pairs if all(isinstance(value, int) for xy in pair for value in xy)]
    assert (len(pairs), len(whole)) == (16_262 + 45, 45)
    assert sum(pair[0] == pair[1] for _, pair in whole) == 19
    assert len({name for name, pair in pairs if pair[0] == pair[1]}) == 19
    assert ("2008_005277", [(18, 461), (244, 483)]) in whole


@published
def test_class_totals_on_train_aug_and_val_add_up(objects: Items, background: Items, both: Clicks) -> None:
    totals = Counter(click.label for name in background for click in both[name])
    assert [totals[label] for label in range(21)] == [train + val for train, val in zip(TRAIN, VAL, strict=True)]
    assert (sum(TRAIN[1:]), sum(VAL[1:])) == (29_070, 3_382)
    everywhere = Counter(item["cls"] for items in objects.values() for item in items)
    left = [everywhere[label] - TRAIN[label] - VAL[label] for label in range(1, 21)]
    assert min(left) >= 0
    assert sum(left) == 245


@published
def test_images_without_objects_or_without_background_are_the_known_ones(
    objects: Items, background: Items, both: Clicks
) -> None:
    assert {name for name in background if not objects[name]} == set(NO_OBJECTS.split())
    assert {name for name, items in background.items() if not items} == set(NO_BACKGROUND.split())
    amounts = [len(both[name]) for name in background]
    assert (min(amounts), max(amounts)) == (1, 44)


@published
def test_points_outside_are_the_known_ones_and_none_is_negative(
    objects: Items, background: Items, both: Clicks
) -> None:
    """No image of VOC is longer than 500 pixels."""
    outside = [
        [(name, i["x"], i["y"]) for name, items in content.items() for i in items if max(i["x"], i["y"]) >= 500]
        for content in (objects, background)
    ]
    assert (len(outside[0]), len({name for name, _, _ in outside[0]})) == (18, 12)
    assert floor(max(x for _, x, _ in outside[0])) == 754
    assert sum(x >= 500 for _, x, _ in outside[1]) == 39
    assert floor(max(x for _, x, _ in outside[1])) == 1198
    assert [y for _, x, y in outside[1] if x < 500] == [500] * 6
    assert all(click.points.min() >= 0 for items in both.values() for click in items)
    left = {name: drop_outside(items, (500, 500)) for name, items in both.items()}
    assert sum(map(len, both.values())) - sum(map(len, left.values())) == sum(map(len, outside))


@published
def test_no_pixel_has_clicks_of_two_classes_and_the_background_comes_last(
    objects: Items, background: Items, both: Clicks
) -> None:
    for name, clicks in both.items():
        pixels = defaultdict(set)
        for click in clicks:
            pixels[tuple(np.floor(click.points[0]).astype(int).tolist())].add(click.label)
        assert all(len(labels) == 1 for labels in pixels.values())
        assert [click.label for click in clicks] == [
            item["cls"] for content in (objects, background) for item in content.get(name, [])
        ]


@published
def test_without_sbd_all_annotated_images_but_val_are_trained_on(voc_root: Path, background: Items) -> None:
    """The published checksums pass, and then the number of images of the small tree is refused."""
    (voc_root / "benchmark_RELEASE").rename(voc_root / "unused")
    for name in CLICK_FILES:
        (voc_root / name).unlink()
        (voc_root / name).symlink_to((FOLDER / name).resolve())
    names = VOCDataModule(str(voc_root), published_split=False).train_split().names
    assert list(names) == sorted(set(background) - {"2007_000033"})  # the one image of val in the small tree
    assert names[0] == "2007_000032"
    with pytest.raises(ValueError, match="train_aug has 12030 images where 10,582 are published"):
        VOCDataModule(str(voc_root)).prepare_data()
