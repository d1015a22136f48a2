"""Simulated clicks against Sec. 6.4, written as loops."""

from math import hypot

import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.simulate_clicks import ClickSimulator

Pixels = list[tuple[int, int]]  # (x, y)


def components(instances: NDArray[np.integer]) -> list[tuple[int, Pixels]]:
    """Return (region value, pixels) of each component, by flood fill with eight neighbors."""
    todo = {(x, y): int(v) for (y, x), v in np.ndenumerate(instances)}
    found = []
    while todo:
        seed, value = next(iter(todo.items()))
        del todo[seed]
        pixels, front = [seed], [seed]
        while front:
            x, y = front.pop()
            for near in [(x + dx, y + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]:
                if todo.get(near) == value:
                    del todo[near]
                    pixels.append(near)
                    front.append(near)
        found.append((value, pixels))
    return found


def is_right(click: tuple[int, int], pixels: Pixels) -> bool:
    """Return whether the click satisfies Sec. 6.4. Pixels at equal distance are all accepted."""
    center_x, center_y = (sum(axis) / len(pixels) for axis in zip(*pixels, strict=True))
    nearest = int(center_x + 0.5), int(center_y + 0.5)
    if nearest in pixels:
        return click == nearest
    distance = sorted(hypot(x - center_x, y - center_y) for x, y in pixels)
    wanted = min(d for d in distance if d >= distance[0] + 0.025 * (distance[-1] - distance[0]) - 1e-9)
    return click in pixels and abs(hypot(click[0] - center_x, click[1] - center_y) - wanted) < 1e-9


def simulate(instances: NDArray[np.integer], simulator: ClickSimulator | None = None) -> list[tuple[int, int, int]]:
    """Return (class, x index, y index). The class of a region is its value."""
    values = {int(v): int(v) for v in np.unique(instances) if v > 0}
    clicks = (simulator or ClickSimulator(min_area=1))(instances, values)
    assert all(a.is_click for a in clicks)
    return [(a.label, *(int(c) for c in a.points[0] - 0.5)) for a in clicks]


def disk(radius: float, x: int = 30, y: int = 24, size: tuple[int, int] = (50, 64)) -> NDArray[np.int32]:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return ((columns - x) ** 2 + (rows - y) ** 2 <= radius**2).astype(np.int32)


def u_shape() -> NDArray[np.int32]:
    instances = np.zeros((40, 40), dtype=np.int32)
    instances[5:33, 8:31] = 1
    instances[5:27, 13:26] = 0
    return instances


@pytest.mark.parametrize("seed", range(4))
def test_every_component_of_random_maps_gets_the_click_of_the_paper(seed: int) -> None:
    coarse = np.random.default_rng(seed).integers(0, 4, size=(14, 11), dtype=np.int32)
    instances = coarse.repeat(3, axis=0).repeat(2, axis=1)
    clicks = simulate(instances, ClickSimulator(min_area=10))
    wanted = [(value, pixels) for value, pixels in components(instances) if value > 0 and len(pixels) >= 10]
    assert len(clicks) == len(wanted)
    for value, pixels in wanted:
        inside = [(x, y) for label, x, y in clicks if label == value and (x, y) in pixels]
        assert len(inside) == 1
        assert is_right(inside[0], pixels)


def test_disk_gets_its_center() -> None:
    assert simulate(disk(11)) == [(1, 30, 24)]


@pytest.mark.parametrize(
    "instances", [u_shape(), disk(20) - disk(12), np.eye(30, dtype=np.int32)[::-1] | np.eye(30, k=9, dtype=np.int32)]
)
def test_click_of_a_hollow_region_lies_in_it_off_the_boundary(instances: NDArray[np.int32]) -> None:
    (_, pixels) = next(c for c in components(instances) if c[0] == 1)
    ((_, x, y),) = simulate(instances, ClickSimulator(min_area=1))
    assert instances[y, x] == 1
    assert is_right((x, y), pixels)


def test_diagonal_pixels_are_one_component() -> None:
    instances = np.zeros((6, 6), dtype=np.int32)
    instances[2, 2] = instances[3, 3] = 7
    assert len(simulate(instances)) == 1
    instances[2, 2], instances[1, 1] = 0, 7
    assert len(simulate(instances)) == 2


def test_small_stuff_is_skipped_and_small_things_are_not() -> None:
    instances = np.zeros((30, 40), dtype=np.int32)
    instances[2:6, 2:6] = 1  # 16 pixels of class 1
    instances[2:6, 10:14], instances[2, 14] = 1, 1  # 17 pixels of class 1
    instances[10, 10] = instances[20, 20] = 2  # single pixels of class 2
    stuff = ClickSimulator(min_area=17)
    assert [label for label, _, _ in simulate(instances, stuff)] == [1]
    things = ClickSimulator(min_area=17, things=frozenset({2}))
    assert [label for label, _, _ in simulate(instances, things)] == [1, 2, 2]


def test_values_without_a_class_are_skipped_and_others_are_mapped() -> None:
    instances = np.zeros((12, 12), dtype=np.uint16)
    instances[:4], instances[8:] = 26001, 3
    clicks = ClickSimulator(min_area=1)(instances, {26001: 13, 5: 2})
    assert [a.label for a in clicks] == [13]


def test_click_is_the_center_of_its_pixel() -> None:
    instances = np.zeros((20, 20), dtype=np.int32)
    instances[11:14, 4:9] = 1
    (click,) = ClickSimulator(min_area=1)(instances, {1: 1})
    assert click.points.tolist() == [[6.5, 12.5]]


def test_centroid_between_two_pixels_is_the_right_one() -> None:
    pair = np.zeros((5, 9), dtype=np.int32)
    pair[2, 4:6] = 1
    assert simulate(pair) == [(1, 5, 2)]
