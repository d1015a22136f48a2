"""Clicks and scribbles spread over superpixels to the minimum of the energy."""

import sys
from itertools import product
from math import exp, log

import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.annotations import Annotation, Box, LabelMap, rasterize
from datamodules.io.errors import InputError
from datamodules.proposals import Proposals, ScribbleSupLabels
from datamodules.proposals.graph_cut import network_costs, scribble_costs
from datamodules.proposals.propose import annotations
from datamodules.proposals.propose import propose as propose_image
from datamodules.proposals.superpixels import (
    color_histograms,
    find_neighbors,
    find_superpixels,
    split_at_labels,
    texture_histograms,
)
from datamodules.sample import IGNORE_INDEX
from datamodules.shapes.datamodule import ShapesDataModule, ShapesDataset
from datamodules.transforms import Image


def stroke(label: int, *points: tuple[float, float]) -> Annotation:
    return Annotation(label, np.array(points, dtype=np.float64).reshape(-1, 2))


def propose(image: Image, *labels: Annotation, probs: NDArray[np.float32] | None = None, **options: float) -> LabelMap:
    generator = ScribbleSupLabels(**options)  # type: ignore[arg-type]
    proposal = generator(image, [*labels], probs, np.random.default_rng(0))
    assert proposal.dtype == np.uint8
    assert proposal.shape == image.shape[:2]
    return proposal


@pytest.fixture
def patches() -> Image:
    """Nine noisy patches of similar colors."""
    rng = np.random.default_rng(4)
    colors = rng.integers(100, 160, (3, 3, 3)).repeat(8, 0).repeat(8, 1)
    return (colors + rng.integers(-4, 5, colors.shape)).astype(np.uint8)


@pytest.mark.parametrize("supervision", ["clicks", "scribbles"])
@pytest.mark.parametrize("stroke_width", [1, 3])
def test_every_pixel_is_labeled_and_strokes_keep_their_class(supervision: str, stroke_width: int) -> None:
    dataset = ShapesDataset(4, 80, supervision, seed=2)
    for index in range(4):
        labels = dataset.weak_labels(index)
        assert isinstance(labels, list)
        strokes = rasterize(labels, (80, 80), stroke_width)
        proposal = propose(dataset.image(index), *labels, stroke_width=stroke_width)
        assert np.array_equal(proposal[strokes != IGNORE_INDEX], strokes[strokes != IGNORE_INDEX])
        assert set(np.unique(proposal)) == {each.label for each in labels}


def test_scribbles_of_drawn_scenes_spread_to_their_objects() -> None:
    dataset = ShapesDataset(4, 80, "scribbles", seed=2)
    right = []
    for index in range(4):
        labels = dataset.weak_labels(index)
        assert isinstance(labels, list)
        right.append(np.mean(propose(dataset.image(index), *labels) == dataset.dense_mask(index)))
    assert np.mean(right) > 0.9


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_labels_have_the_least_energy(patches: Image, seed: int | None) -> None:
    """Every labeling of the superpixels with two classes is tried."""
    labels = [stroke(2, (3.5, 3.5)), stroke(5, (20.5, 4.5), (20.5, 12.5))]
    options = {"scale": 40.0, "min_size": 30, "delta_color": 40.0, "delta_texture": 30.0}
    probs = None
    if seed is not None:
        probs = np.random.default_rng(seed).uniform(0.47, 0.53, (6, 3, 3)).repeat(8, 1).repeat(8, 2).astype(np.float32)
    strokes = rasterize(labels, (24, 24))
    superpixels = split_at_labels(find_superpixels(patches, 40, 30), strokes)
    colors, textures = color_histograms(patches, superpixels), texture_histograms(patches, superpixels)
    count = int(superpixels.max()) + 1
    assert 6 <= count <= 12
    best, least = np.zeros(0), np.inf
    for labeling in product((2, 5), repeat=count):
        energy = 0.0
        for number, label in enumerate(labeling):
            inside = superpixels == number
            drawn = set(strokes[inside].tolist()) - {IGNORE_INDEX}
            energy += log(2) if not drawn else 0 if drawn == {label} else np.inf
            if probs is not None:
                energy -= np.log(probs[label][inside]).sum()
        for i, j in find_neighbors(superpixels).tolist():
            if labeling[i] != labeling[j]:
                color, texture = ((colors[i] - colors[j]) ** 2).sum(), ((textures[i] - textures[j]) ** 2).sum()
                energy += exp(-color / 40**2 - texture / 30**2)
        if energy < least:
            best, least = np.array(labeling)[superpixels], energy
    assert np.array_equal(propose(patches, *labels, probs=probs, **options), best)


