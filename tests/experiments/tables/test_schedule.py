"""Cells side by side, and calls beside each other, with real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from experiments import RESULT
from experiments.cli import main

CELLS = ("clicks/pCE", "clicks/GCRF_s", "full/pCE")
TRAININGS = ("clicks.pce", "clicks.gcrf_s", "full.pce")


class Call:
    """A process of ``gatedcrf reproduce table1`` in its own process group, as a shell starts it."""

    def __init__(self, runs: Path, options: list[str], *arguments: str) -> None:
        self.output = runs / f"{time.monotonic_ns()}.txt"
        command = [sys.executable, "-m", "experiments.cli", "reproduce", "table1", f"--runs={runs}"]
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                [*command, *arguments, "--", *options], stdout=file, stderr=file, start_new_session=True
            )

    def ended(self) -> int:
        return self.process.wait(timeout=200)

    def printed(self) -> str:
        return self.output.read_text()


def until(condition: object, seconds: float = 100) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def run_of(runs: Path, training: str) -> Path:
    return runs / "shapes" / training / "seed0"


@contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Lock a run as a process that trains in it."""
    folder.mkdir(parents=True, exist_ok=True)
    code = "import fcntl, sys, time; file = open(sys.argv[1], 'a'); fcntl.lockf(file, fcntl.LOCK_EX); print(flush=True)"
    command = [sys.executable, "-c", f"{code}; time.sleep(300)", str(folder / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_parallel_cells_run_side_by_side_and_a_freed_slot_is_used_again(tmp_path: Path, small: list[str]) -> None:
    call = Call(tmp_path, small, "--parallel=2", "--cells", *CELLS)
    assert call.ended() == 0, call.printed()
    events = [
        "started" if "started" in line else "result"
        for line in call.printed().splitlines()
        if line.startswith("[") or "mIoU in" in line
    ]
    assert events[:3] == ["started", "started", "result"]
    assert sorted(events) == ["result"] * 3 + ["started"] * 3


def test_two_calls_at_once_train_each_cell_once_and_both_print_the_table(tmp_path: Path, small: list[str]) -> None:
    options = [*small, "--trainer.max_steps=400", "--trainer.val_check_interval=400"]
    calls = [Call(tmp_path, options, "--cells", *CELLS[1:]) for _ in range(2)]
    assert [call.ended() for call in calls] == [0, 0], [call.printed() for call in calls]
    assert any("trained by another call; waiting" in call.printed() for call in calls)
    for training in TRAININGS[1:]:
        run = run_of(tmp_path, training)
        assert json.loads((run / RESULT).read_text())["steps"] == 400
        assert not (run / "metrics.1.csv").exists()  # it was not started again
    for call in calls:
        assert "67.39" in call.printed()  # a published value of the table
        assert "kernels.png" in call.printed()


def test_a_cell_of_another_call_is_awaited_and_trained_if_that_call_dies(tmp_path: Path, small: list[str]) -> None:
    """The other call may have other runtime options."""
    main(["reproduce", "table1", f"--runs={tmp_path}", "--cells", *CELLS[1:], "--dry_run", "--", *small])
    with held(run_of(tmp_path, "clicks.gcrf_s")) as other:
        call = Call(tmp_path, [*small, "--data.loader.num_workers=0"], "--cells", *CELLS[1:])
        until(lambda: "full/pCE/seed0: " in call.printed() and "mIoU" in call.printed())  # meanwhile, the other cell
        assert call.printed().count("clicks/GCRF_s/seed0: trained by another call; waiting") == 1
        assert not (run_of(tmp_path, "clicks.gcrf_s") / "log.txt").exists()
        other.kill()
        assert call.ended() == 0, call.printed()
    assert (run_of(tmp_path, "clicks.gcrf_s") / RESULT).is_file()
    assert (run_of(tmp_path, "clicks.gcrf_s") / "log.txt").is_file()


def test_a_result_of_another_call_is_reported(tmp_path: Path, small: list[str], finished: Path) -> None:
    run = run_of(tmp_path, "full.pce")
    main(["reproduce", "table1", f"--runs={tmp_path}", "--cells", "full/pCE", "--dry_run", "--", *small])
    with held(run) as other:
        call = Call(tmp_path, small, "--cells", "full/pCE")
        until(lambda: "waiting" in call.printed())
        for name in ("gallery", RESULT):
            subprocess.run(["cp", "-r", finished / name, run], check=True)
        other.kill()
        assert call.ended() == 0, call.printed()
    miou = json.loads((run / RESULT).read_text())["miou"]
    assert f"full/pCE/seed0: {miou:.2f} mIoU, trained by another call" in call.printed()
    assert not (run / "log.txt").exists()


def test_a_locked_run_with_other_settings_is_refused(
    tmp_path: Path, small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["reproduce", "table1", f"--runs={tmp_path}", "--cells", "full/pCE", "--"]
    main([*command[:-1], "--dry_run", "--", *small])
    with held(run_of(tmp_path, "full.pce")), pytest.raises(SystemExit, match="2"):
        main([*command, *small, "--model.regularizer_weight=0.3"])
    assert "model.regularizer_weight: 0.1 before, 0.3 now" in capsys.readouterr().err


def test_a_closed_terminal_interrupts(tmp_path: Path, small: list[str]) -> None:
    """The kernel sends SIGHUP to the whole process group. The runs save before they end."""
    options = [*small, "--trainer.max_steps=100000", "--trainer.val_check_interval=20"]
    call = Call(tmp_path, options, "--parallel=2", "--cells", *CELLS[1:])
    runs = [run_of(tmp_path, training) for training in TRAININGS[1:]]
    until(lambda: all((run / "gallery").is_dir() for run in runs))  # after the first evaluation
    os.killpg(call.process.pid, signal.SIGHUP)
    assert call.ended() == 130, call.printed()
    assert call.printed().count("interrupted. The same command continues.") == 2
    for run in runs:
        assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] >= 20
