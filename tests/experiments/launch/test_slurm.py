"""The SLURM launcher before a stub of SLURM: its queue is a folder, and its one node is this machine.

``tests/slurm`` tries the same on a real controller and daemon.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments import RESULT
from experiments.cli import main
from experiments.launch.slurm import SCRIPT, SlurmJob, SlurmLauncher
from experiments.launch.slurm_script import job_name
from experiments.tables.cell import Cell

Stub = Callable[[str, str], None]

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


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stub: Stub) -> Path:
    """The folder in which the stubs keep their state."""
    (tmp_path / "queue").mkdir()
    for name, body in STUBS.items():
        stub(name, body)
    monkeypatch.setenv("RUN", str(tmp_path / "runs/shapes/clicks.pce/seed0"))
    monkeypatch.setattr("experiments.launch.slurm.ASK_EVERY_S", 0.0)
    return tmp_path


@pytest.fixture
def cell(tmp_path: Path, make_cell: Callable[..., Cell]) -> Cell:
    return make_cell(tmp_path / "runs/shapes/clicks.pce/seed0")


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


def test_reproduce_trains_a_cell_in_a_job(
    slurm: Path, stub: Stub, small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    stub("srun", f'cd {Path.cwd()}; shift; exec "$@"')
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