def test_weights_fall_with_the_distance_of_colors_and_textures(patches: Image) -> None:
    superpixels = np.arange(9).reshape(3, 3).repeat(8, 0).repeat(8, 1)
    edges = find_neighbors(superpixels)
    colors, textures = color_histograms(patches, superpixels), texture_histograms(patches, superpixels)
    expected = [
        exp(-((colors[i] - colors[j]) ** 2).sum() / 50**2 - ((textures[i] - textures[j]) ** 2).sum() / 7**2)
        for i, j in edges
    ]
    found = ScribbleSupLabels(delta_color=50, delta_texture=7)._weights(patches, superpixels, edges)
    assert np.allclose(found, expected)
    assert found.min() < 0.5 * found.max()


def test_predictions_decide_where_no_stroke_is(patches: Image) -> None:
    """A tag names a class without a place. Classes that are not named are not predicted."""
    labels = [stroke(1, (3.5, 3.5)), stroke(3)]
    assert (propose(patches, *labels) == 1).all()
    probs = np.full((5, 24, 24), 0.01, dtype=np.float32)
    probs[4], probs[3, :, 8:], probs[1, :, :8], probs[3, :8, :8] = 0.9, 0.08, 0.08, 0.08
    proposal = propose(patches, *labels, probs=probs, scale=20.0)
    assert proposal[4, 4] == 1
    assert (proposal[9:, 10:] == 3).all()
    assert (proposal[9:, :7] == 1).all()


def test_probability_of_0_is_not_infinite(patches: Image) -> None:
    labels = [stroke(0, (3.5, 3.5)), stroke(1, (20.5, 20.5))]
    probs = np.zeros((2, 24, 24), dtype=np.float32)
    assert set(np.unique(propose(patches, *labels, probs=probs))) == {0, 1}


def test_costs_are_those_of_the_definition() -> None:
    superpixels = np.array([[0, 0, 1], [2, 2, 1]])
    strokes = np.array([[255, 7, 255], [4, 4, 255]], dtype=np.uint8)
    classes = np.array([4, 7, 9], dtype=np.uint8)
    inf, unknown = np.inf, log(3)
    expected = [[inf, 0, inf], [unknown, unknown, unknown], [0, inf, inf]]
    assert np.allclose(scribble_costs(superpixels, strokes, classes), expected)
    probs = np.random.default_rng(0).uniform(0.1, 1, (3, 2, 3)).astype(np.float32)
    for number, label in np.ndindex(3, 3):
        pixels = zip(*np.nonzero(superpixels == number), strict=True)
        cost = sum(-log(probs[label, y, x]) for y, x in pixels)
        assert network_costs(superpixels, probs)[number, label] == pytest.approx(cost)


def test_image_without_classes_is_not_labeled(patches: Image) -> None:
    assert (propose(patches) == IGNORE_INDEX).all()
    assert (propose(patches, Box(1, np.array([[2.0, 2.0], [9.0, 9.0]]))) == IGNORE_INDEX).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (3, 2)])
def test_image_of_few_pixels_is_labeled(size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), dtype=np.uint8)
    labels = [stroke(1, (0.5, 0.5)), stroke(2, (size[1] - 0.5, size[0] - 0.5)), stroke(3, (50, 50))]
    assert propose(image, *labels)[-1, -1] == 2


@pytest.mark.parametrize("package", ["maxflow", "skimage.segmentation"])
def test_missing_package_is_named_with_the_remedy(
    package: str, patches: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(InputError, match=r"pip install gated-crf\[rivals\]"):
        propose(patches, stroke(1, (3.5, 3.5)), stroke(2, (20.5, 20.5)))


@pytest.mark.parametrize("name", ["scale", "min_size", "delta_color", "delta_texture", "stroke_width"])
def test_settings_are_positive(name: str, patches: Image) -> None:
    with pytest.raises(InputError, match=f"{name} is 0"):
        propose(patches, **{name: 0})


def test_strokes_are_as_wide_as_those_of_the_datamodule() -> None:
    """A width of the generator itself takes precedence. The ``repr`` names the cache."""
    data = ShapesDataModule("scribbles", 2, size=80, stroke_width=3, proposals=Proposals(ScribbleSupLabels()))
    generator, split = data.label_generator, data.train_split()
    assert generator is not None
    for index in range(2):
        strokes = rasterize(annotations(split, index), (80, 80), 3)
        drawn = strokes != IGNORE_INDEX
        assert np.array_equal(propose_image(generator, split, index)[drawn], strokes[drawn])
    assert repr(generator) == repr(ScribbleSupLabels(stroke_width=3))
    five = ScribbleSupLabels(stroke_width=5)
    assert Proposals(five).generator_for("scribbles", 3) == five


@pytest.mark.parametrize("labels", [[stroke(1), stroke(2)], [stroke(2, (40, 3))], [stroke(1, (-1, 2)), stroke(2)]])
def test_image_without_a_stroke_inside_is_unlabeled(labels: list[Annotation], patches: Image) -> None:
    """Tags, and clicks outside the image, do not say where a class is."""
    assert (propose(patches, *labels) == IGNORE_INDEX).all()
