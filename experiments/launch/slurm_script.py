"""Settings of a SLURM job, and the batch script made from them."""

import hashlib
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from datamodules.io.errors import InputError
from experiments import EXPERIMENTS
from experiments.train.run import Run

SETTINGS = EXPERIMENTS / "slurm.yaml"
SIGNAL_EARLY_S = 60  # SLURM may send a signal this much too early
REQUEUE = """\
status=$?
# 138 is SIGUSR1, 143 is SIGTERM. SLURM itself requeues only jobs that it kills. A canceled job is no longer RUNNING.
if [[ $status == 138 || $status == 143 ]] && [[ $(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T) == RUNNING ]]
then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
"""


@dataclass(frozen=True)
class Settings:
    """Resources and options of a job, explained in slurm.yaml.

    Raises:
        InputError: A number is below 1, or ``time`` is malformed or leaves no time to train.
    """

    partition: str | None
    account: str | None
    time: str
    warning: int
    nodes: int
    cpus_per_task: int
    memory: str | None
    gres: str | None
    options: list[str]
    setup: list[str]
    jobs: int

    def __post_init__(self) -> None:
        for key in ("warning", "nodes", "cpus_per_task", "jobs"):
            if getattr(self, key) < 1:
                raise InputError(f"{key} is {getattr(self, key)}; it must be at least 1.")
        form = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", self.time)
        if form is None:
            raise InputError(f"time is {self.time!r}; write it as [D-]HH:MM:SS, in quotes.")
        days, hours, minutes, seconds = (int(part or 0) for part in form.groups())
        if 86400 * days + 3600 * hours + 60 * minutes + seconds <= self.warning + SIGNAL_EARLY_S:
            raise InputError(
                f"time {self.time} leaves no time to train: the signal to save comes up to {self.warning} + "
                f"{SIGNAL_EARLY_S} seconds before the end. Raise time or lower warning."
            )

    @staticmethod
    def load(path: Path = SETTINGS) -> "Settings":
        """Read a file. Missing keys take the values of slurm.yaml.

        Raises:
            InputError: A key is unknown, or a value has the wrong type.
        """
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(Settings)
        try:
            shipped, own = (yaml.safe_load(file.read_text()) for file in (SETTINGS, path))
            if not isinstance(own, dict):
                raise InputError("write keys and values.")
            return Settings(**vars(parser.parse_object(shipped | own)))
        except (ArgumentError, ValueError, yaml.YAMLError) as error:
            raise InputError(f"{path}: {error}\n{SETTINGS} explains the keys.") from error


def job_name(run: Path) -> str:
    """Return the job name of a run folder, the same for all tables that share the run."""
    run = run.resolve()
    return ".".join((*run.parts[-3:], hashlib.sha256(bytes(run)).hexdigest()[:8]))


def batch_script(run: Run, settings: Settings) -> str:
    """Return the script for sbatch, which starts the run or continues it after a requeue."""
    devices = run.config["trainer"]["devices"]
    options = {
        "job-name": job_name(run.path),
        "chdir": Path.cwd(),
        "output": str(run.log.resolve()).replace("%", "%%"),
        "open-mode": "append",
        "dependency": "singleton",
        "signal": f"SIGUSR1@{settings.warning}",  # with B: before it, only the shell would get the signal
        "time": settings.time,
        "nodes": settings.nodes,
        "ntasks-per-node": devices,
        "cpus-per-task": settings.cpus_per_task,
        "partition": settings.partition,
        "account": settings.account,
        "mem": settings.memory,
        "gres": settings.gres and settings.gres.replace("{devices}", str(devices)),
    }
    given = {name: shlex.quote(str(value)) for name, value in options.items() if value is not None}
    lines = [f"--{name}={value}" for name, value in given.items()]
    command = run.command()
    if settings.nodes > 1:
        command = [*command, f"--trainer.num_nodes={settings.nodes}"]
    return "\n".join(
        (
            "#!/bin/bash",
            *(f"#SBATCH {line}" for line in (*lines, "--requeue", *settings.options)),
            *settings.setup,
            'echo "SLURM job $SLURM_JOB_ID on $SLURM_JOB_NODELIST, requeued ${SLURM_RESTART_COUNT:-0} times"',
            f"srun --cpus-per-task={settings.cpus_per_task} {shlex.join(command)}",  # not inherited since SLURM 22.05
            REQUEUE,
        )
    )
