"""A table of the paper: its cells, and how measured values are shown beside the published ones."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import yaml
from rich.table import Table as RichTable

from experiments.inheritance import find_config

Values = Mapping[tuple[str, str], Mapping[int, float]]
"""Per (row, column) and seed, mIoU in percent."""


@dataclass(frozen=True)
class Table:
    """Rows times columns, each a configuration file, with the published values.

    Args:
        name: For example "table1".
        rows: File per row name.
        columns: File per column name.
        paper: Per dataset and row, a value per column, percent; ``None`` is a cell that does not exist.
    """

    name: str
    rows: dict[str, str]
    columns: dict[str, str]
    paper: dict[str, dict[str, list[float | None]]]

    @classmethod
    def load(cls, name: str) -> "Table":
        """Read ``NAME.yaml``.

        Raises:
            ValueError: No such table, or one whose published rows do not fit its rows and columns.
        """
        content = yaml.safe_load(find_config(f"{name}.yaml").read_text())
        if not isinstance(content, dict) or set(content) != {"rows", "columns", "paper"}:
            raise ValueError(f"{name}.yaml is no table; it needs exactly the keys rows, columns and paper.")
        table = cls(name, **content)
        for dataset, rows in table.paper.items():
            for row, values in rows.items():
                if row not in table.rows or len(values) != len(table.columns):
                    raise ValueError(f"{name}.yaml: paper.{dataset}.{row} does not fit the rows and columns.")
        return table

    def cells(self) -> list[tuple[str, str]]:
        """Return (row, column) of the cells that exist."""
        missing = {
            (row, column)
            for rows in self.paper.values()
            for row, values in rows.items()
            for column, value in zip(self.columns, values, strict=True)
            if value is None
        }
        return [(row, column) for row in self.rows for column in self.columns if (row, column) not in missing]

    def lines(self, dataset: str, values: Values) -> list[list[str]]:
        """Return the header and the lines of the table: per row what was measured, then what the paper reports.

        W/F is the best value of a row over full supervision with pCE alone, as in Table 5, percent.

        Args:
            dataset: Name of what was measured on.
            values: What was measured; other cells stay empty.
        """
        columns = list(self.columns)
        lines = [["supervision", "dataset", *columns, "W/F"]]
        ours = {cell: mean(seeds.values()) for cell, seeds in values.items() if seeds}
        for row in self.rows:
            shown = [_show(list(values.get((row, column), {}).values())) for column in columns]
            lines.append([row, dataset, *shown, _ratio(row, {c: ours.get((row, c)) for c in columns}, ours)])
            for source, rows in self.paper.items():
                if row in rows:
                    paper = {(r, c): v for r, vs in rows.items() for c, v in zip(columns, vs, strict=True)}
                    published = ["" if v is None else f"{v:.2f}" for v in rows[row]]
                    best = _ratio(row, {c: paper[row, c] for c in columns}, paper)
                    lines.append(["", f"{source} (paper)", *published, best])
        return lines


def _show(seeds: Sequence[float]) -> str:
    if not seeds:
        return ""
    return f"{mean(seeds):.2f}" + (f" ± {stdev(seeds):.2f}" if len(seeds) > 1 else "")


def _ratio(row: str, values: Mapping[str, float | None], cells: Mapping[tuple[str, str], float | None]) -> str:
    full, known = cells.get(("full", "pCE")), [value for value in values.values() if value is not None]
    return f"{100 * max(known) / full:.2f}" if full and known and row != "full" else ""


def to_markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return lines, the first of which is the header, as a Markdown table."""
    rule = ["---"] * 2 + ["---:"] * (len(lines[0]) - 2)
    return "".join("| " + " | ".join(line) + " |\n" for line in [lines[0], rule, *lines[1:]])


def write_csv(path: Path, dataset: str, values: Values) -> None:
    """Write one line per finished run: dataset, supervision, loss, seed, mIoU in percent."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["dataset", "row", "column", "seed", "miou"])
        for (row, column), seeds in values.items():
            writer.writerows([dataset, row, column, seed, value] for seed, value in seeds.items())


def to_rich(lines: Sequence[Sequence[str]]) -> RichTable:
    """Return the same for the terminal."""
    table = RichTable(title="mIoU on val, percent")
    for place, title in enumerate(lines[0]):
        table.add_column(title, justify="left" if place < 2 else "right")
    for line in lines[1:]:
        table.add_row(*line, style="dim" if line[0] == "" else None)
    return table
