"""One cell of a table: one process or job, one run directory, and what is known about it on disk."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from datamodules.io.errors import InputError
from datamodules.io.json_files import read_json
from experiments import RESULT
from experiments.tables.protocol import protocol_changes
from experiments.tables.table import CellSpec
from experiments.train.inheritance import expand, find_config, merge
from experiments.train.run_lock import lock

RECORD = "cell.json"
LOG = "log.txt"
STARTED = ("checkpoints", "job.sbatch", RESULT)
"""What a run directory holds whose configuration must not change: a training, a job waiting for one, or a result."""
TAIL = 8192  # bytes of a log that hold its last line
HOW = (
    "--data.root",
    "--data.loader.num_workers",
    "--data.loader.image_cache",
    "--trainer.accelerator",
    "--trainer.logger",
)
"""Options that say where and how a cell is run, not what it trains: they may change before it is continued."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One training on one dataset with one seed.

    Args:
        spec: What is trained.
        dataset: Stem of a file in ``datasets``.
        protocol: "paper" or "authors".
        seed: Of the run.
        run: Its directory.
        label: ROW/COLUMN of the table.
        table: Name of the table.
        devices: Number of devices that share each batch.
        options: Further arguments of ``gatedcrf fit``.
        wandb: Log to W&B as well.
    """

    spec: CellSpec
    dataset: str
    protocol: str
    seed: int
    run: Path
    label: str
    table: str
    devices: int = 1
    options: tuple[str, ...] = ()
    wandb: bool = False

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.label}/seed{self.seed}"

    def files(self) -> list[str]:
        """Return the names of the configuration files that this cell is based on; later ones win."""
        return ["base.yaml", f"datasets/{self.dataset}.yaml", self.spec.supervision, self.spec.loss]

    def changes(self) -> dict[str, Any]:
        """Return what this cell changes in them: by its protocol, and by its place in the table."""
        return merge(protocol_changes(self.protocol, self.dataset, self.spec.name), self.spec.changes)

    def resolved(self) -> dict[str, Any]:
        """Return everything that this cell sets, all files merged."""
        merged: dict[str, Any] = {}
        for name in self.files():
            for file in expand(find_config(name)):
                merged = merge(merged, yaml.safe_load(file.read_text()) or {})
        merged.pop("base", None)
        return merge(merged, self.changes())

    def prepare(self) -> None:
        """Note how this cell is configured, or compare with the note of an earlier start.

        Raises:
            InputError: The run directory holds a run that was configured otherwise, or that another process trains.
        """
        what = [option for option in self.options if not option.startswith(HOW)]
        record = {"dataset": self.dataset, "protocol": self.protocol, "options": what, "config": self.resolved()}
        path = self.run / RECORD
        changed = list(_differences(read_json(path), json.loads(json.dumps(record)))) if path.is_file() else ["all"]
        if not changed:
            return
        if path.is_file() and any((self.run / name).exists() for name in STARTED):
            raise InputError(
                f"{self.run} was started with another configuration:\n"
                + "".join(f"  {line}\n" for line in changed)
                + "Remove that directory, or keep it and choose another with --runs."
            )
        with lock(self.run):  # or the record of a run that has not yet saved a checkpoint could be replaced
            temporary = path.with_suffix(".part")
            temporary.write_text(json.dumps(record, indent=2))
            temporary.replace(path)

    def command(self) -> list[str]:
        """Return the command that starts or continues the run."""
        parallel = ["--trainer.strategy=ddp"] if self.devices > 1 else []
        return [
            *(sys.executable, "-m", "experiments.cli", "fit"),
            *(f"--config={name}" for name in self.files()),
            *_options(self.changes()),
            *(f"--seed_everything={self.seed}", f"--trainer.default_root_dir={self.run}", "--ckpt_path=last"),
            *(f"--trainer.devices={self.devices}", *parallel, *(self._wandb() if self.wandb else []), *self.options),
        ]

    def _wandb(self) -> list[str]:
        """Add a logger: one W&B run per cell, grouped by table."""
        tags = [self.dataset, self.spec.name.partition(".")[0], self.protocol]
        settings = {"group": f"{self.table} {self.dataset}", "name": self.name, "tags": tags}
        logger = {"class_path": "lightning_modules.loggers.ForgivingWandbLogger", "init_args": settings}
        return [f"--trainer.logger+={json.dumps(logger)}"]

    def result(self) -> dict[str, Any] | None:
        """Return what a run that has made all its steps has measured."""
        path = self.run / RESULT
        return read_json(path) if path.is_file() else None

    def step(self) -> int:
        """Return the last step that the run has logged."""
        path = self.run / "metrics.csv"
        if not path.is_file():
            return 0
        with path.open("rb") as file:
            names = file.readline().decode().strip().split(",")
            file.seek(max(file.tell(), path.stat().st_size - TAIL))
            last = file.read().decode().splitlines()[-1:] or [""]
        value = dict(zip(names, last[0].split(","), strict=False)).get("step", "")
        return int(value) if value.isdigit() else 0

    def steps(self) -> int:
        """Return how many steps the run makes."""
        given = [option.partition("=")[2] for option in self.options if option.startswith("--trainer.max_steps=")]
        return int(given[-1] if given else self.resolved()["trainer"]["max_steps"])

    def log_tail(self, lines: int = 15) -> str:
        """Return the end of what the run printed."""
        path = self.run / LOG
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.is_file() else ""


def _options(changes: Mapping[str, Any], key: str = "") -> Iterator[str]:
    """Write nested settings as options of the command line."""
    for name, value in changes.items():
        if isinstance(value, Mapping):
            yield from _options(value, f"{key}{name}.")
        else:
            yield f"--{key}{name}={value if isinstance(value, str) else json.dumps(value)}"


def _differences(known: Any, now: Any, key: str = "") -> Iterator[str]:
    if isinstance(known, Mapping) and isinstance(now, Mapping):
        for name in [*known, *(name for name in now if name not in known)]:
            yield from _differences(known.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif known != now:
        yield f"{key}: {known} before, {now} now"
