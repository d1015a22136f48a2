"""Cityscapes on disk: names, classes, masks and simulated clicks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage
from scipy import ndimage

from datamodules.annotations import Annotation
from datamodules.cityscapes.files import CLASSES, LABEL_IDS, PUBLISHED, THINGS, TRAIN_IDS, CityscapesFiles
from datamodules.simulate_clicks import ClickSimulator

NAME = "aachen_000000_000019"
SIMULATOR = ClickSimulator(min_area=256, things=THINGS)
TABLE = """
    7 road 0, 8 sidewalk 1, 11 building 2, 12 wall 3, 13 fence 4, 17 pole 5, 19 traffic light 6, 20 traffic sign 7,
    21 vegetation 8, 22 terrain 9, 23 sky 10, 24 person 11, 25 rider 12, 26 car 13, 27 truck 14, 28 bus 15, 31 train 16,
    32 motorcycle 17, 33 bicycle 18
"""
"""labelId, name and train id of the 19 classes. All other labelIds are void."""
TRAIN_ID = {int(entry.split()[0]): int(entry.split()[-1]) for entry in TABLE.split(",")}

Save = Callable[[str, NDArray[np.integer]], CityscapesFiles]


@pytest.fixture
def save(cityscapes_root: Path) -> Save:
    """Replace a map of the image NAME and open the tree."""

    def write(kind: str, values: NDArray[np.integer]) -> CityscapesFiles:
        PILImage.fromarray(values).save(cityscapes_root / f"gtFine/train/aachen/{NAME}_gtFine_{kind}.png")
        return CityscapesFiles(cityscapes_root)

    return write


def pixels(clicks: list[Annotation]) -> list[tuple[int, int, int]]:
    """Return (class, x, y) of clicks at pixel centers."""
    assert all(click.is_click and (click.points % 1 == 0.5).all() for click in clicks)
    return [(click.label, *np.floor(click.points[0]).astype(int).tolist()) for click in clicks]


def test_names_are_those_of_all_cities_sorted(cityscapes_root: Path) -> None:
    (cityscapes_root / "leftImg8bit/train/aachen/notes.png").touch()
    (cityscapes_root / "leftImg8bit/train/stray_leftImg8bit.png").touch()
    files = CityscapesFiles(cityscapes_root)
    assert files.names("train") == [NAME, "aachen_000001_000019", "zurich_000121_000019"]
    assert files.names("val") == ["frankfurt_000000_000294"]
    for split in ("train", "val"):
        for name in files.names(split):
            assert files.image(split, name).is_file()
            assert all(files.annotation(split, name, kind).is_file() for kind in ("labelIds", "instanceIds"))


def test_split_without_images_is_named(cityscapes_root: Path) -> None:
    with pytest.raises(ValueError, match=r"leftImg8bit/test has no CITY/\*_leftImg8bit\.png; see: gatedcrf data"):
        CityscapesFiles(cityscapes_root).names("test")


def test_classes_are_the_19_of_the_table_in_its_order() -> None:
    rows = [entry.split() for entry in TABLE.split(",")]
    assert [(int(row[0]), " ".join(row[1:-1]), int(row[-1])) for row in rows] == [
        (label, name, index) for index, (label, name) in enumerate(zip(LABEL_IDS, CLASSES, strict=True))
    ]
    assert {label: TRAIN_IDS[label] for label in range(34)} == {label: TRAIN_ID.get(label, 255) for label in range(34)}
    assert TRAIN_IDS[-1] == 255
    assert sorted(THINGS) == [index for label, index in TRAIN_ID.items() if 24 <= label <= 33]
    assert {split: sum(cities.values()) for split, cities in PUBLISHED.items()} == {"train": 2975, "val": 500}
    assert [len(cities) for cities in PUBLISHED.values()] == [18, 3]


def test_cities_with_other_numbers_than_published_are_named(cityscapes_root: Path) -> None:
    (cityscapes_root / "leftImg8bit/train/zurich").rename(cityscapes_root / "leftImg8bit/train/zuerich")
    for path in (cityscapes_root / "leftImg8bit/train/zuerich").iterdir():
        path.rename(path.with_name(path.name.replace("zurich", "zuerich")))
    cities = {
        Path(problem.place).name: str(problem) for problem in CityscapesFiles(cityscapes_root).unpublished("train")
    }
    assert len(cities) == 18 + 1
    assert "zuerich has 1 images instead of the published 0" in cities["zuerich"]
    assert "zurich has 0 images instead of the published 122" in cities["zurich"]


def test_every_label_id_becomes_its_class_or_void(save: Save) -> None:
    values = np.array([[*range(34), 255]], dtype=np.uint8)
    mask = save("labelIds", values).dense_mask("train", NAME)
    assert mask.dtype == np.uint8
    assert mask.tolist() == [[*(TRAIN_ID.get(label, 255) for label in range(34)), 255]]


def test_mask_has_the_classes_of_the_instances(cityscapes_root: Path, city_instances: NDArray[np.uint16]) -> None:
    mask = CityscapesFiles(cityscapes_root).dense_mask("train", NAME)
    for (y, x), value in np.ndenumerate(city_instances):
        assert mask[y, x] == TRAIN_ID.get(int(value) // 1000 or int(value), 255)


@pytest.mark.parametrize(("value", "dtype"), [(34, np.uint8), (254, np.uint8), (256, np.uint16), (26001, np.uint16)])
def test_invalid_label_id_is_named(save: Save, value: int, dtype: type) -> None:
    """26001 is an instanceId."""
    values = np.full((4, 6), 7, dtype=dtype)
    values[2, 3] = value
    with pytest.raises(ValueError, match=rf"{NAME}_gtFine_labelIds\.png has the value {value}, which is not a labelId"):
        save("labelIds", values).dense_mask("train", NAME)


@pytest.mark.parametrize("value", [34, 999, 34000, 65000])
def test_invalid_instance_id_is_named(save: Save, value: int) -> None:
    values = np.full((4, 6), 7, dtype=np.uint16)
    values[2, 3] = value
    files = save("instanceIds", values)
    with pytest.raises(
        ValueError, match=rf"{NAME}_gtFine_instanceIds\.png has the value {value}, which is not an inst"
    ):
        files.simulate_clicks("train", NAME, SIMULATOR)


@pytest.mark.parametrize("kind", ["labelIds", "instanceIds"])
def test_missing_truncated_or_colored_map_is_named(cityscapes_root: Path, kind: str) -> None:
    files = CityscapesFiles(cityscapes_root)
    path = files.annotation("train", NAME, kind)

    def read() -> None:
        if kind == "labelIds":
            files.dense_mask("train", NAME)
        else:
            files.simulate_clicks("train", NAME, SIMULATOR)

    color = files.annotation("train", NAME, "color").read_bytes()
    content = path.read_bytes()
    for wrong, message in [
        (content[: len(content) // 2], "cannot be read"),
        (b"", "cannot be read"),
        (color, "has mode RGBA instead of grayscale"),
    ]:
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match=rf"{NAME}_gtFine_{kind}\.png {message}"):
            read()
    path.unlink()
    with pytest.raises(ValueError, match=rf"{NAME}_gtFine_{kind}\.png is missing; unpack gtFine_trainvaltest\.zip"):
        read()


def test_instance_ids_have_16_bits(cityscapes_root: Path, city_instances: NDArray[np.uint16]) -> None:
    with PILImage.open(CityscapesFiles(cityscapes_root).annotation("train", NAME, "instanceIds")) as picture:
        assert picture.mode in ("I;16", "I")
        np.testing.assert_array_equal(np.array(picture), city_instances)


def test_every_component_of_the_19_classes_gets_a_click_in_it(
    cityscapes_root: Path, city_instances: NDArray[np.uint16]
) -> None:
    """Sec. 6.4, with connected components by SciPy. Small regions of stuff and all of void are skipped."""
    clicks = pixels(CityscapesFiles(cityscapes_root).simulate_clicks("train", NAME, SIMULATOR))
    wanted = []
    for value in np.unique(city_instances).tolist():
        label_id = value // 1000 if value >= 1000 else value
        components, count = ndimage.label(city_instances == value, np.ones((3, 3)))
        for component in range(1, count + 1):
            region = components == component
            if label_id in TRAIN_ID and (label_id >= 24 or region.sum() >= 256):
                wanted.append((TRAIN_ID[label_id], region))
    assert sorted(label for label, _ in wanted) == [0, 7, 10, 11, 11, 13, 13, 13, 13]
    assert len(clicks) == len(wanted)
    for label, region in wanted:
        assert sum(found == label and bool(region[y, x]) for found, x, y in clicks) == 1


def test_stuff_is_skipped_below_256_pixels_and_groups_are_things(
    cityscapes_root: Path, city_instances: NDArray[np.uint16]
) -> None:
    assert [int((city_instances == value).sum()) for value in (20, 17, 26, 24000)] == [256, 255, 40, 1]
    clicks = pixels(CityscapesFiles(cityscapes_root).simulate_clicks("train", NAME, SIMULATOR))
    assert (7, 8, 8) in clicks  # 256 pixels of traffic sign; the centroid is between four pixels
    assert not [click for click in clicks if click[0] == 5]  # 255 pixels of pole
    assert (13, 55, 42) in clicks  # the group of cars
    assert (11, 70, 50) in clicks  # a person of one pixel


def test_fragments_of_an_instance_get_a_click_each(cityscapes_root: Path) -> None:
    clicks = pixels(CityscapesFiles(cityscapes_root).simulate_clicks("train", NAME, SIMULATOR))
    assert {(x, y) for label, x, y in clicks if label == 13} == {(12, 33), (21, 33), (45, 42), (55, 42)}
    assert [(x, y) for label, x, y in clicks if label == 11] == [(70, 50), (75, 55)]  # a corner joins two pixels


def test_void_gets_no_click(save: Save) -> None:
    for value in [*(v for v in range(34) if v not in TRAIN_ID), 29000, 30001, 5000, 65535]:
        files = save("instanceIds", np.full((20, 20), value, dtype=np.uint16))
        assert files.simulate_clicks("train", NAME, SIMULATOR) == [], value


def test_each_instance_and_stuff_region_gets_a_click_of_its_class(save: Save) -> None:
    for label, train_id in TRAIN_ID.items():
        values = np.full((20, 20), label, dtype=np.uint16)
        if label >= 24:
            values[:, :10] = 1000 * label + 7
        clicks = save("instanceIds", values).simulate_clicks("train", NAME, SIMULATOR)
        assert [click.label for click in clicks] == [train_id] * (2 if label >= 24 else 1)
