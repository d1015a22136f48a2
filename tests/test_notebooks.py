"""Every notebook runs from top to bottom, and none is committed with output."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from experiments.cli import main

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
PICTURES = {"loss_on_one_image": 3, "paper_figures": 5}
TINY = [
    *("--trainer.val_check_interval=2", "--data.num_train=8", "--data.num_val=3", "--data.size=64"),
    *(
        "--data.augmentation.crop=64",
        "--data.loader.batch_size=2",
        "--model.network.init_args.channels=16",
        "--model.regularizer_start_step=1",
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a table of which two cells are finished; the first belongs to Table 1 as well."""
    folder = tmp_path_factory.mktemp("notebooks")
    options = ["--rows", "clicks", "--columns", "sigma_xy=6", "sigma_xy=10", "--max_steps", "2"]
    main(["reproduce", "table3", *options, "--runs", str(folder / "runs"), "--", *TINY])
    return folder


def execute(path: Path, folder: Path) -> list[nbformat.NotebookNode]:
    """Return the cells with code, executed."""
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in code)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    return code


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_draws(path: Path, folder: Path) -> None:
    outputs = [output for cell in execute(path, folder) for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == PICTURES[path.stem]


def test_figures_without_finished_runs_say_what_to_do(tmp_path: Path) -> None:
    (path,) = (path for path in NOTEBOOKS if path.stem == "paper_figures")
    with pytest.raises(CellExecutionError, match=r"runs/shapes holds no finished run; see: gatedcrf reproduce"):
        execute(path, tmp_path)
