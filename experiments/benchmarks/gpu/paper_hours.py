"""The paper's trainings, and their GPU hours at a measured speed."""

from collections.abc import Mapping
from functools import reduce
from typing import Any, NamedTuple

from experiments.tables.parser import TABLES
from experiments.tables.table import Table, protocol_changes
from experiments.train.cli import parse
from experiments.train.configuration import find_config, merge, read_config


class Training(NamedTuple):
    """Dataset and name of a training, its steps, and the number and side of its crops per step."""

    dataset: str
    name: str
    steps: int
    batch: int
    crop: int


def paper_trainings() -> list[Training]:
    """Return the trainings of all tables on the paper's datasets, one seed each, as their YAML files set them."""
    tables = [Table.load(name) for name in TABLES]
    found = []
    for dataset in Table.load("table1").paper:
        specs = {
            table.specs[cell].name: table.specs[cell]
            for table in tables
            if dataset in table.paper
            for cell in table.cells(dataset)
        }
        options = [f"--config=datasets/{dataset}.yaml", "--config=supervision/clicks.yaml", "--data.root=data"]
        base = parse(["fit", *options])
        for name, spec in specs.items():
            files = [read_config(find_config(file)) for file in spec.files]
            config: dict[str, Any] = reduce(
                merge, [*files, protocol_changes("paper", dataset, name), spec.changes], base
            )
            data = config["data"]["init_args"]
            steps = config["trainer"]["max_steps"]
            found.append(Training(dataset, name, steps, data["loader"]["batch_size"], data["augmentation"]["crop"]))
    return found


def gpu_hours(images_per_second: Mapping[tuple[int, int], float]) -> dict[str, float | None]:
    """Return the hours of all trainings of each dataset, without evaluations; ``None`` where no speed was measured.

    Args:
        images_per_second: Speed by batch and crop.
    """
    hours: dict[str, float | None] = {}
    for training in paper_trainings():
        speed, so_far = images_per_second.get((training.batch, training.crop)), hours.get(training.dataset, 0.0)
        if speed is None or so_far is None:
            hours[training.dataset] = None
        else:
            hours[training.dataset] = so_far + training.steps * training.batch / speed / 3600
    return hours
