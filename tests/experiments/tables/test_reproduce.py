"""``gatedcrf reproduce`` with real cells, each in its own process."""

import json
import os
import shlex
import signal
import sys
import threading
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
import wandb
from PIL import Image

from experiments import RESULT
from experiments.cli import main
from experiments.train.run import Run

CELLS = ("clicks/GCRF_s", "full/pCE")


def reproduce(runs: Path, options: list[str], *cells: str, arguments: tuple[str, ...] = ()) -> str:
    """Return the output of the command."""
    with redirect_stdout(StringIO()) as printed:
        try:
            main(["reproduce", "table1", "--cells", *cells, "--runs", str(runs), *arguments, "--", *options])
        except SystemExit as ended:
            return f"{printed.getvalue()}\nexit status {ended.code}"
    return printed.getvalue()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def first(runs: Path, small: list[str]) -> str:
    """Output of a first call, in which the first of two cells fails after its last step."""
    (runs / "shapes/clicks.gcrf_s/seed0" / RESULT).mkdir(parents=True)
    return reproduce(runs, small, *CELLS)


@pytest.fixture
def folder(runs: Path, first: str) -> Path:
    return runs / "shapes"


def miou(folder: Path, training: str) -> float:
    return float(json.loads((folder / training / "seed0" / RESULT).read_text())["miou"])


def test_failed_cell_shows_its_log_and_stops_no_other(folder: Path, first: str) -> None:
    assert "clicks/GCRF_s/seed0: failed" in first
    assert f"/{RESULT}" in first
    assert miou(folder, "full.pce") > 0
    assert first.endswith("exit status 1")


def test_same_command_keeps_finished_cells_and_continues_the_others(runs: Path, folder: Path, small: list[str]) -> None:
    run, log = folder / "clicks.gcrf_s/seed0", (folder / "full.pce/seed0/log.txt").read_text()
    (run / RESULT).rmdir()
    evaluated = (run / "metrics.json").read_text()
    assert reproduce(runs, small, *CELLS).count("finished before") == 1
    assert (folder / "full.pce/seed0/log.txt").read_text() == log
    assert "Restor" in (run / "log.txt").read_text()
    assert miou(folder, "clicks.gcrf_s") == json.loads(evaluated)["miou"]


def test_table_shows_what_the_cells_measured(folder: Path, first: str) -> None:
    lines = (folder / "table1.md").read_text().splitlines()
    clicks, full = (next(line for line in lines if line.startswith(f"| {row} | shapes")) for row in ("clicks", "full"))
    assert clicks.split("|")[5].strip() == f"{miou(folder, 'clicks.gcrf_s'):.2f}"
    assert full.split("|")[3].strip() == f"{miou(folder, 'full.pce'):.2f}"
    assert "67.39" in first


def test_pictures_show_images_labels_truth_and_predictions(folder: Path) -> None:
    gallery, kernels = (
        np.array(Image.open(folder / f"{name}.png").convert("RGB")) for name in ("table1_gallery", "kernels")
    )
    assert gallery.shape[1] > 1.4 * gallery.shape[0]  # three images, five columns
    assert len(np.unique(gallery.reshape(-1, 3), axis=0)) > 100
    assert (kernels == 255).any()


