"""One cell of a table: one training, in one run directory."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datamodules.io.errors import InputError
from experiments.tables.protocol import protocol_changes
from experiments.tables.table import CellSpec
from experiments.train.cli import parse
from experiments.train.configuration import merge
from experiments.train.run import Run


@dataclass(frozen=True, eq=False)
class Cell:
    """One training on one dataset with one seed.

    Args:
        spec: What is trained.
        dataset: Stem of a file in ``datasets``.
        protocol: "paper" or "authors".
        seed: Of the run.
        run: Where it is trained.
        label: ROW/COLUMN of the table.
        table: Name of the table.
        devices: Number of devices that share each batch.
        options: Further options of ``gatedcrf fit``.
        wandb: Log to W&B as well.
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

        Later files and settings win: dataset, supervision and loss, then what the protocol and the table change, then
        the options.

        Raises:
            InputError: An option is unknown, or one that the dataset needs is missing.
        """
        files = [f"datasets/{self.dataset}.yaml", self.spec.supervision, self.spec.loss]
        changes = merge(protocol_changes(self.protocol, self.dataset, self.spec.name), self.spec.changes)
        own = {
            "seed_everything": self.seed,
            "ckpt_path": "last",
            "trainer": {
                "default_root_dir": str(self.run.path),
                "devices": self.devices,
                **({"strategy": "ddp"} if self.devices > 1 else {}),
                **({"logger+": self._wandb_logger()} if self.wandb else {}),
            },
        }
        try:
            return parse(
                [
                    *("fit", *(f"--config={file}" for file in files), f"--config={json.dumps(changes)}"),
                    *(*self.options, f"--config={json.dumps(own)}"),
                ]
            )
        except InputError as error:
            raise InputError(f"{error}\nOptions of gatedcrf fit stand at the end of the command, after --.") from error

    def _wandb_logger(self) -> dict[str, Any]:
        """One W&B run per cell, grouped by table."""
        tags = [self.dataset, self.spec.name.partition(".")[0], self.protocol]
        settings = {"group": f"{self.table} {self.dataset}", "name": self.name, "tags": tags}
        return {"class_path": "lightning_modules.loggers.ForgivingWandbLogger", "init_args": settings}

    def command(self) -> list[str]:
        """Return the command that starts or continues the run."""
        return [sys.executable, "-m", "experiments.cli", "fit", f"--config={self.run.path / 'config.yaml'}"]
