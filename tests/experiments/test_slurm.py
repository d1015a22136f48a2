"""The SLURM launcher before a stub of SLURM: its queue is a folder, and its one node is this machine.

``tests/slurm`` tries the same on a real controller and daemon.
"""

import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import RESULT
from experiments.cell import LOG, Cell
from experiments.cli import main
from experiments.slurm import SCRIPT, SlurmJob, SlurmLauncher
from experiments.slurm_script import Settings, batch_script, job_name
from experiments.table import Training

STUBS = {
    # Takes the job into the queue and runs its script until it ends
    "sbatch": """
        [ -e refuse ] && { echo "sbatch: error: invalid partition specified: gpus" >&2; exit 1; }
        name=$(sed -n 's/^#SBATCH --job-name=//p' "$1")
        echo "$name" >> submitted
        touch "queue/$name"
        cp "$1" "script.$name"
        { bash "script.$name"; rm "queue/$name"; } > /dev/null 2>&1 < /dev/null &
        """,
    "squeue": """
        [ -e down ] && { echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1; }
        ls queue
        """,
    # Runs no training, but waits until it is told how that ended
    "srun": """
        until [ -e finish ] || [ -e fail ]; do sleep 0.01; done
        [ -e fail ] || echo '{"miou": 50.0}' > "$RUN/result.json"
        """,
}


def stub(folder: Path, name: str, body: str) -> None:
    path = folder / "bin" / name
    path.write_text(f"#!/bin/bash\ncd {folder}\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the stubs keep their state; they are first on the PATH."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "queue").mkdir()
    for name, body in STUBS.items():
        stub(tmp_path, name, body)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("RUN", str(tmp_path / "runs/shapes/clicks.pce/seed0"))
    monkeypatch.setattr("experiments.slurm.ASK_EVERY_S", 0.0)
    return tmp_path


def make_cell(run: Path, *options: str, devices: int = 1) -> Cell:
    run.mkdir(parents=True)
    training = Training("supervision/clicks.yaml", "losses/pce.yaml")
    return Cell(training, "shapes", "paper", 0, run, "clicks/pCE", "table1", devices, options)


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    return make_cell(tmp_path / "runs/shapes/clicks.pce/seed0")


def settings(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return Settings.load(path)


def wait(job: SlurmJob) -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if (status := job.poll()) is not None:
            return status
        time.sleep(0.01)
    raise TimeoutError(job.name)


def test_a_job_waits_or_runs_until_it_ends_with_a_result(slurm: Path, cell: Cell) -> None:
    job = SlurmLauncher().start(cell)
    assert job.poll() is None
    (slurm / "finish").touch()
    assert wait(job) == 0
    assert (cell.run / RESULT).is_file()


def test_a_job_that_ends_without_a_result_has_failed_and_is_submitted_again(slurm: Path, cell: Cell) -> None:
    (slurm / "fail").touch()
    assert wait(SlurmLauncher().start(cell)) == 1
    (slurm / "fail").unlink()
    (slurm / "finish").touch()
    assert wait(SlurmLauncher().start(cell)) == 0
    assert (slurm / "submitted").read_text().split() == [job_name(cell)] * 2


def test_a_second_launcher_attaches_to_the_job_of_the_first(slurm: Path, cell: Cell) -> None:
    """Nothing but the queue is asked: the first may have ended at any point after sbatch was called."""
    SlurmLauncher().start(cell).stop()
    (cell.run / SCRIPT).unlink()
    job = SlurmLauncher().start(cell)
    assert job.poll() is None
    (slurm / "finish").touch()
    assert wait(job) == 0
    assert (slurm / "submitted").read_text().split() == [job_name(cell)]


def test_a_controller_that_does_not_answer_ends_no_job(slurm: Path, cell: Cell) -> None:
    job = SlurmLauncher().start(cell)
    (slurm / "down").touch()
    assert job.poll() is None
    with pytest.raises(ValueError, match="Unable to contact slurm controller"):
        SlurmLauncher()
    (slurm / "down").unlink()
    (slurm / "finish").touch()
    assert wait(job) == 0


def test_a_refused_job_shows_the_reason(slurm: Path, cell: Cell) -> None:
    (slurm / "refuse").touch()
    with pytest.raises(ValueError, match="invalid partition specified: gpus"):
        SlurmLauncher().start(cell)


def test_reproduce_trains_a_cell_in_a_job(slurm: Path, small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    stub(slurm, "srun", f'cd {Path.cwd()}; shift; exec "$@"')
    (slurm / "mine.yaml").write_text("gres: null")
    options = ["--launcher=slurm", f"--slurm={slurm / 'mine.yaml'}", f"--runs={slurm / 'runs'}", "--cells=full/pCE"]
    main(["reproduce", "table1", *options, "--", *small])
    run = slurm / "runs/shapes/full.pce/seed0"
    assert f"full/pCE/seed0: {json.loads((run / RESULT).read_text())['miou']:.2f} mIoU" in capsys.readouterr().out
    assert "gres" not in (run / SCRIPT).read_text()


def test_settings_for_another_launcher_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["reproduce", "table1", "--slurm=mine.yaml"])
    assert "--launcher slurm" in capsys.readouterr().err


def test_without_slurm_the_message_names_the_local_launcher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"sbatch is not on the PATH.*--launcher local"):
        SlurmLauncher()


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


def test_the_shell_passes_every_argument_on_as_it_is(slurm: Path, tmp_path: Path) -> None:
    """bash is the oracle: it parses the script, and srun is what prints its arguments."""
    cell = make_cell(tmp_path / "it's 50% of $HOME", "--data.root=a b", "--x={class_path: y, init_args: [1]}")
    stub(slurm, "srun", 'printf "%s\\n" "$@"')
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
    slurm: Path, cell: Cell, monkeypatch: pytest.MonkeyPatch, status: int, state: str, requeued: bool
) -> None:
    stub(slurm, "srun", f"exit {status}")
    stub(slurm, "squeue", f"echo {state}")
    stub(slurm, "scontrol", "echo $* > requeued")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    script = slurm / SCRIPT
    script.write_text(batch_script(cell, Settings.load()))
    assert subprocess.run(["bash", script], check=False).returncode == status
    assert (slurm / "requeued").is_file() == requeued
    assert not requeued or (slurm / "requeued").read_text() == "requeue 17\n"


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
