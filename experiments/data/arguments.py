"""Arguments that several commands share: a dataset to read, and a file to write."""

import argparse
import os
from pathlib import Path

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from datamodules.datamodule import SegmentationDataModule
from datamodules.io.errors import InputError
from experiments import EXPERIMENTS
from experiments.train.parser import brief


def load_dataset(options: argparse.Namespace) -> SegmentationDataModule:
    """Build the dataset of ``datasets/NAME.yaml`` with the options of the command line.

    Args:
        options: ``dataset``, ``supervision``, ``root`` and ``settings`` of :func:`experiments.data.parser.parse`.

    Raises:
        InputError: An option is missing, unknown or invalid, or the dataset cannot be opened.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(SegmentationDataModule, "data", required=True)
    shipped = yaml.safe_load((EXPERIMENTS / "datasets" / f"{options.dataset}.yaml").read_text())["data"]
    given = {"supervision": options.supervision} | ({} if options.root is None else {"root": options.root})
    configs = [f"--config={yaml.safe_dump({'data': data})}" for data in (shipped, {"init_args": given})]
    try:
        config = parser.parse_args([*configs, *options.settings])
        datamodule: SegmentationDataModule = parser.instantiate(config).data
    except (ArgumentError, ValueError) as error:  # jsonargparse raises ValueError for an error in a constructor
        raise InputError(brief(str(error))) from error
    return datamodule


def check_output(path: Path, force: bool) -> None:
    """Create the folder of an output file, and refuse a file that could not be written after long work.

    Args:
        path: The file to write.
        force: Whether to replace an existing file.

    Raises:
        InputError: The file exists, or cannot be written.
    """
    if path.is_dir() or (path.exists() and not force):
        raise InputError(f"{path} already exists; choose another file, or replace a file with --force.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another file.") from error
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path} cannot be written (no permission); choose another folder.")
