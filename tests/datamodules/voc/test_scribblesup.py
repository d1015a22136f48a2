"""ScribbleSup: the forms of its XML files, and the clicks derived from them."""

import pickle
import shutil
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import dist
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest

from datamodules.annotations import Annotation
from datamodules.voc.scribblesup import TAGS, ScribbleFiles, along, background_clicks, parse

Xml = Callable[..., str]
SIZE = (50, 30)  # (W, H)
STROKES = [("background", [(1, 2), (40, 3)]), ("plane", [(5, 6)])]


def plain(scribbles: Sequence[Annotation]) -> list[tuple[str, list[tuple[float, ...]]]]:
    return [(TAGS[s.label], [tuple(point) for point in s.points.tolist()]) for s in scribbles]


def test_tags_are_those_of_the_files_by_class_index() -> None:
    names = (
        "background plane bike bird boat bottle bus car cat chair cow table dog horse motorbike person plant sheep "
        "sofa train monitor"
    )
    assert list(TAGS) == names.split()


def test_scribbles_are_in_file_order_with_x_before_y(scribble_xml: Xml) -> None:
    strokes = [(tag, [(k, 2 * k), (k + 1, 7)]) for k, tag in enumerate([*TAGS[::-1], "dog", "background"])]
    scribbles, size = parse(scribble_xml(SIZE, strokes).encode())
    assert plain(scribbles) == strokes
    assert size == (30, 50)
    assert all(s.points.dtype == np.float64 for s in scribbles)


@pytest.mark.parametrize(
    "strokes",
    [
        [("background", [(-3, 4), (1198, 9), (20, 500)]), ("dog", [(50, 30)])],  # outside of the image
        [("background", [(18, 461)]), ("plane", [(7, 7)])],  # a single point
        [("background", [(18, 461), (244, 483)]), ("table", [(3, 3), (3, 3)])],  # two points, also the same twice
        [("monitor", [(1, 1), (2, 2), (9, 4)])],  # no background
        [("plant", [(1, 1)]), ("plant", [(1, 1)]), ("bike", [(1, 1)]), ("plant", [(2, 1)])],  # a class again
    ],
)
def test_unusual_polylines_are_kept(scribble_xml: Xml, strokes: list[tuple[str, list]]) -> None:
    assert plain(parse(scribble_xml(SIZE, strokes).encode())[0]) == strokes


def test_white_space_comments_and_other_elements_are_ignored() -> None:
    content = """<?xml version="1.0"?><annotation><source><size>9</size></source><!-- drawn by hand -->
        <size> <depth>3</depth><height> 30 </height><width>\n50\n</width></size><segmented>1</segmented>
        <polygon><tag> dog </tag><username/><point><X> 4 </X><Y>\t5</Y></point></polygon></annotation>"""
    scribbles, size = parse(content.encode())
    assert plain(scribbles) == [("dog", [(4, 5)])]
    assert size == (30, 50)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</annotation>", "", "no element found"),
        ("<annotation>", "text<annotation>", "not well-formed"),
        ("<width>50</width>", "", "<size/width> is '', not an integer"),
        ("<height>30</height>", "<height>30.0</height>", "<size/height> is '30.0', not an integer"),
        ("<tag>plane</tag>", "<tag>aeroplane</tag>", "unknown tag 'aeroplane'; the tags are background, plane, "),
        ("<tag>plane</tag>", "", "unknown tag ''"),
        ("<point><X>5</X><Y>6</Y></point>", "", "a polygon of 'plane' without points"),
        ("<X>5</X>", "", "<X> is '', not an integer"),
        ("<Y>6</Y>", "<Y>6.5</Y>", "<Y> is '6.5', not an integer"),
        ("polygon", "bndbox", "no polygon"),
    ],
)
def test_malformed_file_is_named(scribble_xml: Xml, tmp_path: Path, old: str, new: str, message: str) -> None:
    xml = scribble_xml(SIZE, STROKES)
    parse(xml.encode())
    (tmp_path / "2007_000032.xml").write_text(xml.replace(old, new))
    with pytest.raises(ValueError, match=f"2007_000032.xml cannot be read as a scribble file .*{message}") as caught:
        ScribbleFiles(tmp_path).read("2007_000032")
    assert str(tmp_path) in str(caught.value)


