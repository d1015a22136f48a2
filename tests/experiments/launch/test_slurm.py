"""The SLURM launcher with stubs of SLURM's commands: the queue is a folder, and the one node is this machine.

``tests/slurm`` tests the launcher on a real controller and daemon.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules.io.errors import InputError
from experiments import RESULT
from experiments.cli import main
from experiments.launch.slurm import SCRIPT, SlurmJob, SlurmLauncher
from experiments.train.run import Run

Stub = Callable[[str, str], None]

# Puts the tasks of an array into the queue, and runs its script for each in the background
SBATCH = """
    [ -e refuse ] && { echo "sbatch: error: invalid partition specified: gpus" >&2; exit 1; }
    script=${@: -1}
    name=$(sed -n 's/^#SBATCH --job-name=//p' "$script")
    last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$script")
    { flock 9; number=$((100 + $(wc -l < submitted))); echo "$((last + 1)) tasks" >> submitted; } 9> lock
    cp "$script" "script.$number"
    for ((k = 0; k <= last; k++)); do
        echo "$name/$k ${number}_$k" > "queue/${number}_$k"
        {
            SLURM_ARRAY_JOB_ID=$number SLURM_ARRAY_TASK_ID=$k bash "script.$number"
            rm "queue/${number}_$k"
        } > /dev/null 2>&1 < /dev/null &
    done
    echo "$number"
    """
SQUEUE = """
    [ -e down ] && { echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1; }
    cat queue/* 2> /dev/null || true
    """
# Trains nothing: waits for a file that says how the training ends
SRUN = """
    config=${@: -1}; run=$(dirname "${config#--config=}")
    until [ -e finish ] || [ -e fail ]; do sleep 0.01; done
    [ -e fail ] || echo '{"miou": 50.0}' > "$run/result.json"
    """
START = """
import sys
from pathlib import Path
from experiments.launch.slurm import SlurmLauncher
from experiments.train.run import Run
SlurmLauncher(Path(sys.argv[1])).start([Run(path) for path in sys.argv[2:]])
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stub: Stub) -> Path:
    """Folder in which the stubs keep their state."""
    (tmp_path / "queue").mkdir()
    (tmp_path / "submitted").touch()
    stub("sbatch", SBATCH)
    stub("squeue", SQUEUE)
    stub("srun", SRUN)
    (tmp_path / "mine.yaml").write_text("gres: null")  # so that the configuration is the last argument of srun
    monkeypatch.setattr("experiments.launch.slurm.QUERY_INTERVAL_S", 0.0)
    return tmp_path


def launch(slurm: Path, *runs: Run) -> list[SlurmJob]:
    jobs = SlurmLauncher(slurm / "mine.yaml").start(runs)
    assert all(isinstance(job, SlurmJob) for job in jobs), jobs
    return jobs  # type: ignore[return-value]


def wait(job: SlurmJob) -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if (status := job.poll()) is not None:
            return status
        time.sleep(0.01)
    raise TimeoutError(job.task)


def submitted(slurm: Path) -> list[str]:
    return (slurm / "submitted").read_text().splitlines()


def test_a_job_has_no_status_until_it_ends_with_a_result(slurm: Path, run: Run) -> None:
    (job,) = launch(slurm, run)
    assert job.poll() is None
    (slurm / "finish").touch()
    assert wait(job) == 0
    assert (run.path / RESULT).is_file()


def test_all_runs_of_a_call_are_one_array_with_a_status_and_a_log_each(
    slurm: Path, runs: list[Run], stub: Stub
) -> None:
    stub("srun", f"case $SLURM_ARRAY_TASK_ID in 0) exit 1 ;; *) {SRUN} ;; esac")
    jobs = launch(slurm, *runs)
    assert submitted(slurm) == ["2 tasks"]
    assert wait(jobs[0]) == 1
    assert jobs[1].poll() is None
    (slurm / "finish").touch()
    assert wait(jobs[1]) == 0
    assert [run.log.read_text().split()[2] for run in runs] == ["100_0", "100_1"]
    assert "scancel 100_1 ends it" in jobs[1].outcome()


def test_a_job_without_a_result_has_failed_and_is_submitted_again(slurm: Path, runs: list[Run]) -> None:
    (slurm / "fail").touch()
    assert [wait(job) for job in launch(slurm, *runs)] == [1, 1]
    (slurm / "fail").unlink()
    (slurm / "finish").touch()
    (job,) = launch(slurm, runs[1])
    assert wait(job) == 0
    assert submitted(slurm) == ["2 tasks", "1 tasks"]


def test_a_later_call_submits_only_what_is_not_in_the_queue(slurm: Path, runs: list[Run]) -> None:
    launch(slurm, runs[1])
    jobs = launch(slurm, *runs)
    assert submitted(slurm) == ["1 tasks", "1 tasks"]
    assert [job.number for job in jobs] == ["101_0", "100_0"]
    (slurm / "finish").touch()
    assert [wait(job) for job in jobs] == [0, 0]


@pytest.mark.parametrize(("before", "after"), [("", "kill -9 $PPID"), ("kill -9 $PPID; exit", "")])
def test_a_call_killed_around_sbatch_leaves_no_run_lost_or_submitted_twice(
    before: str, after: str, slurm: Path, runs: list[Run], stub: Stub
) -> None:
    stub("sbatch", f"{before}\n{SBATCH}\n{after}")
    paths = [str(run.path) for run in runs]
    killed = subprocess.run([sys.executable, "-c", START, slurm / "mine.yaml", *paths], check=False)
    assert killed.returncode == -9
    stub("sbatch", SBATCH)
    jobs = launch(slurm, *runs)
    assert submitted(slurm) == ["2 tasks"]
    (slurm / "finish").touch()
    assert [wait(job) for job in jobs] == [0, 0]


def test_two_calls_at_once_submit_each_run_once(slurm: Path, runs: list[Run], stub: Stub) -> None:
    stub("sbatch", f"sleep 2\n{SBATCH}")
    paths = [str(run.path) for run in runs]
    calls = [
        subprocess.Popen([sys.executable, "-c", START, slurm / "mine.yaml", *order]) for order in (paths, paths[::-1])
    ]
    assert [call.wait() for call in calls] == [0, 0]
    assert sum(int(line.split()[0]) for line in submitted(slurm)) == 2
    jobs = launch(slurm, *runs)
    (slurm / "finish").touch()
    assert [wait(job) for job in jobs] == [0, 0]


def test_a_call_sees_what_another_one_has_submitted_since_it_began(slurm: Path, runs: list[Run]) -> None:
    late = SlurmLauncher(slurm / "mine.yaml")
    first = launch(slurm, *runs)
    jobs = late.start(runs)
    assert submitted(slurm) == ["2 tasks"]
    assert [job.number for job in jobs if isinstance(job, SlurmJob)] == ["100_0", "100_1"]
    (slurm / "finish").touch()
    assert [wait(job) for job in first] == [0, 0]


def test_a_run_that_another_process_trains_is_not_submitted(slurm: Path, runs: list[Run]) -> None:
    hold = "import fcntl, sys, time; file = open(sys.argv[1], 'a'); fcntl.lockf(file, fcntl.LOCK_EX); print(flush=True)"
    command = [sys.executable, "-c", f"{hold}; time.sleep(100)", str(runs[0].path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        (slurm / "refuse").touch()
        assert [type(job) for job in SlurmLauncher(slurm / "mine.yaml").start(runs)] == [type(None), InputError]
        (slurm / "refuse").unlink()
        jobs = SlurmLauncher(slurm / "mine.yaml").start(runs)
        other.kill()
    assert jobs[0] is None
    assert isinstance(jobs[1], SlurmJob)
    assert submitted(slurm) == ["1 tasks"]
    (slurm / "finish").touch()
    assert wait(jobs[1]) == 0


def test_jobs_survive_a_controller_that_does_not_answer(slurm: Path, run: Run) -> None:
    (job,) = launch(slurm, run)
    (slurm / "down").touch()
    assert job.poll() is None
    with pytest.raises(InputError, match="Unable to contact slurm controller"):
        SlurmLauncher()
    (slurm / "down").unlink()
    (slurm / "finish").touch()
    assert wait(job) == 0


def test_a_refused_job_has_the_reason_and_a_queued_one_is_kept(slurm: Path, runs: list[Run]) -> None:
    launch(slurm, runs[0])
    (slurm / "refuse").touch()
    jobs = SlurmLauncher(slurm / "mine.yaml").start(runs)
    assert isinstance(jobs[0], SlurmJob)
    assert isinstance(jobs[1], InputError)
    assert "invalid partition specified: gpus" in str(jobs[1])
    assert not runs[1].started  # its settings may change
    (slurm / "finish").touch()
    assert wait(jobs[0]) == 0


def test_reproduce_waits_for_the_job_of_a_cell_and_reports_its_result(
    slurm: Path, stub: Stub, small: list[str], finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = slurm / "runs/shapes/full.pce/seed0"
    stub("srun", f"sleep 0.2; cp -r {finished}/gallery {finished}/{RESULT} {run}")
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
