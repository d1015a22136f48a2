"""The SLURM launcher with stubs of SLURM's commands: the queue is a folder, and the one node is this machine.

``tests/slurm`` tests the launcher on a real controller and daemon.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules.io.errors import InputError
from experiments import RESULT
from experiments.cli import main
from experiments.launch.slurm import SCRIPT, SlurmJob, SlurmLauncher
from experiments.launch.slurm_script import job_name
from experiments.train.run import Run

Stub = Callable[[str, str], None]

STUBS = {
    # Puts the job into the queue, and runs its script in the background
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
    # Trains nothing: waits for a file that says how the training ends
    "srun": """
        until [ -e finish ] || [ -e fail ]; do sleep 0.01; done
        [ -e fail ] || echo '{"miou": 50.0}' > "$RUN/result.json"
        """,
}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stub: Stub, run: Run) -> Path:
    """Folder in which the stubs keep their state."""
    (tmp_path / "queue").mkdir()
    for name, body in STUBS.items():
        stub(name, body)
    monkeypatch.setenv("RUN", str(run.path))
    monkeypatch.setattr("experiments.launch.slurm.QUERY_INTERVAL_S", 0.0)
    return tmp_path


def wait(job: SlurmJob) -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if (status := job.poll()) is not None:
            return status
        time.sleep(0.01)
    raise TimeoutError(job.name)


def test_a_job_has_no_status_until_it_ends_with_a_result(slurm: Path, run: Run) -> None:
    job = SlurmLauncher().start(run)
    assert job.poll() is None
    (slurm / "finish").touch()
    assert wait(job) == 0
    assert (run.path / RESULT).is_file()


def test_a_job_without_a_result_has_failed_and_is_submitted_again(slurm: Path, run: Run) -> None:
    (slurm / "fail").touch()
    assert wait(SlurmLauncher().start(run)) == 1
    (slurm / "fail").unlink()
    (slurm / "finish").touch()
    assert wait(SlurmLauncher().start(run)) == 0
    assert (slurm / "submitted").read_text().split() == [job_name(run.path)] * 2


def test_a_second_launcher_attaches_to_the_job_of_the_first(slurm: Path, run: Run) -> None:
    """Only the queue is read, because the first launcher may have been killed just after it called sbatch."""
    SlurmLauncher().start(run).stop()
    (run.path / SCRIPT).unlink()
    job = SlurmLauncher().start(run)
    assert job.poll() is None
    (slurm / "finish").touch()
    assert wait(job) == 0
    assert (slurm / "submitted").read_text().split() == [job_name(run.path)]


def test_jobs_survive_a_controller_that_does_not_answer(slurm: Path, run: Run) -> None:
    job = SlurmLauncher().start(run)
    (slurm / "down").touch()
    assert job.poll() is None
    with pytest.raises(InputError, match="Unable to contact slurm controller"):
        SlurmLauncher()
    (slurm / "down").unlink()
    (slurm / "finish").touch()
    assert wait(job) == 0


def test_a_refused_job_raises_the_reason(slurm: Path, run: Run) -> None:
    (slurm / "refuse").touch()
    with pytest.raises(InputError, match="invalid partition specified: gpus"):
        SlurmLauncher().start(run)


def test_reproduce_waits_for_the_job_of_a_cell_and_reports_its_result(
    slurm: Path, stub: Stub, small: list[str], finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = slurm / "runs/shapes/full.pce/seed0"
    stub("srun", f"sleep 0.2; cp -r {finished}/gallery {finished}/{RESULT} {run}")
    (slurm / "mine.yaml").write_text("gres: null")
    options = ["--launcher=slurm", f"--slurm={slurm / 'mine.yaml'}", f"--runs={slurm / 'runs'}", "--cells=full/pCE"]
    main(["reproduce", "table1", *options, "--", *small])
    assert f"full/pCE/seed0: {json.loads((run / RESULT).read_text())['miou']:.2f} mIoU" in capsys.readouterr().out
    assert "gres" not in (run / SCRIPT).read_text()


def test_settings_for_another_launcher_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["reproduce", "table1", "--slurm=mine.yaml"])
    assert "--launcher slurm" in capsys.readouterr().err


def test_without_slurm_the_message_names_the_local_launcher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"sbatch is not on the PATH.*--launcher local"):
        SlurmLauncher()
