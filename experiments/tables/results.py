"""The results of all finished runs on one dataset."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.io.errors import InputError
from experiments import RESULT
from experiments.tables.table import Table, reported
from experiments.train.run import Run


@dataclass(frozen=True)
class Results:
    """Finished runs in ``runs/DATASET`` or ``runs/DATASET.authors``.

    Args:
        folder: Folder of the runs, named after dataset and protocol.
        runs: Finished runs by training and seed.
    """

    folder: Path
    runs: dict[str, dict[int, Run]]

    @classmethod
    def read(cls, folder: Path) -> "Results":
        """Find the finished runs, ``TRAINING/seedK``, of a folder.

        Raises:
            InputError: There are none.
        """
        runs: dict[str, dict[int, Run]] = {}
        for path in sorted(path for path in folder.glob(f"*/seed*/{RESULT}") if path.is_file()):
            seed = int(path.parent.name.removeprefix("seed"))
            runs.setdefault(path.parents[1].name, {})[seed] = Run(path.parent)
        if not runs:
            raise InputError(f"{folder} contains no finished run; see: gatedcrf reproduce --help")
        return cls(folder, runs)

    @property
    def dataset(self) -> str:
        """Name of the dataset, that of its file in ``datasets``."""
        return self.folder.resolve().name.removesuffix(".authors")

    @property
    def protocol(self) -> str:
        """Either "paper" or "authors"."""
        return "authors" if self.folder.resolve().name.endswith(".authors") else "paper"

    def covers(self, table: Table) -> bool:
        """Return whether any cell of the table is finished."""
        return any(table.specs[cell].name in self.runs for cell in table.cells(self.dataset))

    def first(self, training: str) -> Run | None:
        """Return the finished run with the lowest seed of a training, for example "clicks.gcrf_s"."""
        seeds = self.runs.get(training, {})
        return seeds[min(seeds)] if seeds else None

    def values(self, training: str) -> dict[int, float]:
        """Return the mIoU per seed that the protocol reports, percent."""
        key = {"last": "miou", "best": "best_miou"}[reported(self.protocol)]
        return {seed: float(_result(run)[key]) for seed, run in sorted(self.runs.get(training, {}).items())}

    def conditions(self, trainings: Iterable[str]) -> str:
        """Describe how trainings were measured. Several values are joined by slashes."""
        found = [_result(run) for name in trainings for run in self.runs.get(name, {}).values()]
        steps = "/".join(str(n) for n in sorted({result["steps"] for result in found}))
        evaluations = "/".join(sorted({str(result.get("evaluation", "whole image")) for result in found}))
        which = {"last": "weights of the last step", "best": "best evaluation"}[reported(self.protocol)]
        return f"{self.dataset}, protocol {self.protocol}, {steps} steps, {evaluations}, {which}"


def _result(run: Run) -> dict[str, Any]:
    result = run.result()
    assert result is not None  # only finished runs are collected
    return result
