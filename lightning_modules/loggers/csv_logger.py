"""A CSV logger that keeps the logs of earlier starts."""

from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import rank_zero_only


class KeepingCSVLogger(CSVLogger):
    """Logs to ``metrics.csv`` in the run directory, and renames that of an earlier start to ``metrics.1.csv`` etc.

    Lightning's own logger deletes that file when a run is resumed.

    Args:
        save_dir: The run directory, set by the command line.
        flush_logs_every_n_steps: Logged steps between two writes.
    """

    def __init__(self, save_dir: str = ".", flush_logs_every_n_steps: int = 100) -> None:
        super().__init__(save_dir, name="", version="", flush_logs_every_n_steps=flush_logs_every_n_steps)

    @property
    def experiment(self) -> Any:
        """The writer. Its first use renames the file of an earlier start."""
        current = Path(self.log_dir) / "metrics.csv"
        if self._experiment is None and current.is_file() and getattr(rank_zero_only, "rank", 0) == 0:
            kept = (current.with_name(f"metrics.{k}.csv") for k in range(1, 10_000))
            current.rename(next(path for path in kept if not path.exists()))
        return super().experiment
