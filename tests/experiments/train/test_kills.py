"""The stress test of ``tests/stress`` in miniature."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "stress" / "kills.py"


def test_a_run_killed_twice_leaves_the_same_bits(tmp_path: Path) -> None:
    """By SIGKILL and by SIGUSR1, with loader processes, each time started again by the same command."""
    options = ["--kills=2", "--steps=14", "--every=3", "--most=4", "--workers=2", f"--folder={tmp_path}"]
    done = subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("kill ") == 2
    assert "identical: weights, momentum, best" in done.stdout
