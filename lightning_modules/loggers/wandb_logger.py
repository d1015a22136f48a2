"""A W&B logger whose failures do not stop a run."""

import atexit
import os
import re
import secrets
import warnings
from collections.abc import Mapping
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import wandb
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from datamodules.io.atomic import atomic_write


class ForgivingWandbLogger(WandbLogger):
    """Logs to W&B. Without an API key or a network, it logs offline; upload with ``wandb sync``.

    Args:
        project: W&B project.
        save_dir: The run directory, set by the command line. It keeps the W&B id for resuming.
        name: Name of the run. ``None`` is the name of its directory.
        group: W&B group, for example the table.
        offline: ``None`` is offline if there is no API key.
        init_timeout: Seconds to wait for the server.
        tags: W&B tags, for example the dataset and the supervision.
    """

    def __init__(
        self,
        project: str = "gated-crf",
        save_dir: str = ".",
        name: str | None = None,
        group: str | None = None,
        offline: bool | None = None,
        init_timeout: float = 30.0,
        tags: list[str] | None = None,
    ) -> None:
        super().__init__(
            project=project,
            save_dir=save_dir,
            name=name or re.sub(r"[^\w.-]+", "-", save_dir).strip("-.") or "run",
            group=group,
            resume="allow",
            tags=tags,
            offline=not _has_api_key() if offline is None else offline,
            settings=wandb.Settings(
                init_timeout=init_timeout,
                console="off",
                git_root=str(Path(__file__).parent),  # logs the commit of this code, not of the working directory
            ),
        )

    @property
    def experiment(self) -> Any:
        """The W&B run, offline if the server is not reachable."""
        if self._experiment is not None or getattr(rank_zero_only, "rank", 0) != 0:
            return super().experiment
        path = Path(self._save_dir or ".") / "wandb_id"
        if not path.is_file():
            atomic_write(path, os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4))  # a sweep sets the id
        self._wandb_init["id"] = self._id = path.read_text()
        try:
            run = super().experiment
        except wandb.errors.Error as error:
            warnings.warn(f"W&B is not reachable ({error}). Logging offline; upload with wandb sync.", stacklevel=2)
            self._wandb_init["mode"] = "offline"
            run = super().experiment
        atexit.register(run.finish)  # before W&B stops its service, which drops unsent data
        return run

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log metrics, pictures or tables. Warn if W&B's process has ended, as it does on SLURM's SIGTERM."""
        try:
            super().log_metrics(metrics, step)
        except ConnectionError as error:
            warnings.warn(f"W&B has ended ({error}). Other loggers continue.", stacklevel=2)


def _has_api_key() -> bool:
    """Return whether the environment or the netrc file, where ``wandb login`` writes it, has an API key."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", wandb.Settings().base_url)).hostname or ""
    try:
        return netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, NetrcParseError):
        return False
