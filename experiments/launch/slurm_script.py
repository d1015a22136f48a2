"""Settings of a SLURM job, and the batch script made from them."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from datamodules.io.errors import InputError
from experiments import EXPERIMENTS
from experiments.train.run import Run

SETTINGS = EXPERIMENTS / "slurm.yaml"
MEMORY = r"(\d+)([KMGT]?)"
SIGNAL_EARLY_S = 60  # SLURM may send a signal this much too early
START = """\
run=${runs[$SLURM_ARRAY_TASK_ID]}
exec >> "$run/log.txt" 2>&1
job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID  # SLURM_JOB_ID of one task is also the id of the whole array
echo "SLURM job $job on $SLURM_JOB_NODELIST, requeued ${SLURM_RESTART_COUNT:-0} times"
"""
REQUEUE = """\
status=$?
# The run marks that a signal has stopped it. The status does not tell: srun sends SIGTERM if one process fails. SLURM
# itself requeues only jobs that it kills. A canceled job is no longer RUNNING.
if [[ -e "$run/stopped" ]] && [[ $(squeue --noheader --jobs="$job" --format=%T) == RUNNING ]]
then
    scontrol requeue "$job"
fi
exit $status
"""


@dataclass(frozen=True)
class Settings:
    """Resources and options of a job, explained in slurm.yaml.

    Raises:
        InputError: A number is below 1, ``memory`` or ``time`` is malformed, or ``time`` leaves no time to train.
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
        if self.memory is not None and not re.fullmatch(MEMORY, self.memory):
            raise InputError(f"memory is {self.memory!r}; write the memory per device as 32G or 500M.")
        form = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", self.time)
        if form is None:
            raise InputError(f"time is {self.time!r}; write it as [D-]HH:MM:SS, in quotes.")
        days, hours, minutes, seconds = (int(part or 0) for part in form.groups())
        if 86400 * days + 3600 * hours + 60 * minutes + seconds <= self.warning + SIGNAL_EARLY_S:
            raise InputError(
                f"time {self.time} leaves no time to train: the signal to save comes up to {self.warning} + "
                f"{SIGNAL_EARLY_S} seconds before the end. Raise time or lower warning."
            )

    @property
    def uses_gpus(self) -> bool:
        """Whether ``gres`` asks for GPUs."""
        return "gpu" in (self.gres or "")

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


def batch_script(name: str, runs: Sequence[Run], settings: Settings) -> str:
    """Return the script of an array job in which each task starts a run, or continues it after a requeue.

    Args:
        name: Name of the job.
        runs: One per task, with equal settings of the trainer.
        settings: Resources and options.
    """
    trainer = runs[0].config["trainer"]
    devices = trainer["devices"]
    options = {
        "job-name": name,
        "array": f"0-{len(runs) - 1}%{settings.jobs}",
        "chdir": Path.cwd(),
        "output": "/dev/null",  # each task writes to the log of its run
        "signal": f"SIGUSR1@{settings.warning}",  # with B: before it, only the shell would get the signal
        "time": settings.time,
        "nodes": settings.nodes,
        "ntasks-per-node": devices,
        "cpus-per-task": settings.cpus_per_task,
        "partition": settings.partition,
        "account": settings.account,
        "mem": settings.memory and re.sub(MEMORY, lambda form: f"{int(form[1]) * devices}{form[2]}", settings.memory),
        "gres": settings.gres and settings.gres.replace("{devices}", str(devices)),
    }
    lines = [f"--{key}={shlex.quote(str(value))}" for key, value in options.items() if value is not None]
    command = [shlex.join(runs[0].command()[:-1]), '--config="$run"/config.yaml']
    if settings.nodes > 1:
        command.append(f"--trainer.num_nodes={settings.nodes}")
    if settings.uses_gpus and trainer["accelerator"] == "auto":
        command.append("--trainer.accelerator=gpu")  # "auto" may select the CPU if a node has a broken driver
    return "\n".join(
        (
            "#!/bin/bash",
            *(f"#SBATCH {line}" for line in (*lines, "--requeue", *settings.options)),
            f"runs=({shlex.join(str(run.path) for run in runs)})",
            START,
            *settings.setup,
            # srun does not inherit the number of CPUs since SLURM 22.05
            f"srun --kill-on-bad-exit=1 --cpus-per-task={settings.cpus_per_task} {' '.join(command)}",
            REQUEUE,
        )
    )
