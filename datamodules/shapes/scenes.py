"""Images of the built-in dataset, the same on every machine.

Objects of several shapes overlap on a background. The color of an object is random and independent of its class. The
class determines the outline and a fine pattern, whose period of four pixels averages out on the logits grid. Any two
colors of an image differ, so color edges coincide with semantic boundaries; shading and noise vary within them.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from datamodules.annotations import LabelMap
from datamodules.transforms import Image

Grid = NDArray[np.float64]

CONTRAST = 48  # gray levels between the two colors of a pattern
SPECKLE = 16  # gray levels between the two colors of the random grain of the background
SHADING = 10  # gray levels across an object
NOISE = 6  # gray levels, uniform in [-NOISE, NOISE]
DISTANCE = 50  # gray levels, minimum Euclidean distance between two colors of an image


def _cross(u: Grid, v: Grid) -> NDArray[np.bool_]:
    return (np.maximum(abs(u), abs(v)) < 1) & (np.minimum(abs(u), abs(v)) < 0.4)


def _ring(u: Grid, v: Grid) -> NDArray[np.bool_]:
    return (u**2 + v**2 < 1) & (u**2 + v**2 > 0.2)


# outline in units of the object's radius and pattern in pixels, both symmetric under horizontal flips
CLASSES: dict[str, tuple[Callable[[Grid, Grid], NDArray[np.bool_]], Callable[[Grid, Grid], NDArray[np.bool_]]]] = {
    "disc": (lambda u, v: u**2 + v**2 < 0.9, lambda x, y: y % 4 < 2),
    "square": (lambda u, v: np.maximum(abs(u), abs(v)) < 0.8, lambda x, y: x % 4 < 2),
    "triangle": (lambda u, v: (v < 0.6) & (v > 2 * abs(u) - 1), lambda x, y: (x // 2 + y // 2) % 2 < 1),
    "cross": (_cross, lambda x, y: (x % 4 < 2) & (y % 4 < 2)),
    "ring": (_ring, lambda x, y: x < 0),
}


def draw_scene(size: int, rng: np.random.Generator) -> tuple[Image, LabelMap, NDArray[np.int32]]:
    """Draw one scene.

    Args:
        size: Height and width, pixels.
        rng: Source of all randomness.

    Returns:
        RGB image, uint8 (size, size, 3); label map, uint8 (size, size); instance map, int32 (size, size), 0 is
        background.
    """
    y, x = np.mgrid[:size, :size].astype(np.float64)
    labels = np.zeros((size, size), dtype=np.uint8)
    instances = np.zeros((size, size), dtype=np.int32)
    colors = [_new_color([], rng)]
    speckle = SPECKLE * rng.choice([-0.5, 0.5], size=(size // 2 + 1, size // 2 + 1))
    speckle = speckle.repeat(2, axis=0).repeat(2, axis=1)[:size, :size, None]
    canvas = colors[0] + _shade(x / size - 0.5, y / size - 0.5, rng) + speckle
    for instance in range(1, 1 + int(rng.integers(5, 9))):
        label = int(rng.integers(1, 1 + len(CLASSES)))
        outline, pattern = list(CLASSES.values())[label - 1]
        radius = rng.uniform(0.08, 0.18) * size
        center_x, center_y = rng.uniform(0.1 * size, 0.9 * size, size=2)
        cosine, sine = _direction(rng)
        dx, dy = (x - center_x) / radius, (y - center_y) / radius
        inside = outline(cosine * dx - sine * dy, sine * dx + cosine * dy)
        colors.append(_new_color(colors, rng))
        marks = np.where(pattern(x, y), CONTRAST / 2, -CONTRAST / 2)
        marks -= marks[inside].mean() if inside.any() else 0  # the mean color must not depend on the class
        painted = colors[-1] + _shade(dx / 2, dy / 2, rng) + marks[..., None]
        canvas[inside], labels[inside], instances[inside] = painted[inside], label, instance
    noisy = canvas + rng.integers(-NOISE, NOISE + 1, size=canvas.shape)
    return np.clip(np.floor(noisy), 0, 255).astype(np.uint8), labels, instances


def _new_color(others: list[Grid], rng: np.random.Generator) -> Grid:
    while True:
        color = rng.integers(70, 186, size=3).astype(np.float64)
        if all(((color - other) ** 2).sum() >= DISTANCE**2 for other in others):
            return color


def _direction(rng: np.random.Generator) -> tuple[float, float]:
    """Draw a random unit vector from integers. Unlike sines, it is the same on every machine."""
    while True:
        a, b = rng.integers(-100, 101, size=2).astype(np.float64)
        if 0 < (square := a * a + b * b) <= 100**2:
            return float(a / np.sqrt(square)), float(b / np.sqrt(square))


def _shade(u: Grid, v: Grid, rng: np.random.Generator) -> Grid:
    a, b = _direction(rng)
    return SHADING * (a * u + b * v)[..., None]
