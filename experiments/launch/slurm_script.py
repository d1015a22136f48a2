"""What a batch job of SLURM asks for, and the script that sbatch is given."""

import hashlib
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from datamodules.io.errors import InputError
from experiments import EXPERIMENTS
from experiments.tables.cell import Cell

SETTINGS = EXPERIMENTS / "slurm.yaml"
EARLY_S = 60  # sbatch sends its signal up to so much earlier than asked
REQUEUE = """\
status=$?
# Told to stop by SIGUSR1 or SIGTERM: SLURM requeues only jobs that it has to kill. A canceled job is no longer RUNNING.
if [[ $status == 138 || $status == 143 ]] && [[ $(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T) == RUNNING ]]
then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
"""


@dataclass(frozen=True)
class Settings:
    """What a job asks for; the comments of slurm.yaml explain each.

    Raises:
        InputError: A number below 1, a time in another form, or one so short that a run would be told to stop as soon
            as it has begun.
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
                raise InputError(f"{key} is {getattr(self, key)}, but at least 1 is needed.")
        form = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", self.time)
        if form is None:
            raise InputError(f"time {self.time!r} is not of the form [D-]HH:MM:SS.")
        days, hours, minutes, seconds = (int(part or 0) for part in form.groups())
        if 86400 * days + 3600 * hours + 60 * minutes + seconds <= self.warning + EARLY_S:
            raise InputError(
                f"time {self.time} leaves no time to train: the run is told to save up to {self.warning} + {EARLY_S} "
                "seconds before its end. Raise time or lower warning."
            )

    @staticmethod
    def load(path: Path = SETTINGS) -> "Settings":
        """Read a file; keys that it does not name are those of slurm.yaml.

        Raises:
            InputError: An unknown key or a value of another type, with the file's name.
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


def job_name(cell: Cell) -> str:
    """Return the name of a cell's job: that of its run directory, which cells of several tables may share."""
    run = cell.run.path.resolve()
    return ".".join((*run.parts[-3:], hashlib.sha256(bytes(run)).hexdigest()[:8]))


def batch_script(cell: Cell, settings: Settings) -> str:
    """Return what sbatch is given: it starts and, requeued, continues the run."""
    optional = {
        "partition": settings.partition,
        "account": settings.account,
        "mem": settings.memory,
        "gres": settings.gres and settings.gres.replace("{devices}", str(cell.devices)),
    }
    options = {
        "job-name": job_name(cell),
        "chdir": str(Path.cwd()),
        "output": str(cell.run.log.resolve()).replace("%", "%%"),
        "open-mode": "append",
        "dependency": "singleton",
        "requeue": None,
        "signal": f"SIGUSR1@{settings.warning}",  # no B: before it, which would signal the shell instead of the run
        "time": settings.time,
        "nodes": settings.nodes,
        "ntasks-per-node": cell.devices,
        "cpus-per-task": settings.cpus_per_task,
        **{name: value for name, value in optional.items() if value is not None},
    }
    command = cell.command()
    if settings.nodes > 1:
        command = [*command, f"--trainer.num_nodes={settings.nodes}"]
    lines = [f"--{name}" if value is None else f"--{name}={shlex.quote(str(value))}" for name, value in options.items()]
    return "\n".join(
        (
            "#!/bin/bash",
            *(f"#SBATCH {line}" for line in (*lines, *settings.options)),
            *settings.setup,
            'echo "SLURM job $SLURM_JOB_ID on $SLURM_JOB_NODELIST, requeued ${SLURM_RESTART_COUNT:-0} times"',
            f"srun --cpus-per-task={settings.cpus_per_task} {shlex.join(command)}",  # not inherited since SLURM 22.05
            REQUEUE,
        )
    )
