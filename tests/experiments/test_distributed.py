"""Evaluation in two processes on the real command line."""

import subprocess
import sys
from pathlib import Path


def test_two_processes_count_the_same_as_one(finished: Path, tmp_path: Path) -> None:
    """Three images on two ranks: torch's own sampler would count one of them twice."""
    tables = []
    for devices in (1, 2):
        run = tmp_path / str(devices)
        options = ["--trainer.accelerator=cpu", f"--trainer.devices={devices}", f"--trainer.default_root_dir={run}"]
        checkpoint = f"--ckpt_path={finished / 'checkpoints/last.ckpt'}"
        command = [sys.executable, "-m", "experiments.cli", "validate", "-c", str(finished / "config.yaml"), checkpoint]
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        tables.append((run / "iou_per_class.csv").read_text())
    assert tables[0] == tables[1]
    assert "background" in tables[0]