def test_changed_configuration_is_refused(
    runs: Path, folder: Path, small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    measured = miou(folder, "full.pce")
    assert "exit status 2" in reproduce(runs, [*small, "--model.regularizer_weight=0.3"], *CELLS)
    assert "model.regularizer_weight: 0.1 before, 0.3 now" in capsys.readouterr().err
    assert miou(folder, "full.pce") == measured


def test_result_without_checkpoints_is_not_relabeled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Users delete checkpoints first when a disk is full."""
    reproduce(tmp_path, ["--data.augmentation.crop=64"], "full/pCE", arguments=("--dry_run",))
    (tmp_path / "shapes/full.pce/seed0" / RESULT).write_text('{"miou": 1.0}')
    assert "exit status 2" in reproduce(tmp_path, [], "full/pCE")
    assert "data.init_args.augmentation.crop: 64 before, 128 now" in capsys.readouterr().err


def test_interrupted_table_leaves_no_process_and_is_continued(tmp_path: Path, small: list[str]) -> None:
    """After SIGTERM the cell saves a checkpoint, and its printed command finishes it."""
    options = [*small, "--trainer.max_steps=100", "--trainer.val_check_interval=20"]
    run = tmp_path / "shapes/full.pce/seed0"
    ended = threading.Event()

    def terminate() -> None:
        while not ended.is_set():
            if (run / "gallery").is_dir():  # after the first evaluation
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(0.05)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, lambda *_: None)  # a late signal must not end the tests
    thread = threading.Thread(target=terminate)
    thread.start()
    try:
        printed = reproduce(tmp_path, options, "full/pCE")
    finally:
        ended.set()
        thread.join()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert "interrupted. The same command continues." in printed
    assert printed.endswith("exit status 130")
    assert 20 <= torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] < 100
    main(["fit", "-c", str(run / "config.yaml")])
    assert json.loads((run / RESULT).read_text())["steps"] == 100
    assert (run / "metrics.1.csv").is_file()  # the log of the first start


@pytest.mark.parametrize(
    ("gres", "options", "preset"),
    [("gpu:1", (), "gpu"), ("gpu:1", ("--preset=none",), "none"), ("null", (), "none")],
)
def test_jobs_on_gpus_have_their_preset_also_if_this_machine_has_no_gpu(
    gres: str, options: tuple[str, ...], preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as on a login node
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "mine.yaml").write_text(f"gres: {gres}\n")
    arguments = ("--dry_run", "--launcher", "slurm", "--slurm", str(tmp_path / "mine.yaml"))
    reproduce(tmp_path, list(options), "full/pCE", arguments=arguments)
    assert Run(tmp_path / "shapes" / "full.pce" / "seed0").config["preset"] == preset


def test_dry_run_writes_configurations_and_prints_commands_that_run(
    tmp_path: Path, small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "")
    monkeypatch.setenv("NETRC", os.devnull)
    table = ["reproduce", "table4", "--rows", "clicks", "--seeds", "2", "--runs", str(tmp_path), "--wandb", "--dry_run"]
    with redirect_stdout(StringIO()) as printed:
        main([*table, "--", *small])
    lines = printed.getvalue().splitlines()
    assert len(lines) == 2 * 10
    assert lines[0] == "clicks/lambda=0.05/seed0: 4 steps to train"
    path = tmp_path / "shapes/clicks.gcrf_s.lambda=0.05"
    assert {file.name for file in (path / "seed1").iterdir()} == {"config.yaml", "lock"}
    assert Run(path / "seed1").config["seed_everything"] == 1
    assert Run(path / "seed1").config["model"]["regularizer_weight"] == 0.05
    python, *command = shlex.split(lines[1])
    assert (python, command[:2]) == (sys.executable, ["-m", "experiments.cli"])
    main(command[2:])
    assert wandb.run is not None
    assert (wandb.run.group, wandb.run.name) == ("table4 shapes", "clicks/lambda=0.05/seed0")
    wandb.finish()
    os.environ.pop("WANDB_MODE", None)  # Lightning sets it for the whole process
    assert (path / "seed0" / RESULT).is_file()
    assert list((path / "seed0").glob("wandb/offline-*/*.wandb"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cells", "boxes/*"], "clicks/pCE"),
        (["--rows", "clicks", "--cells", "full/pCE"], "No cell matches"),
        (["--dataset", "voc"], "--data.root must be given.\nPut options of gatedcrf fit at the end of the command"),
        (["--", "--seed_everything=7"], "--seed_everything=7: each cell has its own"),  # or all seeds would be equal
        (["--", "--trainer.max_step=7"], "Did you mean trainer.max_steps?"),
        (["--seeds", "0"], "--seeds is 0; it must be at least 1"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["reproduce", "table1", "--runs", str(tmp_path / "runs"), *arguments])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_damaged_result_is_named(
    runs: Path, folder: Path, small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "full.pce/seed0" / RESULT
    content = path.read_text()
    path.write_text(content[:20])
    assert "exit status 2" in reproduce(runs, small, *CELLS)
    with pytest.raises(SystemExit, match="2"):
        main(["table", str(runs)])
    path.write_text(content)
    assert capsys.readouterr().err.count(f"{path} cannot be read as JSON") == 2
