"""The preset of a run: fast settings that apply before the user's own, ``presets/gpu.yaml`` on a GPU."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from pytorch_lightning.utilities import rank_zero_info

from experiments.train.configuration import find_config

AUTO, NONE = "auto", "none"


def apply_preset(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Return the name of the preset of a command, and its arguments with the settings of the preset.

    A preset of the command line applies where it stands: later options override it, and it overrides earlier files. A
    preset that a file names applies first. "auto" is "gpu" if this process has a GPU and may use it, and "none"
    otherwise.

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
    applied, is_on_command_line = list[str](), False
    rest = iter(arguments)
    for argument in rest:
        option, equals, value = argument.partition("=")
        if option == "--preset":
            value = value if equals else next(rest, AUTO)
            applied += _settings(name if value == AUTO else value)
            is_on_command_line = True
        else:
            applied.append(argument)
    return name, applied if is_on_command_line else [*_settings(name), *applied]


def _settings(name: str) -> list[str]:
    settings = ["--config", str(find_config(f"presets/{name}.yaml"))]
    if name == "gpu" and torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
        settings.append("--trainer.precision=32-true")
    return settings


def describe_preset(config: Mapping[str, Any]) -> None:
    """Print the fast settings of a resolved configuration that has a preset, and how to switch them off."""
    precision, speed = config["trainer"]["precision"], config["model"]["speed"]
    if config["preset"] != NONE:
        chosen = ", ".join([f"precision {precision}", *(key for key, value in speed.items() if value)])
        rank_zero_info(f"Preset {config['preset']}: {chosen}. --preset=none switches it off.")


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
