"""Find, merge and compare configurations."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from datamodules.io.errors import InputError
from experiments import EXPERIMENTS
from experiments.train.renames import rename_option, rename_settings

BASE = EXPERIMENTS / "base.yaml"
"""The default configuration of every run."""

RUNTIME_OPTIONS = (
    *("ckpt_path", "weights_only", "predictions", "preset", "data.init_args.root", "data.init_args.images"),
    *("data.init_args.val_images", "data.init_args.train_annotations", "data.init_args.val_annotations"),
    *(
        "data.init_args.cache_dir",
        "data.init_args.proposals.cache_dir",
        "data.init_args.loader.num_workers",
        "data.init_args.loader.image_cache",
    ),
    *("trainer.default_root_dir", "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy"),
    *("trainer.logger", "trainer.callbacks", "trainer.profiler", "trainer.log_every_n_steps"),
    *("trainer.num_sanity_val_steps", "trainer.enable_progress_bar", "trainer.enable_model_summary"),
)
"""Settings that may change when a run is resumed: data paths, workers, logging, callbacks and devices."""

SCHEDULE_OPTIONS = (
    *("seed_everything", "trainer.max_steps", "trainer.accumulate_grad_batches"),
    "data.init_args.loader.batch_size",
)
"""Settings that determine the samples and the learning rate of every step."""


def differences(before: Any, now: Any, key: str = "") -> dict[str, str]:
    """Return both values, as text, of each setting in which two resolved configurations differ."""
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return {} if before == now else {key: f"{before} before, {now} now"}
    found: dict[str, str] = {}
    for name in {**before, **now}:
        found |= differences(before.get(name), now.get(name), f"{key}.{name}" if key else name)
    return found


def concerns(key: str, options: Sequence[str]) -> bool:
    """Return whether a setting is one of ``options`` or part of one."""
    return any(key == option or key.startswith(f"{option}.") for option in options)


def fault_tolerance(config: Mapping[str, Any]) -> list[str]:
    """Return the classes of the callbacks without which a run would not resume exactly."""
    paths = [callback["class_path"] for callback in config["trainer"]["callbacks"] or []]
    return sorted(path for path in paths if path.startswith("lightning_modules.fault_tolerance."))


def find_config(name: str, folder: Path | None = None) -> Path:
    """Return the path of a configuration file. Search ``folder`` (default: working directory), then the package.

    Raises:
        InputError: There is no such file. The message lists the shipped ones.
    """
    for root in (folder or Path(), EXPERIMENTS):
        if (root / name).is_file():
            return (root / name).resolve()
    shipped = sorted(str(path.relative_to(EXPERIMENTS)) for path in EXPERIMENTS.rglob("*.yaml"))
    raise InputError(f"There is no configuration {name!r}. Shipped with the package: {', '.join(shipped)}.")


def expand(path: Path, parents: Sequence[Path] = ()) -> list[Path]:
    """Return all files that a file is based on and the file itself, in the order in which they are merged.

    Raises:
        InputError: A file is missing, is not a mapping, is based on itself, or uses the key ``config``.
    """
    if path in parents:
        raise InputError(f"{path} is based on itself: {' -> '.join(p.name for p in (*parents, path))}.")
    content = read_config(path)
    if "config" in content:  # jsonargparse would merge it shallowly, without a warning
        raise InputError(f"{path} uses the key 'config'; name the files it changes under 'base'.")
    bases = content.get("base") or []
    names = [bases] if isinstance(bases, str) else bases
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path}: base is {bases!r}; give a file name or a list of file names.")
    files = [file for name in names for file in expand(find_config(name, path.parent), (*parents, path))]
    return [*files, path]


def read_config(path: Path) -> dict[str, Any]:
    """Return the content of one file.

    Raises:
        InputError: It is not valid YAML, or not a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}; write keys and values.")
    return content


def expand_arguments(args: Sequence[str]) -> list[str]:
    """Expand each ``-c FILE`` to its base files followed by the file, and rename old options.

    Args:
        args: Command line. ``-c`` also takes JSON or YAML in braces instead of a file.

    Raises:
        InputError: See :func:`expand`.
    """
    expanded: list[str] = []
    rest = iter(args)
    for arg in rest:
        option, _, value = arg.partition("=")
        if option not in ("-c", "--config"):
            expanded.append(rename_option(arg))
            continue
        value = value or next(rest, "")
        if value.startswith("{"):
            expanded += ["--config", rename_settings(value, "-c") or value]
            continue
        for file in expand(find_config(value)):
            expanded += ["--config", rename_settings(file.read_text(), str(file)) or str(file)]
            if file.name == "config.yaml" and (file.parent / "lock").exists():
                expanded += ["--config", json.dumps({"trainer": {"default_root_dir": _run_directory(file)}})]
    return expanded


def _run_directory(file: Path) -> str:
    """Return the directory of a run: the one that its configuration names or, if the run was moved, the present one."""
    saved = str(read_config(file).get("trainer", {}).get("default_root_dir"))
    return saved if Path(saved).resolve() == file.parent else str(file.parent)


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``changes`` merged into it, mapping by mapping. Other values are replaced."""
    merged = dict(base)
    for key, value in changes.items():
        known = merged.get(key)
        merged[key] = merge(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return merged
