"""Every notebook runs from top to bottom, and is committed without output."""

from pathlib import Path
from shutil import copytree

import nbformat
import pytest
from nbclient import NotebookClient

from experiments.cli import main

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
PICTURES = {"loss_on_one_image": 3, "paper_figures": 5}
TINY = [
    *("--trainer.max_steps=1", "--trainer.val_check_interval=1", "--data.num_train=2", "--data.num_val=3"),
    *("--data.size=64", "--data.augmentation.crop=64", "--data.loader.batch_size=2", "--data.loader.num_workers=0"),
    *("--model.network.init_args.backbone=test_resnet", "--model.network.init_args.channels=16"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Working directory with two finished runs: a cell of Tables 1 and 3, and a copy as another cell of Table 3."""
    folder = tmp_path_factory.mktemp("notebooks")
    runs = [folder / "runs" / "shapes" / name / "seed0" for name in ("clicks.gcrf_s", "clicks.gcrf_s.sigma_xy=10")]
    configs = ("-c", "datasets/shapes.yaml", "-c", "supervision/clicks.yaml")
    main(["fit", *configs, *TINY, f"--trainer.default_root_dir={runs[0]}"])
    copytree(*runs)
    return folder


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_draws(path: Path, folder: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in code)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in code for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == PICTURES[path.stem]
