"""Pretrained weights of timm backbones."""

import urllib.error
import urllib.request
from pathlib import Path

import timm
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from timm.models import load_state_dict

from datamodules.io.errors import InputError
from lightning_modules.weight_files import why_unreadable

TIMEOUT_S = 5.0  # without a network, the hub's client would retry for most of a minute


def find_weights(backbone: str) -> Path:
    """Return the weight file of a timm model from the cache of the Hugging Face hub, after a download if needed.

    Args:
        backbone: timm model name with weight tag, for example "resnet34.tv_in1k".

    Raises:
        InputError: timm has no weights for this model, or they are neither cached nor reachable.
    """
    config = timm.get_pretrained_cfg(backbone) if timm.is_model_pretrained(backbone) else None
    if config is None or not config.hf_hub_id:
        raise InputError(f"timm has no pretrained weights for {backbone!r}; use pretrained: false or a weight file.")
    repository, file = config.hf_hub_id, "model.safetensors"
    cached = try_to_load_from_cache(repository, file)
    if isinstance(cached, str):
        return Path(cached)
    page = f"{constants.ENDPOINT}/{repository}/resolve/main/{file}"
    try:
        urllib.request.urlopen(urllib.request.Request(page, method="HEAD"), timeout=TIMEOUT_S).close()
        return Path(hf_hub_download(repository, file))
    except OSError as error:  # of urllib or of the hub
        raise InputError(
            f"The pretrained weights of {backbone} are not on this machine and cannot be downloaded ({error}). Fetch\n"
            f"  {page}\non a machine with a network and pass its path: --model.network.init_args.pretrained=FILE, or "
            "start from random weights: --model.network.init_args.pretrained=false"
        ) from error


def check_weights(backbone: str, path: Path) -> None:
    """Check that a .pth or .safetensors file has all weights of a timm model. timm would leave missing ones random.

    Raises:
        InputError: The file cannot be read, or weights are missing or differ in shape.
    """
    remedy = "Pass the file that timm publishes for this backbone, or one of torch.save(model.state_dict(), FILE)."
    try:
        held = load_state_dict(str(path), use_ema=False, weights_only=True)
    except Exception as error:  # of many types
        raise InputError(f"{path} {why_unreadable(path)}. {remedy}") from error
    shapes = {name: getattr(value, "shape", None) for name, value in held.items()}
    wanted = timm.create_model(backbone, pretrained=False, num_classes=0).state_dict()
    wrong = [name for name, weight in wanted.items() if shapes.get(name) != weight.shape]
    if any(not name.endswith("num_batches_tracked") for name in wrong):  # old files lack these counters
        raise InputError(
            f"{path} does not hold the weights of {backbone}: {len(wrong)} of {len(wanted)} tensors are missing or "
            f"differ in shape. {remedy}"
        )
