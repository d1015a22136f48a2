from pathlib import Path

import pytest

from experiments.train.cli import parse
from experiments.train.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A prepared run in a folder whose name the shell and SLURM might expand."""
    run = Run(tmp_path / "it's 50% of $HOME/shapes/clicks.pce/seed0")
    run.prepare(parse(["fit", "-c", "datasets/shapes.yaml", f"--trainer.default_root_dir={run.path}"]))
    return run
