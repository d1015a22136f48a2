"""Changes of a cell's configuration by ``--protocol paper`` and ``--protocol authors``, read from protocols.yaml."""

from fnmatch import fnmatch
from typing import Any

import yaml

from datamodules.io.errors import InputError
from experiments.train.configuration import find_config, merge

REPORTED = "reported mIoU"


def protocol_changes(protocol: str, dataset: str, training: str) -> dict[str, Any]:
    """Return the changes that a protocol makes to the configuration of a training.

    Args:
        protocol: "paper" or "authors".
        dataset: Name of a file in ``datasets``.
        training: Name of the training, SUPERVISION.LOSS first.

    Raises:
        InputError: The authors did not train on the dataset.
    """
    if protocol == "authors" and dataset not in ("voc", "cityscapes"):
        raise InputError(f"--protocol authors exists for voc and cityscapes, not for {dataset}. Leave it out.")
    changes: dict[str, Any] = {}
    for difference, sides in _load().items():
        if difference != REPORTED:
            for pattern, change in sides[protocol].items():
                if fnmatch(f"{dataset}/{training}", pattern):
                    changes = merge(changes, change)
    return changes


def reported(protocol: str) -> str:
    """Return which evaluation a table reports: "last" or "best"."""
    return str(_load()[REPORTED][protocol])


def _load() -> dict[str, dict[str, Any]]:
    content: dict[str, dict[str, Any]] = yaml.safe_load(find_config("protocols.yaml").read_text())
    return content
