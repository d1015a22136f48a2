"""The paper's tables and the two protocols, read from YAML."""

from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from datamodules.io.errors import InputError
from experiments.train.configuration import expand, find_config, merge, read_config

REPORTED = "reported mIoU"  # key of protocols.yaml

Published = dict[str, dict[str, list[float | None]]]
"""mIoU in percent by dataset, row and column. ``None`` marks a missing cell."""
Others = dict[str, dict[str, dict[str, Any]]]
"""mIoU in percent by dataset, method and network, and column. The key "ours" names our training of the method."""


@dataclass(frozen=True)
class CellSpec:
    """What a cell trains. Cells with the same name share one run per seed, even across tables.

    Args:
        supervision: File in ``supervision``.
        loss: File in ``losses``.
        more: Files of other folders, for example in ``proposals``.
        changes: Configuration that overrides these files.
        labels: Names of the row and column that have such changes.
    """

    supervision: str
    loss: str
    more: tuple[str, ...] = ()
    changes: dict[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the training, for example "clicks.gcrf_s.lambda=0.05"."""
        return ".".join([*(Path(file).stem for file in self.files), *self.labels])

    @property
    def files(self) -> list[str]:
        """All files, later ones win."""
        return [self.supervision, self.loss, *self.more]

    @property
    def weak(self) -> bool:
        """Whether the supervision is weak."""
        return Path(self.supervision).stem != "full"


@dataclass(frozen=True)
class Table:
    """Rows, columns and published values of a table.

    Args:
        name: Name of its file without the suffix, for example "table1".
        rows: By row, a configuration file, or a mapping with files under "base" and changes to them.
        columns: The same by column. A column's file replaces the row's file of the same folder.
        paper: Values of the paper, of the first columns or of all.
        cells_of: Columns of each row, ``cells`` in the file. Without it, all cells but those that the paper lacks.
        others: Values of other methods.
    """

    name: str
    rows: dict[str, str | dict[str, Any]]
    columns: dict[str, str | dict[str, Any]]
    paper: Published
    cells_of: dict[str, list[str]] = field(default_factory=dict)
    others: Others = field(default_factory=dict)

    @classmethod
    def load(cls, name: str) -> "Table":
        """Read ``NAME.yaml``.

        Raises:
            InputError: There is no such table, or its published values do not match its rows and columns.
        """
        content = read_config(find_config(f"{name}.yaml"))
        keys, optional = {"rows", "columns", "paper"}, {"cells", "others"}
        if not keys <= set(content) <= keys | optional or not all(isinstance(v, dict) for v in content.values()):
            raise InputError(f"{name}.yaml is not a table. A table has the keys rows, columns and paper.")
        table = cls(name, cells_of=content.pop("cells", {}), **content)
        for dataset, rows in table.paper.items():
            for row, values in rows.items():
                if len(values) > len(table.columns) or row not in table.rows:
                    raise InputError(f"{name}.yaml: paper.{dataset}.{row} does not match the rows and columns.")
                values += [None] * (len(table.columns) - len(values))
        for row, columns in table.cells_of.items():
            if row not in table.rows or not set(columns) <= set(table.columns):
                raise InputError(f"{name}.yaml: cells.{row} does not match the rows and columns.")
        for dataset, methods in table.others.items():
            for method, known in methods.items():
                if not set(known) <= {*table.columns, "ours"}:
                    raise InputError(f"{name}.yaml: others.{dataset}.{method} does not match the columns.")
        return table

    def cells(self, dataset: str) -> list[tuple[str, str]]:
        """Return (row, column) of the cells of a dataset, without supervisions that it does not have.

        If the file does not list them, they are those in the paper for the dataset, or for any if it is not in there.
        """
        known = supervisions(dataset)
        rows = [row for row in self.rows if Path(self.specs[row, next(iter(self.columns))].supervision).stem in known]
        if self.cells_of:
            return [(row, column) for row in rows for column in self.columns if column in self.cells_of.get(row, ())]
        published = [self.paper[dataset]] if dataset in self.paper else list(self.paper.values())
        cells = []
        for row in rows:
            values = zip(*(table[row] for table in published if row in table), strict=True)
            cells += [(row, name) for name, each in zip(self.columns, values, strict=False) if set(each) != {None}]
        return cells

    @cached_property
    def specs(self) -> dict[tuple[str, str], CellSpec]:
        """What each cell trains, by (row, column).

        Raises:
            InputError: A cell lacks a file of ``supervision`` or of ``losses``.
        """
        return {(row, column): self._spec(row, column) for row in self.rows for column in self.columns}

    def _spec(self, row: str, column: str) -> CellSpec:
        files: dict[str, str] = {}
        changes: dict[str, Any] = {}
        labels = []
        for label, setting in ((row, self.rows[row]), (column, self.columns[column])):
            own: dict[str, Any] = {"base": setting} if isinstance(setting, str) else dict(setting)
            bases = own.pop("base", [])
            files |= {str(Path(file).parent): file for file in ([bases] if isinstance(bases, str) else bases)}
            if own:
                changes = merge(changes, own)
                labels.append(label)
        if not {"supervision", "losses"} <= set(files):
            raise InputError(f"{self.name}.yaml: {row}/{column} needs one file of supervision and one of losses.")
        supervision, loss = files.pop("supervision"), files.pop("losses")
        return CellSpec(supervision, loss, tuple(files.values()), changes, tuple(labels))


def supervisions(dataset: str) -> tuple[str, ...]:
    """Return the supervisions of a dataset.

    Args:
        dataset: Name of a file in ``datasets``.

    Raises:
        InputError: There is no such file, or it names no datamodule.
    """
    config: dict[str, Any] = {}
    for file in expand(find_config(f"datasets/{dataset}.yaml")):
        config = merge(config, read_config(file))
    module, _, name = str(config.get("data", {}).get("class_path", "")).rpartition(".")
    try:
        return tuple(getattr(import_module(module), name).supervisions)
    except (ImportError, ValueError, AttributeError) as error:
        raise InputError(f"datasets/{dataset}.yaml: data.class_path names no datamodule ({error}).") from error


def full_supervision(dataset: str) -> tuple[str, float | None]:
    """Return the name and the published mIoU (percent, or ``None``) of full supervision, the F in W/F."""
    table = Table.load("table1")
    return table.specs["full", "pCE"].name, table.paper.get(dataset, {}).get("full", [None])[0]


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
    for difference, sides in _load_protocols().items():
        if difference != REPORTED:
            for pattern, change in sides[protocol].items():
                if fnmatch(f"{dataset}/{training}", pattern):
                    changes = merge(changes, change)
    return changes


def reported(protocol: str) -> str:
    """Return the evaluation that a table reports under a protocol: "last" or "best"."""
    return str(_load_protocols()[REPORTED][protocol])


def _load_protocols() -> dict[str, dict[str, Any]]:
    content: dict[str, dict[str, Any]] = yaml.safe_load(find_config("protocols.yaml").read_text())
    return content
