"""What a run directory tells about itself."""

from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from datamodules.datamodule import SegmentationDataModule


def load_config(run: Path) -> dict[str, Any]:
    """Return the resolved configuration of a run.

    Raises:
        FileNotFoundError: The directory holds no run.
    """
    config: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text())
    return config


def load_datamodule(run: Path) -> SegmentationDataModule:
    """Rebuild the datamodule that a run was trained with."""
    parser = ArgumentParser()
    parser.add_subclass_arguments(SegmentationDataModule, "data")
    parsed = parser.parse_object({"data": load_config(run)["data"]})
    datamodule: SegmentationDataModule = parser.instantiate(parsed).data
    return datamodule
