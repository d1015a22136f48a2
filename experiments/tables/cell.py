"""A cell of a table: one training in one run directory."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datamodules.io.errors import InputError
from experiments.tables.table import CellSpec, protocol_changes
from experiments.train.cli import parse
from experiments.train.configuration import merge
from experiments.train.run import Run


@dataclass(frozen=True, eq=False)
class Cell:
    """One training on one dataset with one seed.

    ``label`` is ROW/COLUMN of the table, ``devices`` share each batch, and ``options`` are passed to
    ``gatedcrf fit``.
    """

    spec: CellSpec
    dataset: str
    protocol: str
    seed: int
    run: Run
    label: str
    table: str
    devices: int = 1
    options: Sequence[str] = ()
    wandb: bool = False

    @property
    def name(self) -> str:
        """Label and seed, for messages."""
        return f"{self.label}/seed{self.seed}"

    def resolve(self) -> dict[str, Any]:
        """Return the configuration of the cell, resolved by the parser of ``gatedcrf fit``.

        Later settings win: dataset, supervision and loss; changes by the protocol and by the table; options.

        Raises:
            InputError: An option is unknown, or a required one is missing.
        """
        files = [f"datasets/{self.dataset}.yaml", *self.spec.files]
        files += ["presets/ddp.yaml"] if self.devices > 1 else []
        changes = merge(protocol_changes(self.protocol, self.dataset, self.spec.name), self.spec.changes)
        own = {
            "seed_everything": self.seed,
            "ckpt_path": "last",
            "trainer": {
                "default_root_dir": str(self.run.path),
                "devices": self.devices,
                **({"logger+": self._wandb_logger()} if self.wandb else {}),
            },
        }
        try:
            configs = [f"--config={config}" for config in (*files, json.dumps(changes))]
            return parse(["fit", *configs, *self.options, f"--config={json.dumps(own)}"])
        except InputError as error:
            raise InputError(f"{error}\nPut options of gatedcrf fit at the end of the command, after --.") from error

    def _wandb_logger(self) -> dict[str, Any]:
        tags = [self.dataset, self.spec.name.partition(".")[0], self.protocol]
        settings = {"group": f"{self.table} {self.dataset}", "name": self.name, "tags": tags}
        return {"class_path": "lightning_modules.loggers.ForgivingWandbLogger", "init_args": settings}
