"""Simulated scribbles stay inside their region, one each."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.annotations import Annotation, rasterize
from datamodules.sample import IGNORE_INDEX
from datamodules.simulate_scribbles import ScribbleSimulator


def draw(instances: NDArray[np.int32], seed: int, simulator: ScribbleSimulator | None = None) -> list[Annotation]:
    classes = {int(v): int(v) for v in np.unique(instances) if v > 0}
    return (simulator or ScribbleSimulator(min_area=1))(instances, classes, np.random.default_rng(seed))


def blobs(seed: int) -> NDArray[np.int32]:
    """Return a map of three values with ragged borders, thin necks and holes."""
    noise = np.random.default_rng(seed).normal(size=(60, 80))
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return np.digitize(smooth, np.quantile(smooth, [0.4, 0.7])).astype(np.int32)


@pytest.mark.parametrize("seed", range(8))
def test_every_pixel_of_a_scribble_lies_in_one_component(seed: int) -> None:
    instances = blobs(seed)
    components = {v: cv2.connectedComponents((instances == v).astype(np.uint8), connectivity=8)[1] for v in (1, 2)}
    scribbles = draw(instances, seed)
    touched = []
    for scribble in scribbles:
        drawn = rasterize([scribble], (60, 80)) != IGNORE_INDEX
        values = np.unique(components[scribble.label][drawn]).tolist()
        assert len(values) == 1
        touched.append((scribble.label, values[0]))
    expected = [(v, k) for v in (1, 2) for k in range(1, components[v].max() + 1)]
    assert sorted(touched) == expected  # each component once, and none is the outside, 0


def test_scribble_is_a_function_of_the_seed() -> None:
    first, again, other = (draw(blobs(0), seed) for seed in (5, 5, 6))
    assert all(np.array_equal(a.points, b.points) for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(a.points, b.points) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_scribble_of_a_disk_is_longer_than_its_radius_and_keeps_the_margin(seed: int) -> None:
    y, x = np.mgrid[:100, :100]
    radius = np.hypot(x - 50, y - 50)
    (scribble,) = draw((radius < 40).astype(np.int32), seed, ScribbleSimulator(margin=3))
    assert not scribble.is_click
    assert (scribble.points % 1 == 0.5).all()  # vertices are pixel centers
    assert np.hypot(*np.diff(scribble.points, axis=0).T).sum() > 40
    drawn = rasterize([scribble], (100, 100)) == 1
    assert radius[drawn].max() < 40 - 2  # a line between the tested pixels may round outward by one


def test_small_components_and_other_values_are_skipped() -> None:
    instances = np.zeros((40, 40), dtype=np.int32)
    instances[2:18, 2:18], instances[20:35, 2:18], instances[2:38, 22:38] = 1, 1, 2
    scribbles = ScribbleSimulator(min_area=256)(instances, {1: 4}, np.random.default_rng(0))
    assert [a.label for a in scribbles] == [4]
    assert scribbles[0].points.max() < 18
