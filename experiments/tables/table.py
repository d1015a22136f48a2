"""A table of the paper: a page of YAML with its rows, its columns and the published values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from datamodules.io.errors import InputError
from experiments.train.configuration import find_config, merge

Published = dict[str, dict[str, list[float | None]]]
"""Per dataset and row, mIoU per column, percent; ``None`` is a cell that does not exist."""


@dataclass(frozen=True)
class CellSpec:
    """What a cell trains. Cells of several tables with one name are one training.

    Args:
        supervision: File of ``supervision``.
        loss: File of ``losses``.
        changes: What the cell changes beside these files, as in a configuration.
        labels: Names of the rows and columns that change it.
    """

    supervision: str
    loss: str
    changes: dict[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Identify it, for example "clicks.gcrf_s.lambda=0.05"."""
        return ".".join([Path(self.supervision).stem, Path(self.loss).stem, *self.labels])

    @property
    def weak(self) -> bool:
        """Whether it sees less than full labels."""
        return Path(self.supervision).stem != "full"


@dataclass(frozen=True)
class Table:
    """Rows times columns with the published values.

    Args:
        name: For example "table1".
        rows: Per row a configuration file, or a mapping: files under "base", and keys that change them.
        columns: Likewise; a file of a column replaces the one of its row from the same folder.
        paper: The published values.
        others: Published values of other methods, per dataset and method.
    """

    name: str
    rows: dict[str, str | dict[str, Any]]
    columns: dict[str, str | dict[str, Any]]
    paper: Published
    others: Published = field(default_factory=dict)

    @classmethod
    def load(cls, name: str) -> "Table":
        """Read ``NAME.yaml``.

        Raises:
            InputError: No such table, or one whose published rows do not fit its rows and columns.
        """
        content = yaml.safe_load(find_config(f"{name}.yaml").read_text())
        keys = {"rows", "columns", "paper"}
        if not isinstance(content, dict) or not keys <= set(content) <= {*keys, "others"}:
            raise InputError(f"{name}.yaml is no table; it needs the keys rows, columns and paper.")
        table = cls(name, **content)
        for key, published in (("paper", table.paper), ("others", table.others)):
            for dataset, rows in published.items():
                for row, values in rows.items():
                    if len(values) != len(table.columns) or (key == "paper" and row not in table.rows):
                        raise InputError(f"{name}.yaml: {key}.{dataset}.{row} does not fit the rows and columns.")
        return table

    def cells(self, dataset: str) -> list[tuple[str, str]]:
        """Return (row, column) of the cells that exist: those published for the dataset, or for any if it has none.

        A dataset of Table 1 has the supervisions that it has there: Cityscapes has no scribbles.
        """
        published = [self.paper[dataset]] if dataset in self.paper else list(self.paper.values())
        known = [row for row in self.rows if any(row in rows for rows in published)]
        if (supervisions := Table.load("table1").paper.get(dataset)) is not None:
            column = next(iter(self.columns))
            known = [row for row in known if Path(self.specs[row, column].supervision).stem in supervisions]
        absent = {
            (row, column)
            for rows in published
            for row, values in rows.items()
            for column, value in zip(self.columns, values, strict=True)
            if value is None
        }
        return [(row, column) for row in known for column in self.columns if (row, column) not in absent]

    @cached_property
    def specs(self) -> dict[tuple[str, str], CellSpec]:
        """What each cell trains.

        Raises:
            InputError: A cell without a supervision or without a loss.
        """
        return {(row, column): self._training(row, column) for row in self.rows for column in self.columns}

    def _training(self, row: str, column: str) -> CellSpec:
        files: dict[str, str] = {}
        changes: dict[str, Any] = {}
        labels = []
        for label, setting in ((row, self.rows[row]), (column, self.columns[column])):
            own = {} if isinstance(setting, str) else dict(setting)
            bases = setting if isinstance(setting, str) else own.pop("base", [])
            for file in [bases] if isinstance(bases, str) else bases:
                files[str(Path(file).parent)] = file
            if own:
                changes = merge(changes, own)
                labels.append(label)
        if set(files) != {"supervision", "losses"}:
            raise InputError(f"{self.name}.yaml: {row}/{column} needs a file of supervision and one of losses.")
        return CellSpec(files["supervision"], files["losses"], changes, tuple(labels))


def full_supervision(dataset: str) -> tuple[str, float | None]:
    """Return the training that W/F compares with, and its published mIoU, percent, if there is one."""
    table = Table.load("table1")
    values: Mapping[str, list[float | None]] = table.paper.get(dataset, {})
    return table.specs["full", "pCE"].name, values.get("full", [None])[0]
