"""All 38 trainings of the paper's tables, on datasets laid out as released."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datamodules.io.errors import InputError
from experiments.cli import main
from experiments.tables.cell import Cell
from experiments.tables.reproduce import prepare
from experiments.tables.table import CellSpec, Table
from experiments.train.run import Run

TINY = (
    *("--data.published_split=false", "--data.augmentation.crop=32", "--data.loader={batch_size: 2, num_workers: 0}"),
    *("--model.network.init_args.backbone=test_resnet", "--model.network.init_args.pretrained=false"),
    *("--model.network.init_args.channels=8", "--trainer.max_steps=1", "--trainer.num_sanity_val_steps=0"),
    "--trainer.accelerator=cpu",
)


def distinct(dataset: str) -> dict[str, CellSpec]:
    """Return the trainings of all tables on a dataset, by name."""
    tables = [Table.load(f"table{number}") for number in range(1, 6)]
    cells = [(table, cell) for table in tables if dataset in table.paper for cell in table.cells(dataset)]
    return {table.specs[cell].name: table.specs[cell] for table, cell in cells}


SPECS = {(dataset, name): spec for dataset in ("voc", "cityscapes") for name, spec in distinct(dataset).items()}
PARTS = {(dataset, spec.supervision, spec.loss): name for (dataset, name), spec in reversed(SPECS.items())}


def make_cell(dataset: str, name: str, root: Path, run: Path, *options: str, protocol: str = "paper") -> Cell:
    spec, options = SPECS[dataset, name], (*TINY, f"--data.root={root}", *options)
    return Cell(spec, dataset, protocol, seed=0, run=Run(run), label="row/column", table="table", options=options)


@pytest.fixture
def roots(voc_root: Path, cityscapes_root: Path) -> dict[str, Path]:
    main(["data", "cityscapes-clicks", str(cityscapes_root), "--workers", "1"])
    return {"voc": voc_root, "cityscapes": cityscapes_root}


def test_tables_have_38_trainings() -> None:
    assert len(SPECS) == 38
    assert len(PARTS) == 18


@pytest.mark.parametrize(("dataset", "name"), SPECS)
def test_cell_resolves_to_the_settings_of_its_row_and_column(dataset: str, name: str, tmp_path: Path) -> None:
    config = make_cell(dataset, name, tmp_path, tmp_path / "run").resolve()
    data, model = config["data"]["init_args"], config["model"]
    assert data["supervision"] == name.split(".")[0]
    assert data["stroke_width"] == (3 if "3x3" in name else {"voc": None, "cityscapes": 1}[dataset])
    assert (model["regularizer"] is None) == (".pce" in name)
    if model["regularizer"] is not None:
        kernels = model["regularizer"]["init_args"]["kernels"] or [{"sigma": {"xy": 6.0}}]
        assert kernels[0]["sigma"]["xy"] == float(name.partition("sigma_xy=")[2] or 6)
        assert model["regularizer_weight"] == float(name.partition("lambda=")[2] or 0.1)
        gates = {"gcrf": (False, False), "gcrf_s": (True, False), "gcrf_sd": (True, True)}
        assert (model["gate_source"], model["gate_destination"]) == gates[name.split(".")[1]]
    warm_up = dataset == "cityscapes" and name.startswith("clicks")
    assert model["regularizer_start_step"] == (100 if warm_up and "gcrf" in name else 0)
    assert model["supervised_loss"]["init_args"]["class_weights"] == ("batch" if warm_up else None)


@pytest.mark.parametrize(("dataset", "name"), [(dataset, name) for (dataset, *_), name in PARTS.items()])
def test_each_dataset_trains_with_each_supervision_and_loss(
    dataset: str, name: str, roots: dict[str, Path], tmp_path: Path
) -> None:
    if dataset == "voc" and not name.startswith("full"):
        shutil.rmtree(roots["voc"] / "benchmark_RELEASE")  # only full supervision reads the masks of SBD
    assert train(make_cell(dataset, name, roots[dataset], tmp_path / "run"))["steps"] == 1


@pytest.mark.parametrize("dataset", ["voc", "cityscapes"])
def test_protocol_of_the_authors_trains(dataset: str, roots: dict[str, Path], tmp_path: Path) -> None:
    cell = make_cell(dataset, "clicks.gcrf_s", roots[dataset], tmp_path / "run", protocol="authors")
    train(cell)
    data, model = cell.run.config["data"]["init_args"], cell.run.config["model"]
    assert data["augmentation"]["window_scale"] is True
    assert model["regularizer_start_step"] == 451
    assert model["supervised_loss"]["init_args"]["class_weights"] == "dataset"
    assert model["regularizer"]["init_args"]["authors_denominator"] is True


def train(cell: Cell) -> dict[str, Any]:
    """Run the command of a cell in this process and return its result."""
    prepare([cell])
    main(cell.run.command()[3:])
    result = cell.run.result()
    assert result is not None
    return result


@pytest.fixture
def started(tmp_path: Path) -> Callable[..., None]:
    """Prepare a cell of Table 4 in the directory of another training."""

    def make(name: str, *options: str) -> None:
        prepare([make_cell("voc", f"clicks.gcrf_s.lambda={name}", tmp_path, tmp_path / "run", *options)])

    make("0.3")
    make("0.2", "--data.root=here")  # nothing has been trained, so the cell may change
    (tmp_path / "run" / "checkpoints").mkdir()
    return make


def test_changed_cell_is_refused_with_what_changed(started: Callable[..., None], tmp_path: Path) -> None:
    before = Run(tmp_path / "run").config
    assert before["model"]["regularizer_weight"] == 0.2
    with pytest.raises(InputError, match=r"model\.regularizer_weight: 0\.2 before, 0\.3 now"):
        started("0.3", "--data.root=here")
    with pytest.raises(InputError, match=r"trainer\.max_steps: 1 before, 8 now"):
        started("0.2", "--trainer.max_steps=8")
    assert Run(tmp_path / "run").config == before


def test_runtime_options_of_a_started_cell_may_change(started: Callable[..., None], tmp_path: Path) -> None:
    started("0.2", "--data.root=there", "--data.loader.num_workers=3", "--trainer.logger=false")
    data = Run(tmp_path / "run").config["data"]["init_args"]
    assert (data["root"], data["loader"]["num_workers"]) == ("there", 3)


def test_step_is_that_of_the_last_line_of_a_log_of_any_length(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.step() == 0
    log = tmp_path / "metrics.csv"
    log.write_text("epoch,step,train/loss\n")
    assert run.step() == 0
    log.write_text("epoch,step,train/loss\n" + "".join(f"0,{step},{step / 7}\n" for step in range(2000)))
    assert run.step() == 1999
