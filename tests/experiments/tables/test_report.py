"""Reports of finished runs against the arithmetic in the paper."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import RESULT
from experiments.cli import main
from experiments.tables.report import lines, to_latex, to_markdown
from experiments.tables.results import Results
from experiments.tables.table import Table


def finish(folder: Path, values: dict[str, list[float]]) -> Results:
    """Write results into a folder DATASET or DATASET.authors: the mIoU of each seed by training.

    The best evaluation is one point above the last.
    """
    for training, seeds in values.items():
        for seed, miou in enumerate(seeds):
            run = folder / training / f"seed{seed}"
            run.mkdir(parents=True)
            result = {"miou": miou, "best_miou": miou + 1, "steps": 90000, "evaluation": "whole image"}
            (run / RESULT).write_text(json.dumps(result))
    return Results.read(folder)


@pytest.fixture
def table() -> Table:
    return Table.load("table1")


def test_runs_with_the_published_values_give_the_published_table(tmp_path: Path) -> None:
    published = {"clicks.gcrf_s": [67.39], "scribbles.gcrf_s": [75.50], "full.pce": [76.68]}
    shown = lines(Table.load("table5"), finish(tmp_path / "voc", published))
    assert shown[1:7] == [
        ["clicks", "voc", "67.39", "76.68", "87.88"],
        ["", "paper, voc", "67.39", "76.68", "87.88"],
        ["", "difference", "+0.00", "+0.00", "+0.00"],
        ["scribbles", "voc", "75.50", "76.68", "98.46"],
        ["", "paper, voc", "75.50", "76.68", "98.46"],
        ["", "difference", "+0.00", "+0.00", "+0.00"],
    ]
    assert shown[7] == ["What's the Point, clicks, vgg16", "published", "43.40", "58.30", "74.44"]
    assert len(shown) == 1 + 6 + 7


def test_several_seeds_show_their_mean_and_sample_deviation(tmp_path: Path, table: Table) -> None:
    shown = lines(table, finish(tmp_path / "voc", {"clicks.pce": [48.97, 50.97, 52.97], "full.pce": [100.0]}))
    assert shown[1][2] == "50.97 ± 2.00"
    assert shown[3][:3] == ["", "difference", "+2.00"]
    assert shown[1][-1] == "50.97"  # W/F: only pCE has been measured in this row


def test_ratio_takes_the_best_weak_value_of_a_row(tmp_path: Path, table: Table) -> None:
    shown = lines(
        table, finish(tmp_path / "voc", {"clicks.gcrf": [40.0], "clicks.gcrf_sd": [60.0], "full.pce": [80.0]})
    )
    ratios = {line[0]: line[-1] for line in shown[1:] if line[0]}
    assert ratios == {"clicks": "75.00", "scribbles": "", "full": ""}


def test_a_dataset_that_is_not_in_the_paper_has_no_difference(tmp_path: Path, table: Table) -> None:
    shown = lines(table, finish(tmp_path / "shapes", {"clicks.pce": [30.0]}))
    assert [line[1] for line in shown[1:4]] == ["shapes", "paper, voc", "paper, cityscapes"]
    assert all(line[1] != "difference" for line in shown)


def test_authors_protocol_reports_the_best_evaluation(tmp_path: Path, table: Table) -> None:
    results = finish(tmp_path / "voc.authors", {"clicks.pce": [30.0]})
    assert lines(table, results)[1][2] == "31.00"
    assert "best evaluation" in results.conditions({"clicks.pce"})


def test_title_lists_all_lengths_and_kinds_of_evaluation(tmp_path: Path) -> None:
    results = finish(tmp_path / "voc", {"clicks.pce": [30.0], "full.pce": [40.0]})
    path = tmp_path / "voc" / "full.pce" / "seed0" / RESULT
    path.write_text(json.dumps({"miou": 40.0, "steps": 100, "evaluation": "512 center crop"}))
    title = results.conditions({"clicks.pce", "full.pce"})
    assert title == "voc, protocol paper, 100/90000 steps, 512 center crop/whole image, weights of the last step"


def test_markdown_and_latex_have_the_same_cells(tmp_path: Path, table: Table) -> None:
    shown = lines(table, finish(tmp_path / "voc", {"clicks.gcrf_s": [67.0, 68.0], "full.pce": [76.0]}))
    markdown = to_markdown(shown).splitlines()
    assert len(markdown) == len(shown) + 1
    assert {line.count("|") for line in markdown} == {8}
    latex = to_latex(shown, "50 % of GCRF_s")
    assert r"67.50 $\pm$ 0.71 &" in latex
    assert r"\caption{50 \% of GCRF\_s}" in latex
    assert {line.count("&") for line in latex.splitlines() if line.endswith(r"\\")} == {6}


def test_command_writes_each_table_that_has_a_finished_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(tmp_path / "runs" / "voc", {"clicks.gcrf_s.lambda=0.2": [66.0, 67.0]})
    main(["table", str(tmp_path / "runs")])
    printed = capsys.readouterr().out
    assert "66.50 ± 0.71" in printed
    assert "table4: voc" in printed
    found = {path.name for path in (tmp_path / "runs" / "voc").glob("table*")}
    assert found == {f"table4.{suffix}" for suffix in ("md", "tex", "csv", "png")}
    with (tmp_path / "runs" / "voc" / "table4.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["column"], row["seed"], row["miou"], row["paper"]) for row in rows] == [
        ("lambda=0.2", "0", "66.0", "66.89"),
        ("lambda=0.2", "1", "67.0", "66.89"),
    ]


@pytest.mark.parametrize(
    ("start", "regularizer"), [(100, "losses.GatedCRFLoss"), (49, "losses.GatedCRFLoss"), (100, "")]
)
def test_regularizer_that_never_starts_is_said_below_the_table(
    start: int, regularizer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(tmp_path / "voc", {"clicks.gcrf_s": [60.0], "clicks.pce": [60.0]})
    model = {"regularizer": {"class_path": regularizer} if regularizer else None, "regularizer_start_step": start}
    config = {"model": {"regularizer_weight": 0.1, **model}, "trainer": {"max_steps": 50}}
    (tmp_path / "voc/clicks.gcrf_s/seed0/config.yaml").write_text(json.dumps(config))
    main(["table", str(tmp_path), "--tables", "table1"])
    printed = " ".join(capsys.readouterr().out.split())
    note = "clicks/GCRF_s: The regularizer starts at step 100, but training ends at 50, so it has no effect; lower"
    warns = start >= 50 and bool(regularizer)
    assert [
        text.count(note) for text in (printed, *(_read(tmp_path / f"voc/table1.{end}") for end in ("md", "tex")))
    ] == [warns] * 3


def _read(path: Path) -> str:
    return path.read_text().replace("\\_", "_")


def test_plot_draws_one_point_per_row_and_higher_values_above(tmp_path: Path) -> None:
    finish(tmp_path / "voc", {"clicks.gcrf_s.sigma_xy=3": [30.0], "scribbles.gcrf_s.sigma_xy=3": [60.0]})
    main(["table", str(tmp_path / "voc"), "--tables", "table3"])
    picture = np.array(Image.open(tmp_path / "voc" / "table3.png").convert("RGB")).astype(int)
    plot = picture[:, : picture.shape[1] * 3 // 4]  # without the legend
    rows, columns = np.nonzero(np.abs(plot - [31, 119, 180]).sum(-1) < 30)
    left, right = (rows[side] for side in (columns < columns.mean(), columns > columns.mean()))
    assert np.ptp(left) < 20
    assert np.ptp(right) < 20
    assert right.mean() < left.mean() - 50


def test_a_folder_without_runs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["table", str(tmp_path)])
    assert "contains no finished run" in capsys.readouterr().err
