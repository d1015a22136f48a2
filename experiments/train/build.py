"""Build the data and the model of a resolved configuration."""

from collections.abc import Mapping
from typing import Any

from jsonargparse import ArgumentParser

from datamodules.datamodule import SegmentationDataModule
from datamodules.io.errors import InputError
from experiments.train.parser import brief
from lightning_modules.self_contained import without_weights
from lightning_modules.weak_segmentation import WeakSegmentation


def build_datamodule(config: Mapping[str, Any]) -> SegmentationDataModule:
    """Build the datamodule of a resolved configuration.

    Raises:
        InputError: Its constructor refuses a value.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(SegmentationDataModule, "data")
    try:
        datamodule: SegmentationDataModule = parser.instantiate(parser.parse_object({"data": config["data"]})).data
    except ValueError as error:
        raise InputError(brief(str(error))) from error
    return datamodule


def build_model(config: Mapping[str, Any], datamodule: SegmentationDataModule) -> WeakSegmentation:
    """Build the model of a resolved configuration for a dataset, with random weights."""
    network = without_weights(config["model"]["network"], datamodule.num_classes)
    changes = {"class_names": datamodule.class_names, "network": network}
    parser = ArgumentParser()
    parser.add_class_arguments(WeakSegmentation, "model")
    model: WeakSegmentation = parser.instantiate(parser.parse_object({"model": config["model"] | changes})).model
    return model
