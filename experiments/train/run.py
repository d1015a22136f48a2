"""What a run directory tells about itself."""

from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser

from datamodules.datamodule import SegmentationDataModule
from lightning_modules.weak_segmentation import WeakSegmentation


def load_config(run: Path) -> dict[str, Any]:
    """Return the resolved configuration of a run, that of its last start.

    Raises:
        InputError: The directory holds no run.
    """
    later = sorted(run.glob("config.*.yaml"), key=lambda path: int(path.suffixes[0][1:]))
    config: dict[str, Any] = yaml.safe_load([run / "config.yaml", *later][-1].read_text())
    return config


def load_datamodule(run: Path) -> SegmentationDataModule:
    """Rebuild the datamodule that a run was trained with."""
    parser = ArgumentParser()
    parser.add_subclass_arguments(SegmentationDataModule, "data")
    parsed = parser.parse_object({"data": load_config(run)["data"]})
    datamodule: SegmentationDataModule = parser.instantiate(parsed).data
    return datamodule


def load_model(run: Path, checkpoint: str = "best") -> WeakSegmentation:
    """Rebuild the model of a run with the weights of one of its checkpoints, ready to predict.

    Args:
        run: The run directory.
        checkpoint: "best" (by mIoU on val) or "last".

    Raises:
        InputError: The run has no such checkpoint.
    """
    weights = torch.load(run / "checkpoints" / f"{checkpoint}.ckpt", map_location="cpu", weights_only=True)
    datamodule = load_datamodule(run)
    config = load_config(run)["model"]
    config["network"]["init_args"] |= {"num_classes": datamodule.num_classes, "pretrained": False}
    config["class_names"] = datamodule.class_names
    parser = ArgumentParser()
    parser.add_class_arguments(WeakSegmentation, "model")
    model: WeakSegmentation = parser.instantiate(parser.parse_object({"model": config})).model
    model.load_state_dict(weights["state_dict"])
    return model.eval()