def write_zip(path: Path, members: dict[str, str]) -> Path:
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def forms(tmp_path: Path, scribble_xml: Xml) -> dict[str, Path]:
    """The same files in each form in which they are distributed or unpacked."""
    files = {f"2007_00003{k}.xml": scribble_xml((50 + k, 30), [*STROKES, ("dog", [(k, k)])]) for k in range(3)}
    original = {
        "scribble_annotation/": "",
        "scribble_annotation/demo/readspots.m": "% demo",
        **{f"scribble_annotation/pascal_context/{name}": "no VOC classes" for name in [*files, "2007_000039.xml"]},
        **{f"scribble_annotation/pascal_2012/{name}": xml for name, xml in files.items()},
        **{f"__MACOSX/scribble_annotation/pascal_2012/._{name}": "a resource fork" for name in files},
    }
    both = write_zip(tmp_path / "scribble_annotation.zip", original)
    flat = write_zip(tmp_path / "voc_scribbles.zip", files)
    with ZipFile(both) as archive:
        archive.extractall(tmp_path / "unpacked")
    with ZipFile(flat) as archive:
        archive.extractall(tmp_path / "flat")
    unpacked = tmp_path / "unpacked"
    return {
        "original zip": both,
        "flat zip": flat,
        "unpacked here": unpacked,
        "unpacked": unpacked / "scribble_annotation",
        "inner folder": unpacked / "scribble_annotation" / "pascal_2012",
        "flat folder": tmp_path / "flat",
    }


def test_every_form_gives_the_same_scribbles_and_none_of_pascal_context(forms: dict[str, Path]) -> None:
    for form, path in forms.items():
        files = ScribbleFiles(path)
        assert list(files.members) == ["2007_000030", "2007_000031", "2007_000032"], form
        for k, name in enumerate(files.members):
            scribbles, size = files.read(name)
            assert plain(scribbles) == [*STROKES, ("dog", [(k, k)])], form
            assert size == (30, 50 + k), form


@pytest.mark.parametrize("form", ["original zip", "flat folder"])
def test_copies_for_loader_processes_read_the_same(forms: dict[str, Path], form: str) -> None:
    files = ScribbleFiles(forms[form])
    first = plain(files.read("2007_000031")[0])
    copy = pickle.loads(pickle.dumps(files))
    assert plain(copy.read("2007_000031")[0]) == first == plain(files.read("2007_000031")[0])


def test_image_without_a_file_is_named(forms: dict[str, Path]) -> None:
    for path in forms.values():
        with pytest.raises(ValueError, match=r"has no scribbles of 2007_000039; download it again") as caught:
            ScribbleFiles(path).read("2007_000039")
        assert str(path) in str(caught.value)


def test_other_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("<html>moved</html>")
    (tmp_path / "empty").mkdir()
    context = write_zip(tmp_path / "context.zip", {"scribble_annotation/pascal_context/2007_000032.xml": "<a/>"})
    for path in (tmp_path / "text.zip", tmp_path / "gone.zip"):
        with pytest.raises(ValueError, match=rf"{path.name} is neither a folder nor a readable zip .*; download"):
            _ = ScribbleFiles(path).members
    for path in (tmp_path / "empty", context):
        with pytest.raises(ValueError, match=rf"{path.name} has neither NAME\.xml nor pascal_2012/NAME\.xml"):
            _ = ScribbleFiles(path).members


