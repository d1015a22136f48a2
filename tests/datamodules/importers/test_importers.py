"""Exports of LabelMe, CVAT and Label Studio, written by hand."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as rle

from datamodules.annotations import Annotation, Box, rasterize
from datamodules.importers.cvat import read_cvat
from datamodules.importers.drawing import CLICKS, SCRIBBLES, Drawing, Simulator, to_annotations
from datamodules.importers.label_studio import decode_brush, read_label_studio
from datamodules.importers.labelme import read_labelme

H, W = 40, 60
CLASSES = ["sky", "tree", "bird"]
OUTER = [[5.0, 5.0], [55.0, 6.0], [50.0, 36.0], [8.0, 35.0]]
INNER = [[20.0, 10.0], [40.0, 10.0], [40.0, 30.0], [20.0, 30.0]]

Reader = Callable[[Path, list[str]], Iterator[Drawing]]


def read(reader: Reader, path: Path, simulator: Simulator = SCRIBBLES) -> dict[str, list[Annotation]]:
    return to_annotations(reader(path, CLASSES), simulator)


def plain(annotations: list[Annotation]) -> list[tuple[int, list[list[float]]]]:
    return [(a.label, a.points.tolist()) for a in annotations]


def inside(polygon: list[list[float]]) -> NDArray[np.bool_]:
    """Rasterize as pycocotools does."""
    return rle.decode(rle.frPyObjects([np.ravel(polygon).tolist()], H, W))[..., 0].astype(bool)


def labelme(path: Path, *shapes: tuple[str | None, str, Any], **changes: Any) -> Path:
    content = {
        "version": "5.4.1",
        "shapes": [{"label": b, "points": p, "shape_type": kind, "group_id": None} for kind, b, p in shapes],
        "imagePath": "..\\photos\\IMG 1.2.jpg",
        "imageData": None,
        "imageHeight": H,
        "imageWidth": W,
        **changes,
    }
    path.write_text(json.dumps(content))
    return path


def cvat(path: Path, *shapes: str, head: str = "", name: str = "photos/IMG 1.2.jpg") -> Path:
    text = "".join(shapes)
    path.write_text(
        f'<?xml version="1.0" encoding="utf-8"?>\n{head}<annotations><version>1.1</version><meta><task/></meta>'
        f'<image id="0" name="{name}" width="{W}" height="{H}">{text}</image></annotations>'
    )
    return path


def studio(path: Path, *results: tuple[str, dict[str, Any]], **changes: Any) -> Path:
    size = {"original_width": W, "original_height": H, "image_rotation": 0}
    drawn = [{"type": kind, "to_name": "image", "value": value, **size} for kind, value in results]
    task = {
        "id": 12,
        "annotations": [
            {"result": [{"type": "choices", "value": {"choices": ["sunny"]}}, *drawn], "was_cancelled": False},
            {"result": [{"type": "rectanglelabels"}], "was_cancelled": True},
        ],
        "data": {"image": "/data/upload/3/0ab1c2d3-IMG%201.2.jpg", "note": "a text"},
        **changes,
    }
    path.write_text(json.dumps([task]))
    return path


RECTANGLE = {"x": 10, "y": 10, "width": 40, "height": 40, "rotation": 0, "rectanglelabels": ["tree"]}


def percent(points: list[list[float]]) -> list[list[float]]:
    return [[100 * x / W, 100 * y / H] for x, y in points]


def encode_brush(alpha: NDArray[np.uint8], rng: np.random.Generator) -> list[int]:
    """Encode a brush as Label Studio does, in blocks of random length of repeated or listed values."""
    values = np.repeat(alpha.ravel(), 4)
    widths = [3, 4, 8, 16]
    bits = f"{len(values):032b}{8 - 1:05b}" + "".join(f"{width - 1:04b}" for width in widths)
    position = 0
    while position < len(values):
        kind = rng.integers(4)
        longest = min(2 ** widths[kind], len(values) - position)
        run = int(np.argmin(np.append(values[position : position + longest] == values[position], False)))
        repeated = rng.random() < 0.8
        count = run if repeated else min(longest, int(rng.integers(1, 30)))
        block = values[position : position + (1 if repeated else count)]
        bits += f"{int(repeated)}{kind:02b}{count - 1:0{widths[kind]}b}" + "".join(f"{value:08b}" for value in block)
        position += count
    bits += "0" * (-len(bits) % 8)
    return [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]


def test_labelme_points_and_lines(tmp_path: Path) -> None:
    path = labelme(
        tmp_path / "a.json",
        ("point", "bird", [[3.5, 4.25]]),
        ("line", "sky", [[1, 2], [30, 2]]),
        ("linestrip", "tree", [[1, 20], [30, 22], [40, 39]]),
        ("points", "tree", [[1, 1], [2, 2]]),
    )
    assert {name: plain(a) for name, a in read(read_labelme, path).items()} == {
        "IMG 1.2": [
            (2, [[3.5, 4.25]]),
            (0, [[1, 2], [30, 2]]),
            (1, [[1, 20], [30, 22], [40, 39]]),
            (1, [[1, 1]]),
            (1, [[2, 2]]),
        ]
    }
    assert read(read_labelme, tmp_path).keys() == {"IMG 1.2"}


def test_rectangles_are_boxes(tmp_path: Path) -> None:
    """In any order of the corners. A rotated box of CVAT is enclosed: a square of side 10 turned by 45 degrees."""
    drawn = {
        read_labelme: labelme(tmp_path / "a.json", ("rectangle", "tree", [[30, 20], [6, 4]])),
        read_cvat: cvat(
            tmp_path / "annotations.xml",
            '<box label="tree" xtl="6.00" ytl="4.00" xbr="30.00" ybr="20.00" z_order="0"></box>',
            '<box label="sky" xtl="10" ytl="10" xbr="20" ybr="20" rotation="45.0"></box>',
        ),
        read_label_studio: studio(tmp_path / "b.json", ("rectanglelabels", RECTANGLE)),
    }
    for reader, path in drawn.items():
        (labels,) = read(reader, path).values()
        assert all(isinstance(label, Box) for label in labels)
        assert labels[0].label == 1
        np.testing.assert_allclose(labels[0].points, [[6, 4], [30, 20]])
    half = 5 * 2**0.5
    np.testing.assert_allclose(
        read(read_cvat, drawn[read_cvat])["IMG 1.2"][1].points, [[15 - half, 15 - half], [15 + half, 15 + half]]
    )


def test_cvat_points_and_lines(tmp_path: Path) -> None:
    path = cvat(
        tmp_path / "annotations.xml",
        '<points label="bird" points="3.50,4.25;7.00,8.00" z_order="0"><attribute name="age">2</attribute></points>',
        '<polyline label="tree" points="1.00,20.00;30.00,22.00;40.00,39.00"></polyline>',
        '<tag label="good frame"/>',
        '<mask label="sky" rle="3, 1, 2" left="10" top="20" width="3" height="2"/>',  # one pixel, row 1 of its box
    )
    assert {name: plain(a) for name, a in read(read_cvat, path, CLICKS).items()} == {
        "IMG 1.2": [(0, [[10.5, 21.5]]), (2, [[3.5, 4.25]]), (2, [[7, 8]]), (1, [[1, 20], [30, 22], [40, 39]])]
    }


def test_label_studio_points_are_percent_of_the_image(tmp_path: Path) -> None:
    """(25 %, 75 %) of 60 x 40 pixels is (15, 30); choices and skipped annotations are ignored."""
    path = studio(tmp_path / "a.json", ("keypointlabels", {"x": 25, "y": 75, "width": 1, "keypointlabels": ["bird"]}))
    assert {name: plain(a) for name, a in read(read_label_studio, path).items()} == {"IMG 1.2": [(2, [[15, 30]])]}


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("/data/upload/3/0ab1c2d3-a.b.png", "a.b"),
        ("/data/local-files/?d=photos%2Fday%201%2Fa.png", "a"),
        ("https://host/x/0ab1c2d3-a.JPG?token=1.png", "0ab1c2d3-a"),
        ("s3://bucket/folder/a.webp", "a"),
        ("C:\\photos\\a.png", "a"),
    ],
)
def test_label_studio_names_the_image(tmp_path: Path, image: str, name: str) -> None:
    path = studio(tmp_path / "a.json", data={"photo": image, "id": 3, "text": "a"})
    assert read(read_label_studio, path) == {name: []}


def draw_labelme(path: Path, simulator: Simulator) -> list[Annotation]:
    return read(read_labelme, labelme(path, (None, "tree", OUTER), ("polygon", "bird", INNER)), simulator)["IMG 1.2"]


def draw_cvat(path: Path, simulator: Simulator) -> list[Annotation]:
    shapes = [
        f'<polygon label="{label}" points="{";".join(f"{x},{y}" for x, y in points)}"/>'
        for label, points in (("tree", OUTER), ("bird", INNER))
    ]
    return read(read_cvat, cvat(path, *shapes), simulator)["IMG 1.2"]


def draw_cvat_masks(path: Path, simulator: Simulator) -> list[Annotation]:
    shapes = []
    for label, points in (("tree", OUTER), ("bird", INNER)):
        region = inside(points)
        rows, columns = np.nonzero(region.any(1))[0], np.nonzero(region.any(0))[0]
        box = region[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        runs, last = [0], False
        for pixel in box.ravel():
            if pixel != last:
                runs.append(0)
                last = bool(pixel)
            runs[-1] += 1
        place = f'left="{columns[0]}" top="{rows[0]}" width="{box.shape[1]}" height="{box.shape[0]}"'
        shapes.append(f'<mask label="{label}" rle="{", ".join(map(str, runs))}" {place}/>')
    return read(read_cvat, cvat(path, *shapes), simulator)["IMG 1.2"]


def draw_studio(path: Path, simulator: Simulator) -> list[Annotation]:
    brush = encode_brush(inside(OUTER).astype(np.uint8) * 255, np.random.default_rng(0))
    path = studio(
        path,
        ("brushlabels", {"format": "rle", "rle": brush, "brushlabels": ["tree"]}),
        ("polygonlabels", {"points": percent(INNER), "polygonlabels": ["bird"]}),
    )
    return read(read_label_studio, path, simulator)["IMG 1.2"]


@pytest.mark.parametrize("draw", [draw_labelme, draw_cvat, draw_cvat_masks, draw_studio])
@pytest.mark.parametrize("simulator", [CLICKS, SCRIBBLES])
def test_region_gives_one_click_or_scribble_inside_its_visible_part(
    tmp_path: Path, draw: Callable[[Path, Simulator], list[Annotation]], simulator: Simulator
) -> None:
    """The tree's centroid is on the bird in front of it."""
    annotations = draw(tmp_path / "a", simulator)
    assert [a.label for a in annotations] == [1, 2]
    assert all(a.is_click == (simulator is CLICKS) for a in annotations)
    drawn = rasterize(annotations, (H, W))
    assert inside(INNER)[drawn == 2].all()
    assert (inside(OUTER) & ~inside(INNER))[drawn == 1].all()
    assert (drawn == 1).any()


