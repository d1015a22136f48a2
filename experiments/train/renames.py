"""Accept the names of version 0.1 with a warning. To be removed after the next release."""

import re
import warnings
from typing import Any

import yaml

RENAMED_OPTIONS = {
    "model.weight": "model.regularizer_weight",
    "model.first_step": "model.regularizer_start_step",
    "data.mean": "model.mean",
    "data.std": "model.std",
    "data.width": "data.stroke_width",
    "model.compile": "model.speed.compile",
    **{f"data.{name}": f"data.augmentation.{name}" for name in ("crop", "scale", "flip", "window_scale")},
    **{f"data.{name}": f"data.loader.{name}" for name in ("batch_size", "num_workers", "image_cache")},
}
"""New name of each option on the command line."""

MOVED_CLASSES = {
    "lightning_modules.csv_logger.": "lightning_modules.loggers.",
    "lightning_modules.wandb_logger.": "lightning_modules.loggers.",
    "lightning_modules.throughput.": "lightning_modules.callbacks.",
    "lightning_modules.step_guard.": "lightning_modules.fault_tolerance.",
    "lightning_modules.step_seed.": "lightning_modules.fault_tolerance.",
    "lightning_modules.checkpoints.": "lightning_modules.fault_tolerance.",
}
"""New package of each module's classes."""

_MOVED = re.compile("|".join(map(re.escape, MOVED_CLASSES)))


def rename_option(argument: str) -> str:
    """Return a command line argument with the new name of its option."""
    argument = _MOVED.sub(lambda match: MOVED_CLASSES[match[0]], argument)
    name, _, value = argument.removeprefix("--").partition("=")
    new = RENAMED_OPTIONS.get(name.replace("data.init_args.", "data."))
    if new is None or not argument.startswith("--"):
        return argument
    _warn(f"--{name}", f"--{new}")
    return f"--{new}={value}" if "=" in argument else f"--{new}"


def rename_settings(text: str, source: str) -> str | None:
    """Return a configuration with new names, or ``None`` if it has no old ones. ``source`` is named in warnings."""
    renamed = _MOVED.sub(lambda match: MOVED_CLASSES[match[0]], text)
    content: dict[str, Any] = yaml.safe_load(renamed) or {}
    changed = renamed != text
    for old, new in RENAMED_OPTIONS.items():
        section = content.get("data" if old.startswith("data.") else "model")
        if isinstance(section, dict) and old.startswith("data."):
            section = section.get("init_args")
        name = old.partition(".")[2]
        if isinstance(section, dict) and name in section:
            _warn(f"{source}: {old}", new)
            _set(content, new.replace("data.", "data.init_args."), section.pop(name))
            changed = True
    return yaml.safe_dump(content, sort_keys=False) if changed else None


def _set(content: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        content = content.setdefault(section, {})
    content.setdefault(name, value)


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} is now {new}. The old name will be refused by the next release.", FutureWarning, stacklevel=3)
