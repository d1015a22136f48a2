"""How commands name a dataset: its folder, the file in ``experiments/datasets/`` and the supervision."""

import argparse
import json
from importlib import import_module
from inspect import Parameter, signature
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from datamodules.datamodule import SegmentationDataModule
from datamodules.io.errors import InputError
from experiments import EXPERIMENTS
from experiments.train.configuration import expand, find_config

SUPERVISIONS = ("clicks", "keypoints", "scribbles", "full")


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that :func:`load_dataset` reads."""
    known = sorted(path.stem for path in (EXPERIMENTS / "datasets").glob("*.yaml"))
    parser.add_argument("root", nargs="?", help="folder of the dataset")
    parser.add_argument("--dataset", choices=known, default="folder", help="how the folder is laid out")
    parser.add_argument("--supervision", choices=SUPERVISIONS, default="clicks", help="which labels to read")
    parser.epilog = "Any option of the dataset may follow as --data.NAME=VALUE."


def load_dataset(options: argparse.Namespace) -> SegmentationDataModule:
    """Return the dataset that the arguments name.

    Raises:
        InputError: An option that it does not have, or a folder that is not laid out that way.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(SegmentationDataModule, "data")
    settings: dict[str, Any] = {}
    for file in expand(find_config(f"datasets/{options.dataset}.yaml")):
        data = yaml.safe_load(file.read_text()).get("data", {})
        settings |= {"class_path": data.get("class_path", settings.get("class_path")), **data.get("init_args", {})}
    class_path = settings.pop("class_path")
    settings |= {"supervision": options.supervision} | ({} if options.root is None else {"root": options.root})
    _check_required(options, class_path, settings)
    given = [f"--data.{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in settings.items()]
    try:
        config = parser.parse_args([f"--data={class_path}", *given, *options.settings])
    except ArgumentError as error:
        raise InputError(f"{options.dataset}: {error}") from error
    datamodule: SegmentationDataModule = parser.instantiate(config).data
    return datamodule


def _check_required(options: argparse.Namespace, class_path: str, settings: dict[str, Any]) -> None:
    """Refuse a folder that the dataset does not take, and name what it needs instead."""
    module, _, name = class_path.rpartition(".")
    parameters = signature(getattr(import_module(module), name)).parameters
    if options.root is not None and "root" not in parameters:
        raise InputError(
            f"The dataset {options.dataset} takes no folder {options.root!r}, but options: --data.NAME=VALUE."
        )
    given = {*settings, *(setting.removeprefix("--data.").partition("=")[0] for setting in options.settings)}
    required = [key for key, parameter in parameters.items() if parameter.default is Parameter.empty]
    missing = ["its folder" if key == "root" else f"--data.{key}" for key in required if key not in given]
    if missing:
        raise InputError(f"The dataset {options.dataset} lacks {', '.join(missing)}.")
