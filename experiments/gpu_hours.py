"""What a cell will cost, before it is started."""

import inspect
import json
from functools import cache
from importlib import import_module
from typing import Any

from experiments.cell import Cell
from experiments.cost import step_flops

SUSTAINED_TFLOPS = 15.0
"""What a GPU is taken to sustain, an assumption: a tenth of the peak of an A100 in TF32, which convolutions use."""


def gpu_hours(cell: Cell) -> float:
    """Estimate the GPU hours of a cell from the operations of its network and its number of steps.

    Evaluation, below 2 percent with the paper's schedule, and waiting for data are not counted.
    """
    config = cell.resolved()
    data, network = config["data"], config["model"]["network"]
    crop, batch = (_setting(cell, data, name) for name in ("crop", "batch_size"))
    settings = {**network.get("init_args", {}), "pretrained": False, "num_classes": 21}
    flops = _step_flops(network["class_path"], json.dumps(settings), batch, crop)
    return flops * cell.steps() / (SUSTAINED_TFLOPS * 1e12 * 3600)


@cache
def _step_flops(class_path: str, settings: str, batch: int, crop: int) -> float:
    return step_flops(_find(class_path)(**json.loads(settings)), batch, crop)


def _setting(cell: Cell, data: dict[str, Any], name: str) -> int:
    """Return an argument of the datamodule: given as an option, set in a file, or its default."""
    given = [option.partition("=")[2] for option in cell.options if option.startswith(f"--data.{name}=")]
    default = inspect.signature(_find(data["class_path"])).parameters[name].default
    return int(given[-1] if given else data.get("init_args", {}).get(name, default))


def _find(class_path: str) -> Any:
    module, _, name = class_path.rpartition(".")
    return getattr(import_module(module), name)