def test_damaged_zip_member_is_named(forms: dict[str, Path]) -> None:
    path = forms["flat zip"]
    content = bytearray(path.read_bytes())
    with ZipFile(path) as archive:
        start = archive.getinfo("2007_000031.xml").header_offset + 30 + len("2007_000031.xml")
    for place in (start, start + 60):  # in the header of the stream, and after it
        damaged = content.copy()
        damaged[place : place + 20] = b"\xff" * 20
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"voc_scribbles\.zip.*2007_000031\.xml cannot be "):
            ScribbleFiles(path).read("2007_000031")
    path.write_bytes(content[:200])
    with pytest.raises(ValueError, match=r"voc_scribbles\.zip is neither a folder nor a readable zip"):
        ScribbleFiles(path).read("2007_000031")


def test_deleted_file_is_named(forms: dict[str, Path]) -> None:
    files = ScribbleFiles(forms["flat folder"])
    assert files.members
    shutil.rmtree(forms["flat folder"])
    with pytest.raises(ValueError, match=r"flat.*2007_000031\.xml cannot be read"):
        files.read("2007_000031")


def walk(points: Sequence[Sequence[float]], share: float, steps: int = 1000) -> list[float]:
    """Return the point at a fraction of the length of a polyline, found in small steps."""
    fine = [
        [a + (b - a) * k / steps for a, b in zip(start, end, strict=True)]
        for start, end in pairwise(points)
        for k in range(steps)
    ]
    lengths = [dist(a, b) for a, b in pairwise([*fine, points[-1]])]
    left = share * sum(lengths)
    for place, length in zip(fine, lengths, strict=True):
        left -= length
        if left <= 0:
            return place
    raise AssertionError(f"{share} is no share.")


@pytest.mark.parametrize("seed", range(6))
def test_background_clicks_lie_at_a_quarter_and_three_quarters_of_the_way(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(-20, 520, size=(int(rng.integers(3, 9)), 2)).astype(float)
    clicks = background_clicks([Annotation(0, points)])
    assert [click.points.shape for click in clicks] == [(1, 2), (1, 2)]
    for click, share in zip(clicks, (0.25, 0.75), strict=True):
        assert dist(click.points[0], walk(points.tolist(), share)) < 1


def test_background_clicks_of_a_right_angle_are_exact() -> None:
    (first, second) = background_clicks([Annotation(0, np.array([[10.0, 20], [40, 20], [40, 30]]))])
    assert (first.points.tolist(), second.points.tolist()) == ([[20, 20]], [[40, 20]])


def test_polylines_of_one_or_two_points_give_their_ends() -> None:
    two = background_clicks([Annotation(0, np.array([[18.0, 461], [244, 483]]))])  # 2008_005277
    assert [click.points.tolist() for click in two] == [[[18, 461]], [[244, 483]]]
    one = background_clicks([Annotation(0, np.array([[7.0, 9]]))])
    assert [click.points.tolist() for click in one] == [[[7, 9]], [[7, 9]]]


def test_pairs_follow_the_order_of_the_background_polylines_alone() -> None:
    ways = [np.array([[100.0 * k, 0], [100 * k + 2, 0], [100 * k + 8, 0]]) for k in (4, 1, 3, 2)]
    scribbles = [Annotation(label, way) for label, way in zip((0, 15, 0, 0), ways, strict=True)]
    clicks = background_clicks(scribbles)
    assert [click.points.tolist() for click in clicks] == [[[100 * k + s, 0]] for k in (4, 3, 2) for s in (2, 6)]
    assert {click.label for click in clicks} == {0}
    assert background_clicks([Annotation(15, ways[0])]) == []


def test_polyline_may_have_repeated_points_or_no_length() -> None:
    still = np.array([[5.0, 6], [5, 6], [5, 6]])
    assert along(still, (0.25, 0.75)).tolist() == [[5, 6], [5, 6]]
    stopping = np.array([[0.0, 0], [4, 0], [4, 0], [4, 0], [4, 4]])
    assert along(stopping, (0.25, 0.5, 0.75)).tolist() == [[2, 0], [4, 0], [4, 2]]
