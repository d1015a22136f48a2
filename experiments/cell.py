"""One cell of a table: one process, one run directory, and what is known about it on disk."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from experiments import RESULT
from experiments.inheritance import expand, find_config

RECORD = "cell.json"
LOG = "log.txt"


@dataclass(frozen=True)
class Cell:
    """One training of a table.

    Args:
        row: Name of the table's row.
        column: Name of the table's column.
        seed: Of the run.
        run: Its directory.
        configs: Names of configuration files, later ones win.
        overrides: Further arguments of ``gatedcrf fit``.
    """

    row: str
    column: str
    seed: int
    run: Path
    configs: tuple[str, ...]
    overrides: tuple[str, ...]

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.row}/{self.column}/seed{self.seed}"

    def result(self) -> float | None:
        """Return the mIoU, percent, of a run that has made all its steps."""
        return read_result(self.run) if (self.run / RESULT).is_file() else None

    def step(self) -> int:
        """Return the last step that the run has logged."""
        path = self.run / "metrics.csv"
        lines = path.read_text().splitlines() if path.is_file() else []
        if len(lines) < 2:
            return 0
        value = dict(zip(lines[0].split(","), lines[-1].split(","), strict=False)).get("step", "")
        return int(value) if value.isdigit() else 0

    def log_tail(self, lines: int = 15) -> str:
        """Return the end of what the run printed."""
        path = self.run / LOG
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.is_file() else ""

    def check_record(self) -> None:
        """Note how this cell is configured, or compare with the note of an earlier start.

        Raises:
            ValueError: The run directory holds a run that was configured otherwise.
        """
        files = [file for name in self.configs for file in expand(find_config(name))]
        texts = {file.name: file.read_text() for file in files}
        record = {"files": texts, "overrides": list(self.overrides)}
        path = self.run / RECORD
        if not path.is_file():
            self.run.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(record, indent=2))
            return
        known = json.loads(path.read_text())
        if known != record:
            changed = [name for name, text in texts.items() if known["files"].get(name) != text]
            raise ValueError(
                f"{self.run} was started with another configuration ({', '.join(changed) or 'options'} differ). Remove "
                "that directory, or keep it and choose another with --runs."
            )

    def start(self) -> subprocess.Popen[bytes]:
        """Start or continue the run in a process of its own, which writes to its log."""
        args = [part for name in self.configs for part in ("--config", name)]
        args += [f"--seed_everything={self.seed}", f"--trainer.default_root_dir={self.run}", *self.overrides]
        if any((self.run / "checkpoints").glob("last*.ckpt")):
            args.append("--ckpt_path=last")
        elif (self.run / "checkpoints").is_dir():
            for stale in (self.run / "checkpoints").iterdir():  # stopped before the first regular checkpoint
                stale.unlink()
            (self.run / "checkpoints").rmdir()
        with (self.run / LOG).open("ab") as log:
            command = [sys.executable, "-m", "experiments.cli", "fit", *args]
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def read_result(run: Path) -> float:
    """Return the mIoU, percent, of a finished run."""
    return float(json.loads((run / RESULT).read_text())["miou"])
