"""A small version of the stress test in ``tests/stress``."""

import runpy
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "stress" / "kills.py"


def test_a_run_killed_twice_leaves_the_same_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Kill a run with loader processes by SIGKILL and SIGUSR1, and restart it with the same command."""
    options = ["--kills=2", "--steps=14", "--every=9", "--minutes=0", "--most=4", "--workers=2", f"--folder={tmp_path}"]
    threads = torch.get_num_threads()
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT))["main"](options)
    torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert ended.value.code == 0, printed
    assert printed.count("kill ") == 2
    assert "identical: weights, momentum, best" in printed
