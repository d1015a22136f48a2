"""LabelMe annotations: one JSON file per image."""

from collections.abc import Sequence
from pathlib import Path

from datamodules.annotations import Annotation
from datamodules.importers.drawing import SCRIBBLES, Drawing, Simulator, add_image, image_name, load_json
from datamodules.io.errors import InputError


def read_labelme(path: Path, classes: Sequence[str], simulator: Simulator = SCRIBBLES) -> dict[str, list[Annotation]]:
    """Return the annotations of each image, by file name without folder and suffix.

    Args:
        path: JSON file, or a folder of JSON files. Shapes: point, line, linestrip, polygon.
        classes: Class names, by index.
        simulator: Draws a scribble or a click inside each polygon.

    Raises:
        InputError: A file is malformed, or has an unknown label or shape.
    """
    found: dict[str, list[Annotation]] = {}
    for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
        content = load_json(file)
        shapes = content.get("shapes") if isinstance(content, dict) else None
        if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
            raise InputError(f"{file} has no list 'shapes'; pass a JSON file saved by LabelMe.")
        drawing = Drawing(str(file), classes, (content.get("imageHeight"), content.get("imageWidth")))
        add = {
            "point": drawing.add_clicks,
            "points": drawing.add_clicks,
            "line": drawing.add_scribble,
            "linestrip": drawing.add_scribble,
            "polygon": drawing.add_polygon,
        }
        for shape in shapes:
            kind = shape.get("shape_type") or "polygon"  # early versions have polygons only
            if kind not in add:
                raise InputError(f"{file} has the shape {kind!r}; use point, line, linestrip or polygon instead.")
            add[kind](shape.get("label"), shape.get("points"))
        add_image(found, image_name(content.get("imagePath"), str(file)), drawing.annotations(simulator), file)
    return found
