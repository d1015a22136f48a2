"""Shared by the commands: load the dataset of the options, and check output files."""

import argparse
import json
import os
from pathlib import Path

from datamodules.datamodule import SegmentationDataModule
from datamodules.io.errors import InputError
from experiments.train.build import build_datamodule
from experiments.train.cli import parse


def load_dataset(options: argparse.Namespace) -> SegmentationDataModule:
    """Build the datamodule of ``datasets/NAME.yaml`` with the options of the command line.

    Raises:
        InputError: An option is missing, unknown or invalid, or the dataset cannot be opened.
    """
    given = {"supervision": options.supervision} | ({} if options.root is None else {"root": options.root})
    configs = (f"datasets/{options.dataset}.yaml", json.dumps({"data": {"init_args": given}}))
    return build_datamodule(parse(["fit", *(f"--config={config}" for config in configs), *options.settings]))


def check_output(path: Path, force: bool) -> None:
    """Create the folder of an output file, and fail before long work if the file cannot be written.

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