def test_only_the_largest_part_of_a_cut_region_is_labeled(tmp_path: Path) -> None:
    band = ("polygon", "tree", [[0, 10], [60, 10], [60, 30], [0, 30]])
    bird = ("polygon", "bird", [[10, 0], [20, 0], [20, 40], [10, 40]])
    hand = ("point", "sky", [[1, 1]])
    annotations = read(read_labelme, labelme(tmp_path / "a.json", hand, band, bird), CLICKS)["IMG 1.2"]
    assert plain(annotations) == [(1, [[40.5, 20.5]]), (2, [[15.5, 20.5]]), (0, [[1, 1]])]


@pytest.mark.parametrize("seed", range(8))
def test_brush_is_decoded(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(1, 50)), int(rng.integers(1, 50)))
    alpha = rng.integers(0, 256, size=size, dtype=np.uint8)
    alpha[rng.random(size) < rng.random()] = 0
    alpha[: size[0] // 2] = 255 * (seed % 2)
    assert np.array_equal(decode_brush(encode_brush(alpha, rng), size), alpha >= 128)


def test_header_of_a_real_brush_is_decoded() -> None:
    """The first bytes of a brush that Label Studio exported for an image of 3332 x 2527."""
    published = [2, 1, 233, 240, 57, 27, 255, 255, 255, 0, 255, 255]
    with pytest.raises(ValueError, match="its RLE is cut off"):
        decode_brush(published, (2527, 3332))
    with pytest.raises(
        ValueError, match=r"33679856 values of 8 bits, not 4 of 8 bits for each pixel of \(2527, 3331\)"
    ):
        decode_brush(published, (2527, 3331))


SQUARE = [[1, 1], [9, 1], [9, 9]]
BRUSH = {"brushlabels": ["tree"], "format": "rle"}
POINT = ("keypointlabels", {"x": 1, "y": 1, "keypointlabels": ["tree"]})


def from_labelme(*shapes: Any, **changes: Any) -> Callable[[Path], Any]:
    return lambda path: read(read_labelme, labelme(path, *shapes, **changes))


def from_cvat(*shapes: str, **changes: str) -> Callable[[Path], Any]:
    return lambda path: read(read_cvat, cvat(path, *shapes, **changes))


def from_studio(*results: Any, **changes: Any) -> Callable[[Path], Any]:
    return lambda path: read(read_label_studio, studio(path, *results, **changes))


@pytest.mark.parametrize(
    ("read_it", "message"),
    [
        (from_labelme(("point", "cat", [[1, 1]])), "has the label 'cat'; the classes are sky, tree, bird"),
        (from_cvat('<points label="cat" points="1,1"/>'), "image photos/IMG 1.2.jpg has the label 'cat'; the classes"),
        (from_studio((POINT[0], {**POINT[1], "keypointlabels": ["cat"]})), "task 12 has the label 'cat'; the classes"),
        (from_labelme(("circle", "tree", [[1, 1], [2, 2]])), "the shape 'circle'; use point, line, linestrip"),
        (from_labelme(("rectangle", "tree", [[1, 1], [1, 2]])), "a rectangle without area"),
        (from_labelme(("line", "tree", [[1, 1]])), r"the points \[\[1, 1\]\]; expected at least 2"),
        (from_labelme(("polygon", "tree", SQUARE[:2])), "expected at least 3"),
        (from_labelme(("polygon", "tree", [*SQUARE, [1e6, 1]])), r"polygon far outside the image of size \(40, 60\)"),
        (from_labelme(("point", "tree", [[float("nan"), 1]])), "expected at least 1"),
        (from_labelme(("point", "tree", "1, 1")), "expected at least 1"),
        (from_labelme(imageHeight=None), r"the image size \(H, W\) \(None, 60\); export"),
        (from_labelme(imagePath=None), "the image path None; export"),
        (from_labelme(shapes=None), "no list 'shapes'; pass a JSON file saved by LabelMe"),
        (from_cvat('<ellipse label="tree" cx="1" cy="1" rx="2" ry="2"/>'), "has a ellipse; use points, polylines"),
        (from_cvat('<box label="tree" xtl="1" ytl="1" xbr="2"/>'), "expected at least 2"),
        (from_cvat('<points label="tree" points="1,1;2"/>'), "expected at least 1"),
        (from_cvat('<mask label="tree" rle="1, 2" left="0" top="0" width="2" height="2"/>'), "mask that does not fill"),
        (
            from_cvat('<mask label="tree" rle="1, 3" left="59" top="0" width="2" height="2"/>'),
            "mask that does not fill",
        ),
        (
            from_cvat('<mask label="tree" rle="1, 3" left="a" top="0" width="2" height="2"/>'),
            "left='a', which is not a number",
        ),
        (from_cvat('</image><image name="b/IMG 1.2.jpg" width="1" height="1">'), "a second image 'IMG 1.2'"),
        (from_cvat('</image><track id="0" label="tree"/><image>'), 'export it from CVAT as "CVAT for images 1.1"'),
        (from_cvat("<points>"), r"cannot be read \(mismatched tag"),
        (from_studio(("ellipselabels", {"ellipselabels": ["tree"]})), "ellipselabels; use KeyPointLabels"),
        (from_studio(("rectanglelabels", {**RECTANGLE, "rotation": 5})), r"malformed rectanglelabels \(it is rotated"),
        (from_studio((POINT[0], {**POINT[1], "keypointlabels": []})), r"with the labels \[\]; give each region one"),
        (from_studio((POINT[0], {"x": 1, "keypointlabels": ["tree"]})), r"malformed keypointlabels \('y'\); export"),
        (from_studio(("brushlabels", {**BRUSH, "rle": [0, 0, 1]})), r"malformed brushlabels \(its RLE is cut off\)"),
        (from_studio(("brushlabels", {**BRUSH, "rle": 10**15})), "malformed brushlabels .*not iterable"),
        (from_studio(("brushlabels", {**BRUSH, "rle": [300]})), "malformed brushlabels"),
        (
            from_studio(("brushlabels", {**BRUSH, "rle": [0, 0, 37, 128, 57, 27, 255, *[255] * 9]})),
            r"its RLE fills more than \(40, 60\)",
        ),
        (from_studio(POINT, data={"image": "a.txt"}), r"the images \[\]; expected one image per task"),
        (
            from_studio(POINT, data={"image": "a.png", "other": "b.png"}),
            r"the images \['a.png', 'b.png'\]; expected",
        ),
        (from_studio(POINT, data=None), "task 12 lacks .*; export it from Label Studio as JSON"),
        (
            from_studio(annotations=[{"result": [{"type": "brushlabels", "image_rotation": 90}]}]),
            "rotated or in several",
        ),
    ],
)
def test_malformed_export_is_named(tmp_path: Path, read_it: Callable[[Path], Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"labels\.file.*{message}"):
        read_it(tmp_path / "labels.file")


def test_entity_expansion_is_limited(tmp_path: Path) -> None:
    """Expat refuses a billion laughs."""
    entities = "".join(f'<!ENTITY l{k} "{f"&l{k - 1};" * 10}">' for k in range(1, 12))
    text = f'<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY l0 "ha">{entities}]><a>&l11;</a>'
    (tmp_path / "a.xml").write_bytes(text.encode("utf-16"))
    with pytest.raises(ValueError, match=r"a\.xml cannot be read"):
        read(read_cvat, tmp_path / "a.xml")


@pytest.mark.parametrize(
    ("reader", "content"),
    [
        (read_labelme, "{"),
        (read_labelme, "[]"),
        (read_labelme, None),
        (read_label_studio, "{}"),
        (read_label_studio, '[{"image": "a.png", "tag": []}]'),
        (read_label_studio, None),
        (read_cvat, "<a/>"),
        (read_cvat, "text"),
        (read_cvat, None),
    ],
)
def test_other_file_is_named(tmp_path: Path, reader: Reader, content: str | None) -> None:
    path = tmp_path / "export.file"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=r"export\.file .*; (export|unpack|pass)"):
        read(reader, path)
