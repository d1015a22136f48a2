"""The published table is the oracle: its own ratios are printed in Table 5."""

import csv
from pathlib import Path

import pytest

from experiments.table import Table, to_markdown, write_csv

PUBLISHED = {  # Table 1 as printed, read independently of the YAML
    ("VOC", "clicks"): "48.97 59.99 67.39 67.29",
    ("VOC", "scribbles"): "67.38 72.73 75.50 75.29",
    ("VOC", "full"): "76.68 76.64 77.16",
    ("Cityscapes", "clicks"): "38.61 51.33 56.46 57.43",
    ("Cityscapes", "full"): "76.06 76.88 75.38",
}


@pytest.fixture
def table() -> Table:
    return Table.load("table1")


def test_published_values_are_those_of_table_1(table: Table) -> None:
    shown = {
        (dataset, row): " ".join(f"{value:.2f}" for value in values if value is not None)
        for dataset, rows in table.paper.items()
        for row, values in rows.items()
    }
    assert shown == PUBLISHED


def test_full_supervision_has_no_destination_mask(table: Table) -> None:
    cells = table.cells()
    assert len(cells) == 11
    assert ("full", "GCRF_s,d") not in cells


def test_ratio_to_full_supervision_is_that_of_table_5(table: Table) -> None:
    lines = table.lines("voc", {("clicks", "GCRF_s"): {0: 67.39}, ("full", "pCE"): {0: 76.68}})
    ours = {line[0]: line[-1] for line in lines if line[1] == "voc"}
    paper = [line[-1] for line in lines if line[1] == "VOC (paper)"]
    assert ours == {"clicks": "87.88", "scribbles": "", "full": ""}
    assert paper == ["87.88", "98.46", ""]


def test_several_seeds_show_mean_and_sample_deviation(table: Table) -> None:
    lines = table.lines("shapes", {("clicks", "pCE"): {0: 50.0, 1: 52.0, 2: 54.0}})
    assert lines[1][2] == "52.00 ± 2.00"


def test_markdown_has_one_line_per_row_and_as_many_columns(table: Table) -> None:
    lines = to_markdown(table.lines("shapes", {})).splitlines()
    assert len(lines) == 2 + 3 + len(PUBLISHED)
    assert {line.count("|") for line in lines} == {8}


def test_csv_names_every_run(table: Table, tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", "shapes", {("clicks", "GCRF_s,d"): {0: 1.0, 2: 2.5}})
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["column"], row["seed"], row["miou"]) for row in rows] == [
        ("GCRF_s,d", "0", "1.0"),
        ("GCRF_s,d", "2", "2.5"),
    ]


def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("short.yaml").write_text("rows: {a: x}\ncolumns: {b: y, c: z}\npaper: {VOC: {a: [1]}}")
    with pytest.raises(ValueError, match=r"paper\.VOC\.a"):
        Table.load("short")
    Path("none.yaml").write_text("rows: {a: x}")
    with pytest.raises(ValueError, match="rows, columns and paper"):
        Table.load("none")
    with pytest.raises(ValueError, match="shipped with the package"):
        Table.load("table99")
