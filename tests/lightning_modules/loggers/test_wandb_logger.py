"""Failures of W&B do not stop a run."""

import os
import subprocess
import sys
from pathlib import Path

END = """
import os, signal, subprocess, sys, time
from lightning_modules.loggers import ForgivingWandbLogger

logger = ForgivingWandbLogger(save_dir=sys.argv[1], offline=True)
logger.log_metrics({"train/loss": 1.0}, step=1)
service = int(subprocess.run(["pgrep", "--parent", str(os.getpid()), "wandb"], capture_output=True).stdout)
os.kill(service, signal.SIGTERM)
os.waitpid(service, 0)
logger.log_metrics({"train/loss": 0.5}, step=2)
print("the run goes on")
sys.exit(143)
"""


def test_a_run_continues_after_its_wandb_process_was_terminated(tmp_path: Path) -> None:
    """SLURM sends SIGTERM to every process of a job. W&B's process ends before the run has saved its checkpoint."""
    command = [sys.executable, "-c", END, str(tmp_path)]
    own = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}  # start a new service
    done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=120, check=False)
    assert "the run goes on" in done.stdout, done.stderr
    assert "W&B has ended" in done.stderr
    assert done.returncode == 143
