"""Every distinct training of the paper's tables makes one step through the real command line on trees as released."""

import json
import shutil
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.tables.cell import Cell
from experiments.tables.table import CellSpec, Table
from experiments.train.run import load_config

TINY = (
    "--data.published_split=false",
    "--data.augmentation.crop=32",
    "--data.loader.batch_size=2",
    "--data.loader.num_workers=0",
    "--model.network.init_args.backbone=resnet10t",
    "--model.network.init_args.pretrained=false",
    "--model.network.init_args.channels=16",
    "--trainer.max_steps=1",
    "--trainer.num_sanity_val_steps=0",
    "--trainer.accelerator=cpu",
)


def distinct(dataset: str) -> dict[str, CellSpec]:
    """Return the trainings by name."""
    tables = [Table.load(f"table{number}") for number in range(1, 6)]
    cells = [(table, cell) for table in tables if dataset in table.paper for cell in table.cells(dataset)]
    return {table.specs[cell].name: table.specs[cell] for table, cell in cells}


VOC, CITYSCAPES = distinct("voc"), distinct("cityscapes")


def step(root: Path, run: Path, dataset: str, training: CellSpec, protocol: str = "paper") -> Cell:
    options = (*TINY, f"--data.root={root}")
    cell = Cell(training, dataset, protocol, seed=0, run=run, label="row/column", table="table", options=options)
    cell.prepare()
    main(cell.command()[3:])
    result = cell.result()
    assert result is not None
    assert result["steps"] == 1
    assert (run / "checkpoints" / "last.ckpt").is_file()
    return cell


def test_tables_have_38_trainings() -> None:
    assert len(VOC) + len(CITYSCAPES) == 38


@pytest.mark.parametrize("name", VOC)
def test_voc_cell_trains(voc_root: Path, tmp_path: Path, name: str) -> None:
    training = VOC[name]
    if training.weak:
        shutil.rmtree(voc_root / "benchmark_RELEASE")  # only full supervision needs the masks of SBD
    cell = step(voc_root, tmp_path / "run", "voc", training)
    config = load_config(cell.run)
    assert config["data"]["init_args"]["supervision"] == name.split(".")[0]
    regularizer = config["model"]["regularizer"]
    assert (regularizer is None) == (".pce" in name)
    if "sigma_xy=" in name:
        xy = float(name.partition("sigma_xy=")[2])
        assert regularizer["init_args"]["kernels"][0]["sigma"]["xy"] == xy
    if "lambda=" in name:
        assert config["model"]["regularizer_weight"] == float(name.partition("lambda=")[2])
    if "3x3" in name:
        assert config["data"]["init_args"]["width"] == 3


@pytest.mark.parametrize("name", CITYSCAPES)
def test_cityscapes_cell_trains(cityscapes_root: Path, tmp_path: Path, name: str) -> None:
    main(["data", "cityscapes-clicks", str(cityscapes_root), "--workers", "1"])
    cell = step(cityscapes_root, tmp_path / "run", "cityscapes", CITYSCAPES[name])
    config = load_config(cell.run)["model"]
    clicks = name.startswith("clicks")
    assert config["supervised_loss"]["init_args"]["class_weights"] == ("batch" if clicks else None)
    assert config["regularizer_start_step"] == (100 if clicks and "gcrf" in name else 0)


@pytest.mark.parametrize("dataset", ["voc", "cityscapes"])
def test_protocol_of_the_authors_trains(dataset: str, voc_root: Path, cityscapes_root: Path, tmp_path: Path) -> None:
    main(["data", "cityscapes-clicks", str(cityscapes_root), "--workers", "1"])
    root = {"voc": voc_root, "cityscapes": cityscapes_root}[dataset]
    cell = step(root, tmp_path / "run", dataset, VOC["clicks.gcrf_s"], protocol="authors")
    config = load_config(cell.run)
    assert config["data"]["init_args"]["window_scale"] is True
    assert config["model"]["regularizer_start_step"] == 451
    assert config["model"]["supervised_loss"]["init_args"]["class_weights"] == "dataset"
    assert config["model"]["regularizer"]["init_args"]["authors_denominator"] is True


def test_a_changed_cell_is_refused_and_says_what_changed(tmp_path: Path) -> None:
    def prepare(table: str, **changes: str) -> None:
        training = Table.load("table4").specs["clicks", table]
        Cell(training, "voc", "paper", 0, tmp_path, "a/b", "t", options=tuple(changes.values())).prepare()

    prepare("lambda=0.3", steps="--trainer.max_stops=7")  # nothing was trained by this, so it may be corrected
    prepare("lambda=0.2", where="--data.root=here", steps="--trainer.max_steps=7")
    (tmp_path / "checkpoints").mkdir()
    record = json.loads((tmp_path / "cell.json").read_text())
    assert record["config"]["model"]["regularizer_weight"] == 0.2
    prepare("lambda=0.2", where="--data.root=there", steps="--trainer.max_steps=7")  # a moved folder changes nothing
    with pytest.raises(ValueError, match=r"config\.model\.weight: 0\.2 before, 0\.3 now"):
        prepare("lambda=0.3", where="--data.root=here", steps="--trainer.max_steps=7")
    with pytest.raises(ValueError, match=r"options.*max_steps=7.*max_steps=8"):
        prepare("lambda=0.2", steps="--trainer.max_steps=8")
    assert json.loads((tmp_path / "cell.json").read_text()) == record


def test_step_is_that_of_the_last_line_of_a_log_of_any_length(tmp_path: Path) -> None:
    cell = Cell(VOC["clicks.pce"], "voc", "paper", 0, tmp_path, "a/b", "t")
    assert cell.step() == 0
    log = tmp_path / "metrics.csv"
    log.write_text("epoch,step,train/loss\n")
    assert cell.step() == 0
    log.write_text("epoch,step,train/loss\n0,49,1.5\n")
    assert cell.step() == 49
    log.write_text("epoch,step,train/loss\n" + "".join(f"0,{step},{step / 7}\n" for step in range(2000)))
    assert cell.step() == 1999
