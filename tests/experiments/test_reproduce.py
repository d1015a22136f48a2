"""``gatedcrf reproduce`` with real cells, each in a process of its own."""

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import RESULT
from experiments.cli import main


def reproduce(runs: Path, options: list[str], cells: tuple[str, ...] = ("clicks/GCRF_s", "full/pCE")) -> str:
    """Return what the command prints."""
    with redirect_stdout(StringIO()) as printed:
        try:
            main(["reproduce", "table1", "--cells", *cells, "--runs", str(runs), "--", *options])
        except SystemExit as ended:
            return f"{printed.getvalue()}\nexit status {ended.code}"
    return printed.getvalue()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def first(runs: Path, small: list[str]) -> str:
    """Print of the first call."""
    return reproduce(runs, small)


@pytest.fixture
def folder(runs: Path, first: str) -> Path:
    return runs / "shapes"


def result(folder: Path, cell: str) -> float:
    return float(json.loads((folder / cell / "seed0" / RESULT).read_text())["miou"])


def test_table_shows_what_the_cells_measured(folder: Path, first: str) -> None:
    lines = (folder / "table1.md").read_text().splitlines()
    clicks, full = (next(line for line in lines if line.startswith(f"| {row} | shapes")) for row in ("clicks", "full"))
    assert clicks.split("|")[5].strip() == f"{result(folder, 'clicks.gcrf_s'):.2f}"
    assert full.split("|")[3].strip() == f"{result(folder, 'full.pce'):.2f}"
    assert "67.39" in first


def test_pictures_show_images_labels_truth_and_predictions(folder: Path) -> None:
    gallery, kernels = (
        np.array(Image.open(folder / f"{name}.png").convert("RGB")) for name in ("table1_gallery", "kernels")
    )
    assert gallery.shape[1] > 1.4 * gallery.shape[0]  # three images, five columns
    assert len(np.unique(gallery.reshape(-1, 3), axis=0)) > 100
    assert (kernels == 255).any()


def test_finished_cells_are_not_run_again(runs: Path, folder: Path, small: list[str]) -> None:
    before = (folder / "full.pce/seed0/log.txt").read_text()
    assert reproduce(runs, small).count("finished before") == 2
    assert (folder / "full.pce/seed0/log.txt").read_text() == before


def test_a_cell_goes_on_from_its_checkpoint(runs: Path, folder: Path, small: list[str]) -> None:
    measured = result(folder, "full.pce")
    (folder / "full.pce/seed0" / RESULT).unlink()
    reproduce(runs, small)
    assert result(folder, "full.pce") == pytest.approx(measured, abs=1e-3)
    assert "Restor" in (folder / "full.pce/seed0/log.txt").read_text()


def test_a_changed_configuration_is_refused(
    runs: Path, folder: Path, small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    measured = result(folder, "full.pce")
    assert "exit status 2" in reproduce(runs, [*small, "--model.weight=0.3"])
    error = capsys.readouterr().err
    assert "another configuration" in error
    assert "--model.weight=0.3" in error
    assert result(folder, "full.pce") == measured


def test_a_failed_cell_shows_its_log_and_stops_no_other(tmp_path: Path, small: list[str]) -> None:
    (tmp_path / "shapes/clicks.gcrf_s/seed0/gallery").mkdir(parents=True)
    (tmp_path / "shapes/clicks.gcrf_s/seed0/metrics.csv").mkdir()
    printed = reproduce(tmp_path, small)
    assert "clicks/GCRF_s/seed0: failed" in printed
    assert "metrics.csv" in printed
    assert result(tmp_path / "shapes", "full.pce") > 0
    assert printed.endswith("exit status 1")


def test_unknown_cells_are_refused_with_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "exit status 2" in reproduce(tmp_path, [], cells=("boxes/*",))
    assert "clicks/pCE" in capsys.readouterr().err
