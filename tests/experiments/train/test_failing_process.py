"""If one of two processes fails, both end within a minute and name the cause."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SECONDS = 100  # a minute, and the start of two processes
Start = Callable[[Path, int, int], subprocess.Popen[str]]


@pytest.fixture
def start(finished: Path) -> Start:
    """Start one of two processes that continue the run in a folder, or start it, with a checkpoint after each step."""

    def process(run: Path, rank: int, port: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "experiments.cli", "fit", "-c", str(finished / "config.yaml")]
        command += [f"--trainer.default_root_dir={run}", "--ckpt_path=last", "--trainer.callbacks.every_n_minutes=0"]
        command += ["-c", "presets/ddp.yaml", "--trainer.devices=2", "--trainer.accelerator=cpu"]
        command += ["--data.loader.batch_size=4", "--data.loader.num_workers=0"]
        shared = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "NODE_RANK": "0"}
        environment = {**os.environ, **shared, "LOCAL_RANK": str(rank)}
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=environment, text=True, stdout=pipe, stderr=pipe)

    return process


def ends(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Return the exit status and the last line of each process. Kill those that do not end."""
    began, found = time.monotonic(), []
    for process in processes:
        try:
            _, errors = process.communicate(timeout=SECONDS - (time.monotonic() - began))
        finally:
            process.kill()
        found.append((process.returncode, errors.splitlines()[-1]))
    return found


def test_a_checkpoint_that_one_process_cannot_write_ends_both(start: Start, small_disk: Path) -> None:
    """Only process 0 writes. Its disk has space for one checkpoint of 3.4 MB and for the best one."""
    port = 20_000 + os.getpid() % 5_000  # below the range of ephemeral ports
    (first, message), (second, _) = ends([start(small_disk / "run", rank, port) for rank in range(2)])
    assert (first, second) == (1, 1)
    assert "No checkpoint could be saved in" in message
    assert "(No space left on device)" in message


def test_processes_that_continue_at_different_steps_both_refuse(start: Start, fit: Any, tmp_path: Path) -> None:
    """Process 1 finds no checkpoint, as on a machine without the shared folder."""
    port = 25_000 + os.getpid() % 5_000
    runs = tmp_path / "with", tmp_path / "without"
    saved = fit("--data.loader.batch_size=4", "--trainer.callbacks.every_n_minutes=0")
    shutil.copytree(saved, runs[0])  # without the lock of this process
    (runs[0] / "checkpoints" / "previous.ckpt").replace(runs[0] / "checkpoints" / "last.ckpt")  # of step 3
    found = ends([start(run, rank, port) for rank, run in enumerate(runs)])
    assert [status for status, _ in found] == [2, 2]
    for _, message in found:
        assert "gatedcrf: error: The processes continue at different steps: 3, 0." in message
