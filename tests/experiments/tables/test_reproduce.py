"""``gatedcrf reproduce`` with real cells, each in a process of its own."""

import json
import os
import shlex
import subprocess
import sys
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
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
    assert "exit status 2" in reproduce(runs, [*small, "--model.regularizer_weight=0.3"])
    error = capsys.readouterr().err
    assert "another configuration" in error
    assert "--model.regularizer_weight=0.3" in error
    assert result(folder, "full.pce") == measured


def test_a_result_without_checkpoints_is_not_relabeled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Checkpoints are what is removed first where disks are full."""
    run = tmp_path / "shapes/full.pce/seed0"
    assert "exit status 1" in reproduce(
        tmp_path, ["--data.augmentation.crop=0"], cells=("full/pCE",)
    )  # recorded, never trained
    (run / RESULT).write_text('{"miou": 1.0}')
    assert "exit status 2" in reproduce(tmp_path, [], cells=("full/pCE",))
    assert "another configuration" in capsys.readouterr().err


def test_a_failed_cell_shows_its_log_and_stops_no_other(tmp_path: Path, small: list[str]) -> None:
    (tmp_path / "shapes/clicks.gcrf_s/seed0/gallery").mkdir(parents=True)
    (tmp_path / "shapes/clicks.gcrf_s/seed0/metrics.csv").mkdir()
    printed = reproduce(tmp_path, small)
    assert "clicks/GCRF_s/seed0: failed" in printed
    assert "metrics.csv" in printed
    assert result(tmp_path / "shapes", "full.pce") > 0
    assert printed.endswith("exit status 1")


def test_an_interrupted_table_leaves_no_process_and_is_continued(tmp_path: Path, small: list[str]) -> None:
    """Ended by SIGTERM while its cell trains: the cell saves a checkpoint, and the same command finishes it."""
    options = [*small, "--trainer.max_steps=100", "--trainer.val_check_interval=20"]
    command = [sys.executable, "-m", "experiments.cli", "reproduce", "table1", "--cells", "full/pCE", "--runs", "."]
    with subprocess.Popen([*command, "--", *options], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as table:
        run = tmp_path / "shapes/full.pce/seed0"
        while table.poll() is None and not (run / "gallery").is_dir():  # it has been evaluated once
            time.sleep(0.1)
        table.terminate()
        assert table.stdout is not None
        assert "interrupted. The same command continues." in table.stdout.read()
    assert table.returncode == 130
    assert 20 <= torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] < 100
    printed = reproduce(tmp_path, options, cells=("full/pCE",))
    assert "full/pCE/seed0: " in printed
    assert json.loads((run / RESULT).read_text())["steps"] == 100
    assert (run / "metrics.1.csv").is_file()  # the log of the first start


def test_dry_run_prints_commands_that_run_and_their_cost(tmp_path: Path, small: list[str]) -> None:
    table = ["reproduce", "table4", "--rows", "clicks", "--seeds", "2", "--runs", str(tmp_path), "--wandb", "--dry_run"]
    with redirect_stdout(StringIO()) as printed:
        main([*table, "--", *small])
    lines = printed.getvalue().splitlines()
    assert len(lines) == 2 * 10 + 1
    assert lines[0].startswith("clicks/lambda=0.05/seed0: 0.0 GPU hours")
    assert "--model.regularizer_weight=0.05" in lines[1]
    assert "--seed_everything=1" in lines[11]
    assert lines[-1].startswith("10 runs, ")
    assert not any(tmp_path.iterdir())
    without_key = {**os.environ, "WANDB_API_KEY": "", "NETRC": os.devnull}
    subprocess.run(shlex.split(lines[1]), env=without_key, check=True, capture_output=True)
    run = tmp_path / "shapes/clicks.gcrf_s.lambda=0.05/seed0"
    assert (run / RESULT).is_file()
    logged = (next(run.glob("wandb/offline-*/*.wandb"))).read_bytes()
    assert b"table4 shapes" in logged
    assert b"clicks/lambda=0.05/seed0" in logged


def test_unknown_cells_are_refused_with_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "exit status 2" in reproduce(tmp_path, [], cells=("boxes/*",))
    assert "clicks/pCE" in capsys.readouterr().err


def test_an_option_that_the_dataset_needs_is_asked_for_before_work_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["reproduce", "table1", "--dataset", "voc", "--runs", str(tmp_path / "runs")])
    assert "--data.root=... at the end of the command, after --" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_what_tells_cells_apart_cannot_be_given_for_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One seed for all would be shown as several."""
    assert "exit status 2" in reproduce(tmp_path, ["--seed_everything", "7"], cells=("full/pCE",))
    assert "--seed_everything=7: every cell has its own" in capsys.readouterr().err


def test_a_selection_of_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["reproduce", "table1", "--rows", "clicks", "--cells", "full/pCE", "--runs", str(tmp_path)])
    assert "No cell is both" in capsys.readouterr().err


def test_a_damaged_result_is_named(
    runs: Path, folder: Path, small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "full.pce/seed0" / RESULT
    content = path.read_text()
    path.write_text(content[:20])
    assert "exit status 2" in reproduce(runs, small)
    with pytest.raises(SystemExit, match="2"):
        main(["table", str(runs)])
    path.write_text(content)
    assert capsys.readouterr().err.count(f"{path} is damaged") == 2
