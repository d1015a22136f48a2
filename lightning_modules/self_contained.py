"""What checkpoints contain besides weights, so that a model can be built without the folder of its run."""

from collections.abc import Mapping, Sequence
from typing import Any

from jsonargparse import ArgumentParser
from torch import nn

from datamodules.io.errors import InputError

INSTANTIATOR = "pytorch_lightning.cli.instantiate_module"  # builds models from class paths in load_from_checkpoint
NO_WEIGHTS: dict[str, Any] = {"pretrained": False, "encoder_weights": None, "weights": None, "weights_backbone": None}
"""Arguments that load pretrained weights: of this project and timm, of segmentation_models_pytorch, of torchvision."""


def checkpoint_content(config: Mapping[str, Any], class_names: Sequence[str]) -> dict[str, Any]:
    """Return what a run adds to its checkpoints.

    Args:
        config: Resolved configuration of the run.
        class_names: C names.

    Returns:
        ``config``, and ``hyper_parameters`` as ``LightningModule.load_from_checkpoint`` reads them.
    """
    network = without_weights(config["model"]["network"], len(class_names))
    model = {**config["model"], "network": network, "class_names": list(class_names)}
    return {"config": dict(config), "hyper_parameters": {**model, "_instantiator": INSTANTIATOR}}


def without_weights(network: Mapping[str, Any], num_classes: int) -> dict[str, Any]:
    """Return the resolved configuration of a network, changed to load no pretrained weights.

    Args:
        network: ``class_path`` and ``init_args``.
        num_classes: C.
    """
    arguments = network.get("init_args", {})
    off = {name: value for name, value in NO_WEIGHTS.items() if name in arguments}
    return {**network, "init_args": {**arguments, **off, "num_classes": num_classes}}


def build_network(network: Mapping[str, Any]) -> nn.Module:
    """Build a network.

    Args:
        network: ``class_path`` and ``init_args``.

    Raises:
        InputError: The class cannot be imported, or does not take these arguments.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "network")
    try:
        module: nn.Module = parser.instantiate(parser.parse_object({"network": dict(network)})).network
    except Exception as error:  # of jsonargparse, of an import or of the constructor
        raise InputError(
            f"The network {network['class_path']} cannot be built ({error}). Is its package installed, or its folder "
            "on PYTHONPATH, in the version that it was trained with?"
        ) from error
    return module
