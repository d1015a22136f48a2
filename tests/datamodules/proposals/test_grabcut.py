"""GrabCut finds drawn objects, in any box, in any thread."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.annotations import Annotation, Box, LabelMap
from datamodules.io.errors import InputError
from datamodules.proposals import GrabCutConsensusLabels, GrabCutLabels, LabelGenerator
from datamodules.proposals.grabcut import cut_out
from datamodules.shapes.scenes import draw_scene
from datamodules.transforms import Image

Mask = NDArray[np.bool_]
DISC = (16.0, 12.0, 48.0, 44.0)
FAST = GrabCutConsensusLabels(repetitions=3, iterations=2)


def box(label: int, *corners: float) -> Box:
    return Box(label, np.array(corners, dtype=np.float64).reshape(2, 2))


def draw(radius: float = 16, seed: int = 0) -> tuple[Image, Mask]:
    """Draw a reddish disc around (32, 28) on a greenish ground."""
    y, x = np.mgrid[:60, :70] + 0.5
    inside = np.hypot(x - 32, y - 28) < radius
    colors = np.where(inside[..., None], [190, 60, 50], [70, 150, 60])
    return (colors + np.random.default_rng(seed).integers(-20, 21, colors.shape)).astype(np.uint8), inside


def propose(generator: LabelGenerator, image: Image, *labels: Annotation, seed: int = 0) -> LabelMap:
    return generator(image, [*labels], None, np.random.default_rng(seed))


def iou(first: Mask, second: Mask) -> float:
    return float(np.count_nonzero(first & second) / np.count_nonzero(first | second))


@pytest.mark.parametrize("generator", [GrabCutLabels(), GrabCutConsensusLabels(repetitions=8)])
@pytest.mark.parametrize("seed", range(3))
def test_disc_is_found(generator: LabelGenerator, seed: int) -> None:
    image, disc = draw(seed=seed)
    proposal = propose(generator, image, box(7, *DISC))
    assert proposal.dtype == np.uint8
    assert iou(proposal == 7, disc) > 0.9
    assert np.mean(proposal == 255) < 0.02


def test_foreground_of_the_smaller_box_is_in_front() -> None:
    image, disc = draw()
    proposal = propose(GrabCutLabels(), image, box(2, *DISC), box(1, 0, 0, 70, 60))
    assert iou(proposal == 2, disc) > 0.9
    assert (proposal[proposal != 2] == 1).all()  # a box that covers the image is all foreground


def test_pixels_up_to_the_end_of_the_frame_are_read_and_no_others() -> None:
    margin, corners, last = 0.25, np.array([[24.0, 20.0], [64.0, 60.0]]), [0, 0, 0]
    for seed in range(12):
        image = draw_scene(90, np.random.default_rng(seed))[0]
        foreground = cut_out(image, corners, margin, 1, np.random.default_rng(0))
        cropped = cut_out(image[10:70, 14:74], corners - [14, 10], margin, 1, np.random.default_rng(0))
        assert np.array_equal(foreground[10:70, 14:74], cropped)
        for width in (0, 1, 5):  # pixels of the frame that are covered, on each side
            covered = image.copy()
            covered[: 10 + width], covered[70 - width :] = 40, 40
            covered[:, : 14 + width], covered[:, 74 - width :] = 220, 220
            changed = cut_out(covered, corners, margin, 1, np.random.default_rng(0)) != foreground
            last[(0, 1, 5).index(width)] += bool(changed.any())
    assert last[0] == 0
    assert last[1] > 0


def test_foreground_below_the_share_is_a_failure() -> None:
    image, disc = draw(radius=6)  # 11 % of the box
    inside = np.zeros_like(disc)
    inside[12:44, 16:48] = True
    assert iou(propose(GrabCutLabels(min_share=0.05), image, box(1, *DISC)) == 1, disc) > 0.9
    assert np.array_equal(propose(GrabCutLabels(min_share=0.5), image, box(1, *DISC)) == 1, inside)
    found = propose(GrabCutConsensusLabels(repetitions=4, min_share=0.05), image, box(1, *DISC))
    failed = propose(GrabCutConsensusLabels(repetitions=4, min_share=0.5), image, box(1, *DISC))
    assert np.array_equal(failed, np.where(inside & (found != 1), 255, found))


@pytest.mark.parametrize("seed", range(2))
def test_consensus_counts_the_votes_of_shifted_boxes(seed: int) -> None:
    image, _ = draw()
    image = cv2.GaussianBlur(image, (0, 0), 4)  # GrabCuts differ at the blurred edge
    generator = GrabCutConsensusLabels(repetitions=10, jitter=0.2, iterations=1)
    rng = np.random.default_rng(seed)
    votes = np.zeros(image.shape[:2], dtype=int)
    for _ in range(10):
        shifts = rng.uniform(-0.2, 0.2, (2, 2)) * 32
        votes += cut_out(image, np.array(DISC).reshape(2, 2) + shifts, rng.uniform(0.1, 0.6), 1, rng)
    expected = np.zeros(image.shape[:2], dtype=np.uint8)
    for y in range(12, 44):
        for x in range(16, 48):
            expected[y, x] = 4 if votes[y, x] >= 7 else 255 if votes[y, x] >= 2 else 0
    assert set(np.unique(expected)) == {0, 4, 255}
    assert np.array_equal(propose(generator, image, box(4, *DISC), seed=seed), expected)


@pytest.mark.parametrize("generator", [GrabCutLabels(iterations=2), FAST])
def test_proposals_are_a_function_of_the_seed_in_all_threads(generator: LabelGenerator) -> None:
    images = [draw_scene(80, np.random.default_rng(seed))[0] for seed in range(8)]
    boxes = [box(1, 10, 10, 60, 65), box(2, 30, 5, 70, 40)]  # across objects, so that color models are ambiguous
    alone = [propose(generator, image, *boxes, seed=seed) for seed, image in enumerate(images)]
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda seed: propose(generator, images[seed], *boxes, seed=seed), range(8))
        assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
    others = [propose(generator, image, *boxes, seed=99) for image in images]
    assert any(not np.array_equal(a, b) for a, b in zip(alone, others, strict=True))


@pytest.mark.parametrize("generator", [GrabCutLabels(), FAST])
@pytest.mark.parametrize(
    "corners",
    [
        (0, 0, 20, 14),  # the whole image
        (-30, -30, 50, 44),
        (0, 0, 20, 13),  # one row of background
        (1, 1, 19, 13),
        (5, 5, 6, 6),  # one pixel
        (5.6, 5.1, 5.7, 5.2),
        (5.5, 0, 5.6, 14),
        (-8, 3, 4, 9),
        (19, 13, 40, 40),
        (-0.4, 3, 0.4, 9),
        (40, 40, 60, 60),
        (3, 3, 1e9, 9),
    ],
)
@pytest.mark.parametrize("uniform", [True, False])
def test_any_box_gets_labels_inside_it_alone(
    generator: LabelGenerator, corners: tuple[float, ...], uniform: bool
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (14, 20, 3), dtype=np.uint8)
    if uniform:
        image[:] = 77
    proposal = propose(generator, image, box(3, *corners))
    rows, columns = (np.arange(length) + 0.5 for length in (14, 20))
    (x0, y0, x1, y1) = corners
    reached = ((rows >= y0 - 1) & (rows < y1 + 1))[:, None] & (columns >= x0 - 1) & (columns < x1 + 1)
    assert set(np.unique(proposal)) <= {0, 3, 255}
    assert not proposal[~reached].any()


def test_box_without_a_frame_is_foreground() -> None:
    image = np.random.default_rng(0).integers(0, 256, (14, 20, 3), dtype=np.uint8)
    assert (propose(GrabCutLabels(), image, box(3, -1, 0, 21, 14)) == 3).all()


def test_image_without_boxes_is_background() -> None:
    click = Annotation(3, np.array([[32.5, 28.5]]))
    assert not propose(GrabCutLabels(), draw()[0], click).any()
    assert not propose(FAST, draw()[0], click).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margins": (0.6, 0.1)}, "margins are"),
        ({"margins": (0.0, 0.1)}, "margins are"),
        ({"repetitions": 0}, "positive"),
        ({"iterations": 0}, "positive"),
        ({"foreground": 70}, "foreground is 70"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GrabCutConsensusLabels(**options)  # type: ignore[arg-type]
