"""A CSV logger that never deletes."""

from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import rank_zero_only


class KeepingCSVLogger(CSVLogger):
    """Logs to ``metrics.csv`` in the run directory; that of an earlier start is kept as ``metrics.1.csv`` and so on.

    Lightning's own logger removes it, and with it the history of a run that is resumed.

    Args:
        save_dir: The run directory, set by the command line.
        flush_logs_every_n_steps: Logged steps between two writes.
    """

    def __init__(self, save_dir: str = ".", flush_logs_every_n_steps: int = 100) -> None:
        super().__init__(save_dir, name="", version="", flush_logs_every_n_steps=flush_logs_every_n_steps)

    @property
    def experiment(self) -> Any:
        """Return the writer, on its first use after the file of an earlier start has been put aside."""
        current = Path(self.log_dir) / "metrics.csv"
        if self._experiment is None and current.is_file() and getattr(rank_zero_only, "rank", 0) == 0:
            kept = (current.with_name(f"metrics.{k}.csv") for k in range(1, 10_000))
            current.rename(next(path for path in kept if not path.exists()))
        return super().experiment
