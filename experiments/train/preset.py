"""The preset of a run: fast settings that apply before the user's own, ``presets/gpu.yaml`` on a GPU."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from pytorch_lightning.utilities import rank_zero_info

from experiments.train.configuration import find_config

AUTO, NONE = "auto", "none"


def choose_preset(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Return the name of the preset of a command, and the arguments that apply its settings.

    "auto" becomes "gpu" if this process has a GPU and may use it, and "none" otherwise.

    Args:
        arguments: Options of the command, with each file expanded, see
            :func:`experiments.train.configuration.expand_arguments`.

    Raises:
        InputError: There is no such preset.
    """
    name = str(_last(arguments, "preset", AUTO))
    if name == AUTO:
        may_use = _last(arguments, "trainer.accelerator", AUTO) in (AUTO, "gpu", "cuda")
        name = "gpu" if may_use and torch.cuda.is_available() else NONE
    settings = [] if name == NONE else ["--config", str(find_config(f"presets/{name}.yaml"))]
    if name == "gpu" and torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
        settings.append("--trainer.precision=32-true")
    return name, settings


def describe_preset(name: str) -> None:
    """Print the settings of a preset and how to switch them off."""
    if name not in (AUTO, NONE):
        lines = find_config(f"presets/{name}.yaml").read_text().splitlines()
        settings = " ".join(line for line in lines if not line.startswith("#"))
        rank_zero_info(f"Preset {name}: {settings}. --preset=none switches it off.")


def _last(arguments: Sequence[str], key: str, default: str) -> Any:
    """Return the value of an option that is in force: the last one, in files or on the command line."""
    found: Any = default
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        option, equals, value = argument.partition("=")
        if option == f"--{key}":
            found = value if equals else following
        elif argument == "--config":
            found = _get(following, key, found)
    return found


def _get(config: str, key: str, default: Any) -> Any:
    """Return a value of a file, or of YAML text."""
    value = yaml.safe_load(config if config.startswith("{") or "\n" in config else Path(config).read_text())
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return default if value is None else value
