"""Batch scripts, as bash and SLURM read them, and their settings."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules.io.errors import InputError
from experiments.launch.slurm import SCRIPT
from experiments.launch.slurm_script import Settings, batch_script
from experiments.train.run import Run

Stub = Callable[[str, str], None]


def settings(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return Settings.load(path)


def script(run: Run, settings: Settings) -> str:
    return batch_script("gatedcrf.1234", [run], settings)


def test_the_script_has_the_options_of_the_settings(runs: list[Run], tmp_path: Path) -> None:
    chosen = settings(
        tmp_path, "{partition: gpu, account: lab, time: '1-00:00:00', warning: 90, options: [--qos=long], jobs: 5}"
    )
    lines = batch_script("gatedcrf.1234", runs, chosen).splitlines()
    assert lines[0] == "#!/bin/bash"
    assert {line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")} == {
        "--job-name=gatedcrf.1234",
        "--array=0-1%5",
        f"--chdir={Path.cwd()}",
        "--output=/dev/null",
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
    assert any(line.startswith("srun --kill-on-bad-exit=1 --cpus-per-task=8 ") for line in lines)


def test_memory_and_gpus_grow_with_the_devices(run: Run, tmp_path: Path) -> None:
    for memory, whole in (("32G", "128G"), ("500M", "2000M"), ("'4096'", "16384"), ("'0'", "0")):
        config = {**run.config, "trainer": {**run.config["trainer"], "devices": 4}}
        run.save(config)
        lines = script(run, settings(tmp_path, f"memory: {memory}")).splitlines()
        assert f"#SBATCH --mem={whole}" in lines
        assert "#SBATCH --gres=gpu:4" in lines
    assert "--mem" not in script(run, settings(tmp_path, "memory: null"))


def test_a_run_on_several_nodes_is_told_so(run: Run, tmp_path: Path) -> None:
    """Lightning requires SLURM's number of nodes."""
    assert "--trainer.num_nodes=2" in script(run, settings(tmp_path, "nodes: 2"))
    assert "num_nodes" not in script(run, settings(tmp_path, "nodes: 1"))


@pytest.mark.parametrize(
    ("gres", "accelerator", "told"),
    [
        ("'gpu:{devices}'", "auto", True),
        ("gpu:a100:2", "auto", True),
        ("null", "auto", False),
        ("shard:1", "auto", False),
        ("'gpu:{devices}'", "cpu", False),  # on purpose
    ],
)
def test_a_run_with_gpus_is_told_to_use_them(gres: str, accelerator: str, told: bool, run: Run, tmp_path: Path) -> None:
    config = run.config
    run.save({**config, "trainer": {**config["trainer"], "accelerator": accelerator}})
    text = script(run, settings(tmp_path, f"gres: {gres}"))
    assert ("--trainer.accelerator=gpu" in text) == told


def test_the_shell_passes_the_command_of_each_run_on_unchanged(
    tmp_path: Path, stub: Stub, runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run the script in bash, with a stub of srun that prints its arguments, which the log of the run receives."""
    stub("srun", 'printf "%s\\n" "$@"')
    path = tmp_path / SCRIPT
    path.write_text(batch_script("gatedcrf.1234", runs, settings(tmp_path, "{setup: [echo prepared], gres: null}")))
    for index, run in enumerate(runs):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(index))
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "17")
        assert subprocess.run(["bash", path], capture_output=True, check=True).stdout == b""
        printed = run.log.read_text().splitlines()
        assert printed[0].startswith(f"SLURM job 17_{index} ")
        assert printed[1] == "prepared"
        assert printed[2:] == ["--kill-on-bad-exit=1", "--cpus-per-task=8", *run.command()]


@pytest.mark.parametrize(
    ("status", "marked", "state", "requeued"),
    [
        (138, True, "RUNNING", True),
        (143, True, "RUNNING", True),
        (143, True, "COMPLETING", False),  # canceled, or requeued by SLURM itself
        (143, False, "RUNNING", False),  # another process has failed, and srun has ended this one
        (1, False, "RUNNING", False),
        (0, False, "RUNNING", False),
    ],
)
def test_a_stopped_job_requeues_itself_unless_it_was_canceled(
    tmp_path: Path,
    stub: Stub,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    marked: bool,
    state: str,
    requeued: bool,
) -> None:
    stub("srun", f"exit {status}")
    if marked:
        run.stopped.touch()
    stub("squeue", f"echo {state}")
    stub("scontrol", "echo $* > requeued")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "17")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    monkeypatch.setenv("SLURM_JOB_ID", "17")  # of the task that SLURM splits off last: requeues the whole array
    path = tmp_path / SCRIPT
    path.write_text(script(run, Settings.load()))
    assert subprocess.run(["bash", path], check=False).returncode == status
    assert (tmp_path / "requeued").is_file() == requeued
    assert not requeued or (tmp_path / "requeued").read_text() == "requeue 17_0\n"


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
        ("memory: 32 GB", "memory is '32 GB'; write the memory per device as 32G or 500M"),
        ("memory: 1.5G", "memory is '1.5G'"),
        ("", "write keys and values"),
        ("time: [", "mine.yaml"),
    ],
)
def test_bad_settings_are_refused_with_the_file_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        settings(tmp_path, text)


def test_missing_settings_are_those_of_the_shipped_file(tmp_path: Path) -> None:
    assert settings(tmp_path, "gres: null") == Settings(**{**vars(Settings.load()), "gres": None})
