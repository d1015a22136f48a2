"""The lock of a run directory, between real processes."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.train.lock import LockedError, is_locked, lock

HOLD = """
import fcntl, sys, time
file = open(sys.argv[1] + "/lock", "a")
fcntl.lockf(file, fcntl.LOCK_EX)
print(flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that trains in ``tmp_path`` for three seconds after it has locked it."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path), "3"], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        yield other
        other.kill()


def test_a_run_that_is_trained_is_refused_and_seen(hold: subprocess.Popen[str], tmp_path: Path) -> None:
    assert is_locked(tmp_path)
    with pytest.raises(LockedError, match=f"Another process trains in {tmp_path}"):
        lock(tmp_path)
    hold.kill()
    hold.wait()
    assert not is_locked(tmp_path)


def test_a_requeued_job_waits_for_the_lock_of_a_dead_one(
    hold: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    lock(tmp_path).close()
    assert capsys.readouterr().err == f"gatedcrf: {tmp_path} is locked; waiting up to 300 s\n"


def test_a_requeued_job_does_not_wait_forever(
    hold: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    monkeypatch.setattr("experiments.train.lock.REQUEUED_PATIENCE_S", 1.0)
    began = time.monotonic()
    with pytest.raises(LockedError):
        lock(tmp_path)
    assert 1 <= time.monotonic() - began < 2.5
    assert hold.poll() is None


def test_a_probe_of_another_process_does_not_refuse_a_run(tmp_path: Path) -> None:
    """``reproduce`` holds the lock for an instant to see whether a run is trained."""
    probe = [sys.executable, "-c", HOLD, str(tmp_path), "0.3"]
    with subprocess.Popen(probe, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        lock(tmp_path).close()


def test_looking_for_a_lock_creates_no_folder(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "run")
    assert not (tmp_path / "run").exists()
