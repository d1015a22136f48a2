from pathlib import Path

import pytest

from experiments.tables.cell import Cell
from experiments.tables.table import CellSpec
from experiments.train.run import Run


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    """A cell that is trained in an empty folder, whose name the shell and SLURM might expand."""
    run = Run(tmp_path / "it's 50% of $HOME/shapes/clicks.pce/seed0")
    run.path.mkdir(parents=True)
    spec = CellSpec("supervision/clicks.yaml", "losses/pce.yaml")
    return Cell(spec, "shapes", "paper", 0, run, "clicks/pCE", "table1")
