"""The class of run directories."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
import yaml
from pytorch_lightning.utilities import rank_zero_warn

from datamodules.datamodule import SegmentationDataModule
from datamodules.io.atomic import atomic_write, remove_parts
from datamodules.io.errors import InputError
from datamodules.io.json_files import read_json
from experiments import RESULT
from experiments.train.build import build_datamodule, build_model
from experiments.train.configuration import SCHEDULE_OPTIONS, concerns, differences, read_config
from experiments.train.lock import is_locked, lock
from experiments.train.resume import announce, check_settings, find_flaw, refuse
from lightning_modules.weak_segmentation import WeakSegmentation

TAIL = 8192  # bytes of metrics.csv that contain its last line


class Run:
    """The directory of a training: its resolved configuration, checkpoints, logs and result.

    ::

        config.yaml    every setting, as resolved by ``gatedcrf fit``
        checkpoints/   last.ckpt, previous.ckpt, best.ckpt
        metrics.csv    logged metrics; those of earlier starts are in metrics.1.csv and so on
        log.txt        output of the process, if started by ``gatedcrf reproduce``
        result.json    evaluation of the final weights, written at the end
        lock           locked by the process that trains
        stopped        the run was stopped by a signal and can continue; a SLURM job is then requeued

    Args:
        path: The directory. It may not exist yet.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.log, self.stopped = self.path / "log.txt", self.path / "stopped"
        self._config_file = self.path / "config.yaml"

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration.

        Raises:
            InputError: There is none, or it is one of version 0.1.
        """
        if not self._config_file.is_file():
            raise InputError(f"{self.path} is not a run directory: it has no config.yaml.")
        config = read_config(self._config_file)
        if "regularizer_weight" not in (config.get("model") or {}):
            raise InputError(
                f"{self.path} is a run of version 0.1, whose settings had other names. Finish or evaluate it with that "
                "version, or train again in a different directory."
            )
        return config

    @property
    def started(self) -> bool:
        """Whether the run has checkpoints, a submitted SLURM job or a result, and so a fixed configuration."""
        return any((self.path / name).exists() for name in ("checkpoints", "job.sbatch", RESULT))

    @property
    def has_config(self) -> bool:
        """Whether a configuration is saved."""
        return self._config_file.is_file()

    def holds(self, config: Mapping[str, Any]) -> bool:
        """Return whether this very configuration is saved."""
        return self._config_file.is_file() and self.config == config

    def prepare(self, config: Mapping[str, Any]) -> None:
        """Check and save the configuration before a run starts or continues."""
        self.check(config)
        self.save(config)

    def save(self, config: Mapping[str, Any]) -> None:
        """Save a resolved configuration."""
        if not self.holds(config):
            atomic_write(self._config_file, yaml.safe_dump(dict(config), sort_keys=False))

    def check(self, config: Mapping[str, Any], checkpoint: Path | None = None) -> None:
        """Compare a resolved configuration with that of a run that has started.

        Args:
            config: Resolved configuration.
            checkpoint: Where the training continues; ``None`` if it starts, or if this is not known yet.

        Raises:
            InputError: The run, or the run that the checkpoint belongs to, was started with other settings. The message
                lists them.
        """
        if self._config_file.is_file() and self.started:
            changed = check_settings(self.path, self.config, config)
            if checkpoint:
                announce(checkpoint, changed)
        if checkpoint:
            self._check_origin(checkpoint, config)

    def _check_origin(self, checkpoint: Path, config: Mapping[str, Any]) -> None:
        """Raise :class:`InputError` if a checkpoint comes from a run with different ``SCHEDULE_OPTIONS``."""
        origin = Run(checkpoint.resolve().parents[1])
        if origin.path == self.path.resolve():
            if not self._config_file.is_file():
                raise InputError(f"{self.path} has checkpoints but no config.yaml; choose a different directory.")
        elif (origin.path / "config.yaml").is_file():
            changed = differences(origin.config, config)
            refuse(origin.path, {key: changed[key] for key in changed if concerns(key, SCHEDULE_OPTIONS)})
        else:
            rank_zero_warn(f"{checkpoint} is not in a run directory, so batch size and schedule cannot be compared.")

    def command(self) -> list[str]:
        """Return the command that starts or continues the training."""
        return [sys.executable, "-m", "experiments.cli", "fit", f"--config={self._config_file}"]

    def lock(self, patience_s: float | None = None) -> IO[str]:
        """See :func:`experiments.train.lock.lock`."""
        return lock(self.path, patience_s)

    def is_locked(self) -> bool:
        """See :func:`experiments.train.lock.is_locked`."""
        return is_locked(self.path)

    def clean_up(self) -> None:
        """Remove what an earlier process has left: parts of checkpoints, and the mark of its stop."""
        remove_parts(self.path / "checkpoints")
        self.stopped.unlink(missing_ok=True)

    def datamodule(self) -> SegmentationDataModule:
        """Return the datamodule that the run trains on."""
        return build_datamodule(self.config)

    def model(self, checkpoint: str = "best") -> WeakSegmentation:
        """Return the model with the weights of a checkpoint, in evaluation mode.

        Args:
            checkpoint: See :meth:`checkpoint`.
        """
        weights = torch.load(self.checkpoint(checkpoint), map_location="cpu", weights_only=True)
        model = build_model(self.config, self.datamodule())
        model.load_state_dict(weights["state_dict"])
        return model.eval()

    def checkpoint(self, name: str | None) -> Path:
        """Return the path of a checkpoint.

        Args:
            name: "best" (by mIoU on val), "last", or a path.

        Raises:
            InputError: There is no such checkpoint, and the message lists those of the run; or it cannot be used.
        """
        path = self.path / "checkpoints" / f"{name}.ckpt" if name in ("best", "last") else Path(name or "")
        if not path.is_file():
            known = sorted(map(str, self.path.glob("checkpoints/*.ckpt"))) or [f"none in {self.path}/checkpoints"]
            raise InputError(
                f"--ckpt_path={name or ''} is not a checkpoint; pass best, last or a file. Found: {' '.join(known)}."
            )
        if flaw := find_flaw(path):
            raise InputError(f"{path} {flaw}. Pass another checkpoint: best, last or a file that a run has written.")
        return path

    @property
    def steps(self) -> int:
        """Number of optimizer steps of the whole training."""
        return int(self.config["trainer"]["max_steps"])

    def step(self) -> int:
        """Return the last logged step, or 0 if there is none."""
        path = self.path / "metrics.csv"
        if not path.is_file():
            return 0
        with path.open("rb") as file:
            names = file.readline().decode().strip().split(",")
            file.seek(max(file.tell(), path.stat().st_size - TAIL))
            last = file.read().decode().splitlines()[-1:] or [""]
        value = dict(zip(names, last[0].split(","), strict=False)).get("step", "")
        return int(value) if value.isdigit() else 0

    def result(self) -> dict[str, Any] | None:
        """Return the content of result.json, or ``None`` for an unfinished run.

        Raises:
            InputError: The file is damaged.
        """
        path = self.path / RESULT
        return read_json(path) if path.is_file() else None

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines of log.txt."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.is_file() else ""
