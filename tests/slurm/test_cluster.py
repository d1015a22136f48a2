"""The SLURM launcher on a real controller and daemon: preempted, warned, canceled and completed jobs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from math import ceil
from pathlib import Path

import pytest
import torch

from experiments import RESULT
from experiments.train.run import Run

pytestmark = pytest.mark.skipif(
    "GATEDCRF_SLURM" not in os.environ,
    reason="needs its own SLURM cluster: tests/slurm/cluster.sh python -m pytest tests/slurm",
)

STEPS = 200
OPTIONS = [
    "--trainer.accelerator=cpu",
    *(f"--trainer.max_steps={STEPS}", f"--trainer.val_check_interval={STEPS // 2}", "--trainer.log_every_n_steps=1"),
    *("--data.num_train=16", "--data.num_val=3", "--data.size=96"),
    *("--data.augmentation.crop=96", "--data.loader.batch_size=4"),
    *("--model.network.init_args.channels=16", "--model.regularizer_start_step=1"),
]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
SETTINGS = "{time: '00:10:00', warning: 100, cpus_per_task: 1, memory: 1500M, gres: null, jobs: 2}"


class Reproduction:
    """A process of ``gatedcrf reproduce table1``, which may be killed and started again."""

    def __init__(self, folder: Path, *cells: str, launcher: str = "slurm", devices: int = 1) -> None:
        self.folder, self.output = folder, folder / "printed.txt"
        folder.mkdir()
        (folder / "slurm.yaml").write_text(SETTINGS)
        slurm = [f"--slurm={folder / 'slurm.yaml'}"] if launcher == "slurm" else []
        options = [f"--launcher={launcher}", *slurm, f"--devices={devices}", f"--runs={folder}"]
        self.command = [sys.executable, "-m", "experiments.cli", "reproduce", "table1", "--wandb", *options]
        self.command += ["--cells", *cells, "--", *OPTIONS]
        self.call()

    def call(self) -> None:
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(self.command, stdout=output, stderr=subprocess.STDOUT, env=ENVIRONMENT)

    def run(self, training: str) -> Path:
        return self.folder / "shapes" / training / "seed0"

    def ended(self) -> int:
        return self.process.wait(timeout=400)


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def jobs() -> dict[str, str]:
    """Return the state of each task of this user by its id."""
    lines = slurm("squeue", "--array", "--noheader", "--format=%i %T").splitlines()
    return dict(line.split() for line in lines)


def until(condition: Callable[[], bool], what: str, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s; {slurm('scontrol', 'show', 'job')}"
        time.sleep(0.2)


def step(run: Path, metrics: str = "metrics.csv") -> int:
    """Return the last step in a file of metrics."""
    lines = (run / metrics).read_text().splitlines() if (run / metrics).is_file() else [""]
    column = lines[0].split(",").index("step") if len(lines) > 1 else 0
    return max((int(line.split(",")[column]) for line in lines[1:]), default=0)


def requeued(job: str) -> bool:
    return "Restarts=1" in slurm("scontrol", "show", "job", job)


def release(*requeued_jobs: str) -> None:
    """Start requeued jobs now instead of after the two minutes that SLURM waits, but not before they have ended."""
    time.sleep(10)
    for job in requeued_jobs:
        subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], capture_output=True, check=False)
        slurm("scontrol", "update", f"JobId={job}", "TimeLimit=10")


def shorten(job: str) -> None:
    """Limit a job to one or two more minutes, less than its warning: SLURM warns it within 30 seconds."""
    began = datetime.fromisoformat(slurm("squeue", "--noheader", f"--jobs={job}", "--format=%S").strip())
    minutes = ceil((datetime.now() - began).total_seconds() / 60) + 1
    slurm("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}")


def checkpoint(run: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return weights


def assert_continued(run: Path, reference: Path) -> None:
    """Assert two starts under one W&B id, and the same weights and result as a run that was never stopped."""
    log = Run(run).log.read_text()
    assert [log.count(f"requeued {times} times") for times in range(3)] == [1, 1, 0]
    assert 5 <= step(run, "metrics.1.csv") < STEPS - 1
    offline = [path.name for path in (run / "wandb").glob("offline-run-*")]
    assert len(offline) == 2
    assert {name.rpartition("-")[2] for name in offline} == {(run / "wandb_id").read_text().strip()}
    torch.testing.assert_close(checkpoint(run), checkpoint(reference), rtol=0, atol=0)
    assert (run / RESULT).read_bytes() == (reference / RESULT).read_bytes()


def test_preempted_jobs_end_in_the_weights_of_uninterrupted_runs(tmp_path: Path) -> None:
    """Interrupt, kill and repeat the command, then submit a job of higher priority."""
    cells = {"clicks/GCRF_s": "clicks.gcrf_s", "full/pCE": "full.pce"}
    table = Reproduction(tmp_path / "slurm", *cells)
    runs = [table.run(training) for training in cells.values()]
    until(lambda: all(step(run) >= 5 for run in runs), "training of both cells")
    first = jobs()
    assert list(first.values()) == ["RUNNING"] * 2

    table.process.send_signal(signal.SIGINT)
    assert table.ended() == 130
    assert jobs() == first
    table.call()
    until(lambda: table.output.read_text().count("full/pCE/seed0: started") == 2, "attaching")
    table.process.kill()
    table.ended()
    table.call()

    slurm("sbatch", "--partition=urgent", "--ntasks=4", "--output=/dev/null", "--wrap=sleep 3")
    for job in first:
        until(lambda job=job: requeued(job), "requeuing")  # type: ignore[misc]
    release(*first)
    assert table.ended() == 0, table.output.read_text()

    reference = Reproduction(tmp_path / "local", *cells, launcher="local")
    assert reference.ended() == 0, reference.output.read_text()
    for training in cells.values():
        assert_continued(table.run(training), reference.run(training))


def test_a_job_on_two_devices_continues_after_its_time_limit(tmp_path: Path) -> None:
    """SLURM sends SIGUSR1 before the limit, and both processes stop after the same step."""
    table = Reproduction(tmp_path / "slurm", "clicks/GCRF_s", devices=2)
    until(lambda: step(table.run("clicks.gcrf_s")) >= 5, "training")
    (job,) = jobs()
    shorten(job)
    until(lambda: requeued(job), "requeuing")
    release(job)
    assert table.ended() == 0, table.output.read_text()

    reference = Reproduction(tmp_path / "local", "clicks/GCRF_s", launcher="local", devices=2)
    assert reference.ended() == 0, reference.output.read_text()
    assert_continued(table.run("clicks.gcrf_s"), reference.run("clicks.gcrf_s"))


def test_a_stopped_task_is_requeued_alone(tmp_path: Path) -> None:
    """The id of the last task is that of the whole array, which scontrol would requeue."""
    table = Reproduction(tmp_path / "slurm", "clicks/GCRF_s", "full/pCE")
    runs = [table.run(training) for training in ("clicks.gcrf_s", "full.pce")]
    until(lambda: all(step(run) >= 5 for run in runs), "training of both cells")
    first, last = sorted(jobs())
    slurm("scancel", "--signal=USR1", last)
    until(lambda: requeued(last), "requeuing")
    assert jobs()[first] == "RUNNING"
    assert not requeued(first)
    slurm("scancel", first)
    until(lambda: "clicks/GCRF_s/seed0: failed" in table.output.read_text(), "the end of the canceled task")
    assert last in jobs()
    slurm("scancel", last)
    assert table.ended() == 1


def test_a_canceled_job_stays_canceled(tmp_path: Path) -> None:
    """scancel sends SIGTERM, as preemption does."""
    table = Reproduction(tmp_path / "slurm", "full/pCE")
    run = table.run("full.pce")
    until(lambda: step(run) >= 5, "training")
    slurm("scancel", *jobs())
    assert table.ended() == 1
    assert jobs() == {}
    assert "full/pCE/seed0: failed" in table.output.read_text()
    assert not (run / RESULT).exists()
    assert (run / "checkpoints/last.ckpt").is_file()
