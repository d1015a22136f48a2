from pathlib import Path

import pytest

from experiments.train.cli import parse
from experiments.train.run import Run


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Two prepared runs in a folder whose name the shell and SLURM might expand."""
    runs = [Run(tmp_path / f"it's 50% of $HOME/shapes/clicks.pce/seed{seed}") for seed in range(2)]
    for run in runs:
        run.prepare(parse(["fit", "-c", "datasets/shapes.yaml", f"--trainer.default_root_dir={run.path}"]))
    return runs


@pytest.fixture
def run(runs: list[Run]) -> Run:
    return runs[0]
