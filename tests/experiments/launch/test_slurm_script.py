"""What sbatch is given, and what it may say."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.launch.slurm import SCRIPT
from experiments.launch.slurm_script import Settings, batch_script, job_name
from experiments.tables.cell import LOG, Cell

Stub = Callable[[str, str], None]


@pytest.fixture
def cell(tmp_path: Path, make_cell: Callable[..., Cell]) -> Cell:
    return make_cell(tmp_path / "runs/shapes/clicks.pce/seed0")


def settings(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return Settings.load(path)


def test_the_script_asks_for_what_the_settings_say(cell: Cell, tmp_path: Path) -> None:
    chosen = settings(
        tmp_path, "{partition: gpu, account: lab, time: '1-00:00:00', warning: 90, options: [--qos=long]}"
    )
    lines = batch_script(cell, chosen).splitlines()
    assert lines[0] == "#!/bin/bash"
    assert {line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")} == {
        f"--job-name={job_name(cell)}",
        f"--chdir={Path.cwd()}",
        f"--output={cell.run / LOG}",
        "--open-mode=append",
        "--dependency=singleton",
        "--requeue",
        "--signal=SIGUSR1@90",
        "--time=1-00:00:00",
        "--nodes=1",
        "--ntasks-per-node=1",
        "--cpus-per-task=8",
        "--partition=gpu",
        "--account=lab",
        "--mem=32G",
        "--gres=gpu:1",
        "--qos=long",
    }
    assert any(line.startswith("srun --cpus-per-task=8 ") for line in lines)


def test_a_run_on_several_nodes_is_told_so(cell: Cell, tmp_path: Path) -> None:
    """Lightning refuses a number of nodes that is not SLURM's."""
    assert "--trainer.num_nodes=2" in batch_script(cell, settings(tmp_path, "nodes: 2"))
    assert "num_nodes" not in batch_script(cell, settings(tmp_path, "nodes: 1"))


def test_the_shell_passes_every_argument_on_as_it_is(
    tmp_path: Path, stub: Stub, make_cell: Callable[..., Cell]
) -> None:
    """bash is the oracle: it parses the script, and srun is what prints its arguments."""
    cell = make_cell(tmp_path / "it's 50% of $HOME", "--data.root=a b", "--x={class_path: y, init_args: [1]}")
    stub("srun", 'printf "%s\\n" "$@"')
    script = tmp_path / SCRIPT
    script.write_text(batch_script(cell, settings(tmp_path, "setup: [echo prepared]")))
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    printed = subprocess.run(["bash", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert printed[0] == "prepared"
    assert printed[2:] == ["--cpus-per-task=8", *cell.command()]
    assert "50%% of" in script.read_text()  # sbatch would replace %-letters in the name of the log


def test_a_job_is_named_after_its_run_directory_alone(cell: Cell) -> None:
    """Cells of several tables share a run; runs of one cell in several places are none of each other's business."""
    assert job_name(replace(cell, label="scribbles/w", table="table4")) == job_name(cell)
    assert job_name(replace(cell, run=Path("other/shapes/clicks.pce/seed0"))) != job_name(cell)
    assert job_name(cell).startswith("shapes.clicks.pce.seed0.")  # Lightning ignores jobs named bash or interactive


@pytest.mark.parametrize(
    ("status", "state", "requeued"),
    [
        (138, "RUNNING", True),  # SIGUSR1: the time is nearly over
        (143, "RUNNING", True),  # SIGTERM: preempted, with some time left
        (143, "COMPLETING", False),  # canceled, or requeued by SLURM itself
        (1, "RUNNING", False),  # failed
        (0, "RUNNING", False),
    ],
)
def test_a_stopped_job_requeues_itself_unless_it_was_canceled(
    tmp_path: Path, stub: Stub, cell: Cell, monkeypatch: pytest.MonkeyPatch, status: int, state: str, requeued: bool
) -> None:
    stub("srun", f"exit {status}")
    stub("squeue", f"echo {state}")
    stub("scontrol", "echo $* > requeued")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    script = tmp_path / SCRIPT
    script.write_text(batch_script(cell, Settings.load()))
    assert subprocess.run(["bash", script], check=False).returncode == status
    assert (tmp_path / "requeued").is_file() == requeued
    assert not requeued or (tmp_path / "requeued").read_text() == "requeue 17\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tme: 3", "mine.yaml: .*tme"),
        ("cpus_per_task: many", "cpus_per_task"),
        ("time: 1:00:00", "time"),  # YAML reads 3600, which sbatch would take for minutes
        ("time: 90", "time"),
        ("time: 'a day'", "HH:MM:SS"),
        ("time: '00:05:00'", "leaves no time to train"),  # it would be requeued for ever
        ("jobs: 0", "jobs is 0"),
        ("", "write keys and values"),
        ("time: [", "mine.yaml"),
    ],
)
def test_bad_settings_are_refused_with_the_file_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(tmp_path, text)


def test_settings_that_a_file_does_not_name_are_the_shipped_ones(tmp_path: Path) -> None:
    assert settings(tmp_path, "gres: null") == Settings(**{**vars(Settings.load()), "gres": None})
