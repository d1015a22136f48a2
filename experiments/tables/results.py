"""What the finished runs of one dataset have measured."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.io.errors import InputError
from datamodules.io.json_files import read_json
from experiments import RESULT
from experiments.tables.cell import RECORD
from experiments.tables.protocol import reported
from experiments.tables.table import Table


@dataclass(frozen=True)
class Results:
    """Results of all trainings in a folder ``runs/DATASET``.

    Args:
        folder: Where the runs lie.
        dataset: What was trained on.
        protocol: "paper" or "authors".
        runs: Directory of each finished run by training and seed.
    """

    folder: Path
    dataset: str
    protocol: str
    runs: dict[str, dict[int, Path]]

    @classmethod
    def read(cls, folder: Path) -> "Results":
        """Find the finished runs of a folder.

        Raises:
            InputError: Nothing in it has been finished, or runs of several datasets are mixed.
        """
        runs: dict[str, dict[int, Path]] = {}
        kinds = set()
        for path in sorted(folder.glob(f"*/seed*/{RESULT}")):
            record = read_json(path.parent / RECORD)
            kinds.add((str(record["dataset"]), str(record["protocol"])))
            seed = int(path.parent.name.removeprefix("seed"))
            runs.setdefault(path.parent.parent.name, {})[seed] = path.parent
        if not kinds:
            raise InputError(f"{folder} holds no finished run; see: gatedcrf reproduce --help")
        if len(kinds) > 1:
            raise InputError(f"{folder} mixes runs of {sorted(kinds)}; keep each dataset and protocol in a folder.")
        return cls(folder, *kinds.pop(), runs)

    def covers(self, table: Table) -> bool:
        """Whether a cell of the table has been finished."""
        return any(table.specs[cell].name in self.runs for cell in table.cells(self.dataset))

    def values(self, training: str) -> dict[int, float]:
        """Return the mIoU, percent, per seed that the protocol reports."""
        key = {"last": "miou", "best": "best_miou"}[reported(self.protocol)]
        return {seed: float(self._result(run)[key]) for seed, run in sorted(self.runs.get(training, {}).items())}

    def conditions(self, trainings: set[str]) -> str:
        """Say under which conditions trainings were measured, so that what differs is seen."""
        found = [self._result(run) for name in trainings for run in self.runs.get(name, {}).values()]
        steps = "/".join(str(n) for n in sorted({result["steps"] for result in found}))
        evaluations = "/".join(sorted({str(result.get("evaluation", "whole image")) for result in found}))
        which = {"last": "weights of the last step", "best": "best evaluation"}[reported(self.protocol)]
        return f"{self.dataset}, protocol {self.protocol}, {steps} steps, {evaluations}, {which}"

    def _result(self, run: Path) -> dict[str, Any]:
        return read_json(run / RESULT)
