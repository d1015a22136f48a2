"""What a cell passes to the classes that it names."""

import inspect
from importlib import import_module
from typing import Any

from datamodules.io.errors import InputError
from experiments.tables.cell import Cell


def find_class(class_path: str) -> Any:
    """Return the class that a configuration names."""
    module, _, name = class_path.rpartition(".")
    return getattr(import_module(module), name)


def data_settings(cell: Cell) -> dict[str, Any]:
    """Return every argument of the cell's datamodule: its default, what a file sets, or as text what an option gives.

    Raises:
        InputError: One that has no default is given nowhere.
    """
    data = cell.resolved()["data"]
    parameters = inspect.signature(find_class(data["class_path"])).parameters
    settings: dict[str, Any] = {name: parameter.default for name, parameter in parameters.items()}
    settings |= data.get("init_args", {})
    for option in cell.options:
        name, given, value = option.removeprefix("--data.").removeprefix("init_args.").partition("=")
        if option.startswith("--data.") and given:
            settings[name] = value
    missing = [f"--data.{name}=..." for name, value in settings.items() if value is inspect.Parameter.empty]
    if missing:
        raise InputError(f"The dataset {cell.dataset} needs {' '.join(missing)} at the end of the command, after --.")
    return settings
