"""The files of a folder: class names, weak labels, and what tells that they have changed."""

from collections.abc import Collection
from pathlib import Path

from datamodules.annotations import Annotation, from_json
from datamodules.folder.labels import check_form
from datamodules.io.errors import InputError
from datamodules.io.images import IMAGE_SUFFIXES, naming
from datamodules.io.json_files import read_json
from datamodules.io.names import composed, suggestion


def read_class_names(path: Path) -> list[str]:
    """Read one class name per line; line k names class k - 1.

    Raises:
        InputError: The file is missing or not text, or has an empty line or a name twice.
    """
    if not path.is_file():
        raise InputError(f"There is no {path}; write one class name per line.")
    with naming(path, "a list of class names"):
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    if "" in names or len(set(names)) < len(names):
        raise InputError(f"{path} has an empty line or a name twice; line k names class k - 1.")
    return names


def read_vectors(path: Path, images: Collection[str], num_classes: int) -> dict[str, list[Annotation]]:
    """Read annotations by image name: ``{"NAME": [{"class": 1, "points": [[x, y], ...]}, ...], ...}``.

    Args:
        path: The JSON file.
        images: Names that may be labeled, in composed Unicode.
        num_classes: C.

    Raises:
        InputError: The file is malformed, has an image twice or an entry that belongs into another file, or names an
            image or a class that does not exist.
    """
    form = '{"NAME": [{"class": 1, "points": [[x, y], ...]}, ...], ...}'
    content = read_json(path, f"write {form}", unique_keys=True)
    if not isinstance(content, dict) or not all(isinstance(items, list) for items in content.values()):
        remedy = "exports of labeling tools are converted by: gatedcrf data import"
        raise InputError(f"{path} is not of the form {form}; {remedy}.")
    vectors = dict[str, list[Annotation]]()
    for name, items in content.items():
        try:
            vectors[composed(name)] = from_json(items)
        except InputError as error:
            raise InputError(f"{path}, image {name!r}: {error}") from error
    for name, annotations in vectors.items():
        if name not in images:
            problem = f"{path} labels {name!r}, but images/train has no such image"
            raise InputError(f"{problem}; use names without suffix.{suggestion(name, images)}")
        for annotation in annotations:
            check_form(path, name, annotation)
            if not 0 <= annotation.label < num_classes:
                problem = f"gives {name!r} the class {annotation.label}"
                raise InputError(f"{path} {problem}; classes are 0 to {num_classes - 1}.")
    return vectors


def file_versions(path: Path) -> list[tuple[str, int, int]]:
    """Return name, size and modification time, ns, of a file or of the images of a folder, without its subfolders."""
    files = [file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES] if path.is_dir() else [path]
    versions = [(file.name, file.stat()) for file in sorted(files) if file.is_file()]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in versions]
