"""What a cell will cost, before it is started."""

import json
from functools import cache

from experiments.benchmarks.train_step import step_flops
from experiments.tables.cell import Cell
from experiments.tables.cell_settings import data_settings, find_class

SUSTAINED_TFLOPS = 15.0
"""What a GPU is taken to sustain, an assumption: a tenth of the peak of an A100 in TF32, which convolutions use."""


def gpu_hours(cell: Cell) -> float:
    """Estimate the GPU hours of a cell from the operations of its network and its number of steps.

    Evaluation, below 2 percent with the paper's schedule, and waiting for data are not counted.
    """
    data, network = data_settings(cell), cell.resolved()["model"]["network"]
    settings = {**network.get("init_args", {}), "pretrained": False, "num_classes": 21}
    flops = _step_flops(network["class_path"], json.dumps(settings), int(data["batch_size"]), int(data["crop"]))
    return flops * cell.steps() / (SUSTAINED_TFLOPS * 1e12 * 3600)


@cache
def _step_flops(class_path: str, settings: str, batch: int, crop: int) -> float:
    return step_flops(find_class(class_path)(**json.loads(settings)), batch, crop)
