"""How commands name a dataset: its folder, the file in ``experiments/datasets/`` and the supervision."""

import argparse
import json
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from datamodules.datamodule import SegmentationDataModule
from experiments import EXPERIMENTS
from experiments.inheritance import expand, find_config

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
        ValueError: An option that it does not have, or a folder that is not laid out that way.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(SegmentationDataModule, "data")
    settings: dict[str, Any] = {}
    for file in expand(find_config(f"datasets/{options.dataset}.yaml")):
        data = yaml.safe_load(file.read_text()).get("data", {})
        settings |= {"class_path": data.get("class_path", settings.get("class_path")), **data.get("init_args", {})}
    class_path = settings.pop("class_path")
    settings |= {"supervision": options.supervision} | ({} if options.root is None else {"root": options.root})
    given = [f"--data.{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in settings.items()]
    try:
        config = parser.parse_args([f"--data={class_path}", *given, *options.settings])
    except ArgumentError as error:
        raise ValueError(f"{options.dataset}: {error}") from error
    datamodule: SegmentationDataModule = parser.instantiate(config).data
    return datamodule
