from pathlib import Path

import pytest

from experiments.benchmarks.train_step import step_flops
from experiments.tables.cell import Cell
from experiments.tables.gpu_hours import SUSTAINED_TFLOPS, gpu_hours
from experiments.tables.table import Table
from lightning_modules.deeplab_v3plus import DeepLabV3Plus


def cell(dataset: str, *options: str) -> Cell:
    training = Table.load("table1").specs["clicks", "GCRF_s"]
    return Cell(
        training, dataset, "paper", 0, Path("run"), "clicks/GCRF_s", "table1", options=("--data.root=here", *options)
    )


def test_hours_are_operations_of_all_steps_over_the_speed() -> None:
    network = DeepLabV3Plus(21, backbone="resnet34.tv_in1k", pretrained=False)
    expected = step_flops(network, 48, 256) * 90_000 / (SUSTAINED_TFLOPS * 1e12) / 3600
    assert gpu_hours(cell("voc")) == pytest.approx(expected)


def test_options_of_the_cell_count() -> None:
    hours = gpu_hours(cell("voc"))
    assert gpu_hours(cell("voc", "--trainer.max_steps=45000")) == pytest.approx(hours / 2)
    assert gpu_hours(cell("voc", "--data.loader.batch_size=24")) == pytest.approx(hours / 2, rel=1e-6)
    assert gpu_hours(cell("voc", "--data.augmentation.crop=512")) == pytest.approx(4 * hours, rel=0.05)
    assert gpu_hours(cell("shapes")) < hours / 1000
