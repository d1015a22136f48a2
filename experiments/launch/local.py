"""The interface of launchers, and the launcher on this machine."""

import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Protocol

import torch

from datamodules.io.errors import InputError
from experiments.train.run import Run


class Job(Protocol):
    """A run that was started."""

    def poll(self) -> int | None:
        """Return ``None`` while the run waits or trains, then its exit status."""

    def stop(self) -> None:
        """Ask the run to end, or leave it in the queue."""

    def outcome(self) -> str:
        """Wait for a run that ends, and return a message that states what has become of it."""


class Launcher(Protocol):
    """Starts runs, at most ``limit`` at a time."""

    limit: int

    def start(self, runs: Sequence[Run]) -> list[Job | InputError | None]:
        """Start or continue runs whose configurations are saved.

        Returns:
            For each run its job, the reason why it is refused, or ``None`` if another process trains it.
        """


class LocalLauncher:
    """Runs processes side by side on this machine.

    Args:
        parallel: Number of runs at a time. If there are several, they share GPUs and CPU threads evenly.
        devices: Devices per run.
        gpus: Names of the GPUs, as in CUDA_VISIBLE_DEVICES. Without any, the runs are on the CPU.

    Raises:
        InputError: There are too few GPUs.
    """

    def __init__(self, parallel: int = 1, devices: int = 1, gpus: Sequence[str] = ()) -> None:
        self.limit = parallel
        self._jobs: list[LocalJob | None] = [None] * parallel  # one per slot
        self._environments: list[dict[str, str]] = [{}]  # a single run has the whole machine
        if parallel == 1:
            return
        if gpus and parallel * devices > len(gpus):
            raise InputError(
                f"--parallel {parallel} with --devices {devices} needs {parallel * devices} GPUs, but {len(gpus)} are "
                "visible. Lower one of them, or set CUDA_VISIBLE_DEVICES to nothing to train on the CPU."
            )
        threads = max(1, len(os.sched_getaffinity(0)) // (parallel * devices))
        shared = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
        shares = [",".join(gpus[slot * devices : (slot + 1) * devices]) for slot in range(parallel)]
        self._environments = [shared | ({"CUDA_VISIBLE_DEVICES": share} if gpus else {}) for share in shares]

    def start(self, runs: Sequence[Run]) -> list[Job | InputError | None]:
        """Start one process per run in the free slots."""
        return [None if run.is_locked() else self._start(run) for run in runs]

    def _start(self, run: Run) -> "LocalJob":
        slot = next(k for k, job in enumerate(self._jobs) if job is None or job.poll() is not None)
        # A closed terminal ends reproduce, which then stops the run. SIGHUP would kill the run before it saves.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        try:
            with run.log.open("ab") as log:
                environment = {**os.environ, **self._environments[slot]}
                job = LocalJob(
                    run.command(), stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
                )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._jobs[slot] = job
        return job


class LocalJob(subprocess.Popen[bytes]):
    """A process on this machine."""

    def stop(self) -> None:
        """Ask the process to finish its step, save a checkpoint and end."""
        self.terminate()

    def outcome(self) -> str:
        """Wait for the end of the process."""
        self.wait()
        return "interrupted. The same command continues"


def visible_gpus() -> list[str]:
    """Return the names of the GPUs in CUDA_VISIBLE_DEVICES or, if it is not set, of all GPUs."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(number) for number in range(count)]
