"""Runs side by side on this machine. The processes are real, and killed before they train."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from datamodules.io.errors import InputError
from experiments.launch.local import LocalJob, LocalLauncher, visible_gpus
from experiments.train.run import Run


class Jobs:
    """Starts runs and remembers their processes."""

    def __init__(self) -> None:
        self.started: list[LocalJob] = []

    def start(self, launcher: LocalLauncher, run: Run) -> LocalJob:
        (job,) = launcher.start([run])
        assert isinstance(job, LocalJob)
        self.started.append(job)
        return job


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    jobs = Jobs()
    yield jobs
    for job in jobs.started:
        job.kill()
        job.wait()


def environment(job: LocalJob) -> dict[str, str]:
    deadline = time.monotonic() + 10
    while not (text := Path(f"/proc/{job.pid}/environ").read_text()):  # empty while the kernel loads the program
        assert time.monotonic() < deadline
    return dict(entry.split("=", 1) for entry in text.split("\0") if entry)


def test_each_slot_has_its_own_gpus_and_a_free_one_is_used_again(jobs: Jobs, runs: list[Run]) -> None:
    launcher = LocalLauncher(parallel=2, devices=2, gpus=["0", "3", "GPU-a1", "GPU-b2", "7"])
    assert launcher.limit == 2
    first, second = (jobs.start(launcher, run) for run in runs)
    assert environment(first)["CUDA_VISIBLE_DEVICES"] == "0,3"
    assert environment(second)["CUDA_VISIBLE_DEVICES"] == "GPU-a1,GPU-b2"
    first.kill()
    first.wait()
    assert environment(jobs.start(launcher, runs[0]))["CUDA_VISIBLE_DEVICES"] == "0,3"


@pytest.mark.parametrize(
    ("parallel", "given", "expected"), [(2, None, "cores // 2"), (2, "5", "5"), (10000, None, "1")]
)
def test_parallel_runs_share_the_cores_of_this_process(
    parallel: int, given: str | None, expected: str, jobs: Jobs, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    share = str(max(1, len(os.sched_getaffinity(0)) // 2)) if expected == "cores // 2" else expected
    assert environment(jobs.start(LocalLauncher(parallel), run))["OMP_NUM_THREADS"] == share


def test_a_single_run_has_the_environment_of_this_process(
    jobs: Jobs, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    seen = environment(jobs.start(LocalLauncher(gpus=["1", "2"]), run))
    assert "OMP_NUM_THREADS" not in seen
    assert seen["CUDA_VISIBLE_DEVICES"] == "1,2"


def test_more_slots_than_gpus_are_refused() -> None:
    with pytest.raises(InputError, match="--parallel 3 with --devices 2 needs 6 GPUs, but 5 are visible"):
        LocalLauncher(parallel=3, devices=2, gpus=["0", "1", "2", "3", "4"])
    LocalLauncher(parallel=3, devices=2)  # CPUs


def test_hidden_gpus_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []
