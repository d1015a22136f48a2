"""A picture of a confusion matrix."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

CELL = 34  # pixels
MARGIN = 10
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
WHITE, DARK, INK, ABSENT = (255, 255, 255), (8, 48, 107), (30, 30, 30), (232, 232, 232)


def draw_confusion(confusion: NDArray[np.int64], class_names: Sequence[str], title: str) -> Image.Image:
    """Draw which share of the pixels of each class is predicted as which, in percent.

    Args:
        confusion: (C, C), rows are the truth. A row without a pixel is grey.
        class_names: C names.
        title: Written above.
    """
    pixels = confusion.sum(axis=1)
    shares = confusion / np.maximum(pixels, 1)[:, None]
    font = ImageFont.load_default(13)
    left = top = MARGIN + round(max(font.getlength(name) for name in class_names)) + MARGIN
    header = 2 * 18 + MARGIN
    side = CELL * len(class_names)
    lines = [title, "rows: truth, columns: prediction, percent of the row"]
    width = max(left + side, MARGIN + round(max(font.getlength(line) for line in lines))) + MARGIN
    picture = Image.new("RGB", (width, header + top + side + MARGIN), WHITE)
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        draw.text((MARGIN, MARGIN + 18 * number), line, INK, font)
    for k, name in enumerate(class_names):
        center = round((k + 0.5) * CELL)
        draw.text((left - 6, header + top + center), name, INK, font, anchor="rm")
        column = _upright(name, font)
        picture.paste(column, (left + center - column.width // 2, header + top - 6 - column.height))
    for row, column in np.ndindex(shares.shape):
        corner = (left + column * CELL, header + top + row * CELL)
        _draw_cell(draw, corner, shares[row, column] if pixels[row] else None, font)
    return picture


def _upright(text: str, font: Font) -> Image.Image:
    """Draw a text that runs upwards."""
    line = Image.new("RGB", (round(font.getlength(text)) + 2, 18), WHITE)
    ImageDraw.Draw(line).text((1, 9), text, INK, font, anchor="lm")
    return line.transpose(Image.Transpose.ROTATE_90)


def _draw_cell(draw: ImageDraw.ImageDraw, corner: tuple[int, int], share: float | None, font: Font) -> None:
    x, y = corner
    shade = share or 0.0
    color = tuple(round(w + shade * (d - w)) for w, d in zip(WHITE, DARK, strict=True))
    draw.rectangle((x, y, x + CELL - 2, y + CELL - 2), fill=ABSENT if share is None else color)
    if shade >= 0.005:
        ink = WHITE if shade > 0.5 else INK
        draw.text((x + CELL // 2 - 1, y + CELL // 2 - 1), f"{100 * shade:.0f}", ink, font, anchor="mm")
