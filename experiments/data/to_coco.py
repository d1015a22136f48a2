"""``gatedcrf data to-coco``: convert predictions to COCO results."""

import argparse

from rich.progress import track

from datamodules.coco.datamodule import to_coco_results
from datamodules.coco.file import read_coco
from datamodules.io.errors import InputError
from datamodules.io.images import read_label_map
from datamodules.io.json_files import write_json
from experiments.data.arguments import check_output


def run(options: argparse.Namespace) -> None:
    """Convert predicted PNGs to COCO results.

    Raises:
        InputError: A prediction is missing or differs in size from its image, or the output file exists.
    """
    check_output(options.out, options.force)
    file = read_coco(options.annotations)
    categories = {label: category for category, label in file.classes(not options.no_background).items()}
    results = []
    for image in track(file.images, "Converting", transient=True):
        path = options.predictions / f"{image.name}.png"
        if not path.is_file():
            raise InputError(f"{path} is missing; predict every image of {file.path}.")
        labels = read_label_map(path, max(categories, default=0) + 1)
        if labels.shape != image.size:
            raise InputError(
                f"{path} has (H, W) {labels.shape}, but its image in {file.path} has {image.size}; predict the images "
                "at full size."
            )
        results += to_coco_results(labels, image.id, categories)
    write_json(options.out, results)
    labeled = len({result["image_id"] for result in results})
    print(f"{options.out}: {len(results)} results in {labeled} of {len(file.images)} images")
    if not results:
        print("No image has a predicted category; COCO.loadRes cannot read an empty list.")
