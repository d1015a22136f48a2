"""Batch scripts, as bash and SLURM read them, and their settings."""

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules.io.errors import InputError
from experiments.launch.slurm import SCRIPT
from experiments.launch.slurm_script import Settings, batch_script, job_name
from experiments.train.run import Run

Stub = Callable[[str, str], None]


def settings(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return Settings.load(path)


def test_the_script_has_the_options_of_the_settings(run: Run, tmp_path: Path) -> None:
    chosen = settings(
        tmp_path, "{partition: gpu, account: lab, time: '1-00:00:00', warning: 90, options: [--qos=long]}"
    )
    lines = batch_script(run, chosen).splitlines()
    assert lines[0] == "#!/bin/bash"
    output = shlex.quote(str(run.log).replace("%", "%%"))  # sbatch expands % in the name of the log
    assert {line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")} == {
        f"--job-name={job_name(run.path)}",
        f"--chdir={Path.cwd()}",
        f"--output={output}",
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


def test_a_run_on_several_nodes_is_told_so(run: Run, tmp_path: Path) -> None:
    """Lightning requires SLURM's number of nodes."""
    assert "--trainer.num_nodes=2" in batch_script(run, settings(tmp_path, "nodes: 2"))
    assert "num_nodes" not in batch_script(run, settings(tmp_path, "nodes: 1"))


def test_the_shell_passes_the_command_on_unchanged(tmp_path: Path, stub: Stub, run: Run) -> None:
    """Run the script in bash, with a stub of srun that prints its arguments."""
    stub("srun", 'printf "%s\\n" "$@"')
    script = tmp_path / SCRIPT
    script.write_text(batch_script(run, settings(tmp_path, "setup: [echo prepared]")))
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    printed = subprocess.run(["bash", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert printed[0] == "prepared"
    assert printed[2:] == ["--cpus-per-task=8", *run.command()]


def test_the_whole_path_of_a_run_identifies_its_job() -> None:
    names = [job_name(Path(folder) / "shapes/clicks.pce/seed0") for folder in ("runs", "other")]
    assert names[0] != names[1]
    assert all(name.startswith("shapes.clicks.pce.seed0.") for name in names)


@pytest.mark.parametrize(
    ("status", "state", "requeued"),
    [
        (138, "RUNNING", True),  # SIGUSR1: the time limit is near
        (143, "RUNNING", True),  # SIGTERM: preempted
        (143, "COMPLETING", False),  # canceled, or requeued by SLURM itself
        (1, "RUNNING", False),  # failed
        (0, "RUNNING", False),
    ],
)
def test_a_stopped_job_requeues_itself_unless_it_was_canceled(
    tmp_path: Path, stub: Stub, run: Run, monkeypatch: pytest.MonkeyPatch, status: int, state: str, requeued: bool
) -> None:
    stub("srun", f"exit {status}")
    stub("squeue", f"echo {state}")
    stub("scontrol", "echo $* > requeued")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    script = tmp_path / SCRIPT
    script.write_text(batch_script(run, Settings.load()))
    assert subprocess.run(["bash", script], check=False).returncode == status
    assert (tmp_path / "requeued").is_file() == requeued
    assert not requeued or (tmp_path / "requeued").read_text() == "requeue 17\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tme: 3", "mine.yaml: .*tme"),
        ("cpus_per_task: many", "cpus_per_task"),
        ("time: 1:00:00", "time"),  # YAML reads 3600, which is minutes for sbatch
        ("time: 90", "time"),
        ("time: 'a day'", "HH:MM:SS"),
        ("time: '00:05:00'", "leaves no time to train"),  # it would be requeued forever
        ("jobs: 0", "jobs is 0"),
        ("", "write keys and values"),
        ("time: [", "mine.yaml"),
    ],
)
def test_bad_settings_are_refused_with_the_file_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        settings(tmp_path, text)


def test_missing_settings_are_those_of_the_shipped_file(tmp_path: Path) -> None:
    assert settings(tmp_path, "gres: null") == Settings(**{**vars(Settings.load()), "gres": None})
