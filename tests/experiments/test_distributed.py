"""Two processes on the real command line."""

import json
import subprocess
import sys
from pathlib import Path

from experiments import RESULT


def call(command: str, config: Path, run: Path, *options: str) -> None:
    arguments = [command, "-c", str(config), f"--trainer.default_root_dir={run}", "--trainer.accelerator=cpu", *options]
    program = [sys.executable, "-m", "experiments.cli", *arguments]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_two_processes_count_the_same_as_one(finished: Path, tmp_path: Path) -> None:
    """Train on two ranks, then evaluate three images on one and on two: torch's own sampler would repeat an image."""
    config, trained = finished / "config.yaml", tmp_path / "trained"
    call("fit", config, trained, "--trainer.devices=2", "--data.batch_size=4", "--trainer.max_steps=2")
    checkpoint = f"--ckpt_path={trained / 'checkpoints/last.ckpt'}"
    call("validate", config, tmp_path / "one", checkpoint, "--trainer.devices=1")
    tables = [(run / "iou_per_class.csv").read_text() for run in (trained, tmp_path / "one" / "validate")]
    assert tables[0] == tables[1]
    assert tables[0].splitlines()[-1] == f"mean,{json.loads((trained / RESULT).read_text())['miou']:.2f}"
