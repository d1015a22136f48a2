"""Labels drawn in LabelMe, a JSON file per image."""

from collections.abc import Sequence
from pathlib import Path

from datamodules.annotations import Annotation
from datamodules.importers.drawing import SCRIBBLES, Drawing, Simulator, image_name, load_json
from datamodules.io.errors import InputError


def read_labelme(path: Path, classes: Sequence[str], simulator: Simulator = SCRIBBLES) -> tuple[str, list[Annotation]]:
    """Return the name of the image, without suffix, and what is drawn on it.

    Args:
        path: What LabelMe has saved. Known are the shapes point, line, linestrip and polygon.
        classes: Names of the classes, by index.
        simulator: Draws inside polygons.

    Raises:
        InputError: Another file, an unknown label or another shape.
    """
    content = load_json(path)
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise InputError(f"{path} has no list 'shapes'; pass the JSON files that LabelMe saves.")
    name = image_name(content.get("imagePath"), str(path))
    drawing = Drawing(str(path), classes, (content.get("imageHeight"), content.get("imageWidth")))
    add = {
        "point": drawing.add_clicks,
        "points": drawing.add_clicks,
        "line": drawing.add_scribble,
        "linestrip": drawing.add_scribble,
        "polygon": drawing.add_polygon,
    }
    for shape in shapes:
        kind = shape.get("shape_type") or "polygon"  # the only one of early versions
        if kind not in add:
            raise InputError(f"{path} has the shape {kind!r}; draw point, line, linestrip or polygon instead.")
        add[kind](shape.get("label"), shape.get("points"))
    return name, drawing.annotations(simulator)
