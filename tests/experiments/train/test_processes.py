"""A process of a run is killed."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import Callback, Trainer

WAITING = "waiting"


class Wait(Callback):
    """Waits in the third step of every process, as in a collective operation that never ends."""

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 2:
            trainer.strategy.barrier()
            if trainer.is_global_zero:
                (Path(trainer.default_root_dir) / WAITING).touch()
            time.sleep(600)


def started_by(main: int) -> list[int]:
    """Return the ids of the processes that Lightning has started for a main process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if {b"GATEDCRF_MAIN_PROCESS=%d" % main, b"LOCAL_RANK=1"} <= set(environment):
            found.append(int(folder.name))
    return found


def until(condition: Any, what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("wait", "killed", "message"),
    [
        (True, 0, "the main process {main} of this run has died, so process 1 ends"),
        (False, 0, "the main process {main} of this run has died, so process 1 ends"),
        # gloo notices it within an instant, and Lightning within five seconds
        (False, 1, "Process 1 of this run has died with status -9|Child process with PID {other} .* code -9"),
    ],
)
def test_all_processes_end_when_one_is_killed_and_name_it(
    wait: bool, killed: int, message: str, small: list[str], tmp_path: Path
) -> None:
    run, output = tmp_path / "run", tmp_path / "output.txt"
    options = [*small, "--data.loader={batch_size: 4, num_workers: 0}", "--trainer.accelerator=cpu"]
    options += ["--trainer.max_steps=100000", "--trainer.val_check_interval=100000", "--trainer.devices=2"]
    options += ["-c", "presets/ddp.yaml", f"--trainer.default_root_dir={run}", "--trainer.callbacks.every_n_minutes=0"]
    options += ["--trainer.callbacks+={class_path: test_processes.Wait}"] if wait else []
    command = [sys.executable, "-m", "experiments.cli", "fit", "-c", "datasets/shapes.yaml", "-c"]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with output.open("w") as file:
        main = subprocess.Popen(
            [*command, "supervision/clicks.yaml", *options],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": path},
        )
    try:
        ready = run / (WAITING if wait else "checkpoints/last.ckpt")
        until(lambda: ready.exists() or main.poll() is not None, "training", 120)
        assert main.poll() is None, output.read_text()
        (other,) = started_by(main.pid)
        os.kill((main.pid, other)[killed], signal.SIGKILL)
        until(lambda: main.poll() is not None and not started_by(main.pid), "the end of all processes")
        assert re.search(message.format(main=main.pid, other=other), output.read_text())
    finally:
        for process in (main.pid, *started_by(main.pid)):
            if process != main.pid or main.poll() is None:
                os.kill(process, signal.SIGKILL)
        main.wait()
