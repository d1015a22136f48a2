"""Train cells side by side, and beside other calls that train the same cells."""

import os
import signal
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from datamodules.io.errors import InputError
from experiments.launch.local import Job, Launcher
from experiments.tables.cell import Cell
from experiments.tables.live_status import LiveStatus

POLL_S = 1.0


class Schedule:
    """Starts cells as the launcher has room for them, and waits for those that another process trains.

    Args:
        cells: Cells with saved configurations. Those with a result are skipped.
        launcher: Starts them.
        console: Where to print.
    """

    def __init__(self, cells: Sequence[Cell], launcher: Launcher, console: Console) -> None:
        self.launcher, self.console = launcher, console
        self.waiting: list[Cell] = []
        self.jobs: dict[Cell, Job] = {}
        self.elsewhere: list[Cell] = []  # another process trains them
        self.failed: list[Cell] = []
        for cell in cells:
            if result := cell.run.result():
                console.print(f"{cell.name}: {result['miou']:.2f} mIoU, finished before")
            else:
                self.waiting.append(cell)
        self.status = LiveStatus(len(cells), len(cells) - len(self.waiting), console)

    def run(self) -> list[Cell]:
        """Train all cells and return those that failed.

        Raises:
            SystemExit: Status 130 after Ctrl-C, with local runs stopped.
        """
        with self.status.progress:
            try:
                while self.waiting or self.jobs or self.elsewhere:
                    self._start()
                    time.sleep(POLL_S)
                    self._poll_jobs()
                    self._poll_elsewhere()
            except KeyboardInterrupt:
                self._stop()
                raise SystemExit(130) from None
        return self.failed

    def _start(self) -> None:
        room = self.launcher.limit - len(self.jobs)
        batch, self.waiting = self.waiting[:room], self.waiting[room:]
        self.elsewhere += [cell for cell in batch if _result(cell)]  # meanwhile, by another call
        batch = [cell for cell in batch if cell not in self.elsewhere]
        refused: dict[InputError, list[Cell]] = {}
        for cell, job in zip(batch, self.launcher.start([cell.run for cell in batch]), strict=True):
            if isinstance(job, InputError):
                refused.setdefault(job, []).append(cell)
            elif job is None:
                self._wait_for_another(cell)
            else:
                self.jobs[cell] = job
                self.status.start(cell)
        for error, cells in refused.items():
            self.console.print(f"{', '.join(cell.name for cell in cells)}: {error}", markup=False)
            self.failed += cells

    def _wait_for_another(self, cell: Cell) -> None:
        self.console.print(f"{cell.name}: trained by another call; waiting", markup=False)
        self.elsewhere.append(cell)

    def _poll_jobs(self) -> None:
        for cell, job in list(self.jobs.items()):
            if (code := job.poll()) is None:
                self.status.update(cell)
                continue
            del self.jobs[cell]
            if code and cell.run.is_locked():  # another call was faster
                self.status.remove(cell)
                self._wait_for_another(cell)
            elif not self.status.end(cell, code):
                self.failed.append(cell)

    def _poll_elsewhere(self) -> None:
        for cell in list(self.elsewhere):
            locked = cell.run.is_locked()  # before the result, which is written before the lock is released
            if result := _result(cell):
                self.elsewhere.remove(cell)
                self.status.finish_elsewhere(cell, result)
            elif not locked:
                self.elsewhere.remove(cell)
                self.waiting.insert(0, cell)

    def _stop(self) -> None:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the clean-up
        for job in self.jobs.values():
            job.stop()
        for cell, job in self.jobs.items():
            self.console.print(f"{cell.name}: {job.outcome()}.", markup=False)


def _result(cell: Cell) -> dict[str, Any] | None:
    os.listdir(cell.run.path)  # or NFS may report a new file as missing for a minute
    return cell.run.result()
