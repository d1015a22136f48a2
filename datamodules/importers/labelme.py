"""LabelMe annotations: one JSON file per image."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from datamodules.importers.drawing import Drawing
from datamodules.io.errors import InputError
from datamodules.io.json_files import read_json

ADD = {
    "point": Drawing.add_clicks,
    "points": Drawing.add_clicks,
    "line": Drawing.add_scribble,
    "linestrip": Drawing.add_scribble,
    "polygon": Drawing.add_polygon,
    "rectangle": Drawing.add_box,
}


def read_labelme(path: Path, classes: Sequence[str]) -> Iterator[Drawing]:
    """Yield the shapes of each image.

    Args:
        path: JSON file, or a folder of JSON files. Shapes: point, line, linestrip, polygon, rectangle.
        classes: Class names, by index.

    Raises:
        InputError: A file is malformed, or has an unknown label or shape.
    """
    for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
        content = read_json(file, "pass a JSON file saved by LabelMe")
        shapes = content.get("shapes") if isinstance(content, dict) else None
        if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
            raise InputError(f"{file} has no list 'shapes'; pass a JSON file saved by LabelMe.")
        size = (content.get("imageHeight"), content.get("imageWidth"))
        drawing = Drawing(str(file), content.get("imagePath"), classes, size)
        for shape in shapes:
            kind = shape.get("shape_type") or "polygon"  # early versions have polygons only
            if kind not in ADD:
                raise InputError(
                    f"{file} has the shape {kind!r}; use point, line, linestrip, polygon or rectangle instead."
                )
            ADD[kind](drawing, shape.get("label"), shape.get("points"))
        yield drawing
