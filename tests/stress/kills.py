"""Kill and restart a run many times, and compare it bit for bit with a run that is never killed.

Usage: ``python tests/stress/kills.py --kills 50``. Both runs train a tiny network on shapes. One is killed at random
steps by SIGKILL, SIGTERM and SIGUSR1 in turn, and continued each time by the same command. The script exits with
status 1 if the runs differ, or if the killed run has a result before its end. Other options go to ``gatedcrf fit``, for
example ``--trainer.accumulate_grad_batches=2``.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer

from experiments import cli

ROOT = Path(__file__).parents[2]
STATUS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGUSR1: 138}
CONFIGS = ("datasets/shapes.yaml", "supervision/clicks.yaml")
SMALL = (
    *("--data.num_train=8", "--data.num_val=3", "--data.size=64"),
    *("--data.augmentation.crop=64", "--data.loader.batch_size=2"),
    *("--model.network.init_args.backbone=test_resnet", "--model.network.init_args.channels=16"),
    *("--model.regularizer_start_step=1", "--trainer.log_every_n_steps=1"),
    *("--trainer.enable_model_summary=false", "--ckpt_path=last"),
)
STEP = "at step"


class Report(Callback):
    """Prints each step when it begins."""

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        print(STEP, trainer.global_step, flush=True)


def arguments(run: Path, options: argparse.Namespace) -> list[str]:
    """Return the command that starts a run or continues it."""
    command = ["fit", *(part for config in CONFIGS for part in ("-c", config))]
    command += [f"--trainer.max_steps={options.steps}", f"--trainer.val_check_interval={options.every}"]
    command += [f"--trainer.callbacks.every_n_minutes={options.minutes}", f"--trainer.default_root_dir={run}"]
    return [*command, f"--data.loader.num_workers={options.workers}", *SMALL, *options.others]


def start(run: Path, options: argparse.Namespace) -> subprocess.Popen[str]:
    """Start or continue a run in a process of its own, which prints its steps."""
    command = [sys.executable, "-m", "experiments.cli", *arguments(run, options), "--trainer.callbacks+=kills.Report"]
    path = f"{ROOT}:{Path(__file__).parent}"
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    log = (run.parent / f"{run.name}.txt").open("a")
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, text=True, stdout=pipe, stderr=log, start_new_session=True)


def kill(process: subprocess.Popen[str], after: int, signum: int, delay: float) -> int:
    """Send a signal to a run and its loader processes, as SLURM does. Return the step, or -1 if the run ended before.

    Args:
        process: The run.
        after: Number of steps that begin before the step in which the run is killed.
        signum: The signal.
        delay: Seconds from the beginning of that step.
    """
    assert process.stdout is not None
    steps = (int(line.split()[-1]) for line in process.stdout if line.startswith(STEP))
    step = next((step for number, step in enumerate(steps) if number == after), -1)
    if step >= 0:
        time.sleep(delay)
        os.killpg(process.pid, signum)
    process.stdout.read()
    process.wait()
    return step


def left_by(run: Path) -> dict[str, Any]:
    """Return the parts of a run that must not depend on kills."""
    last, best = (torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("last", "best"))
    files = {name: (run / name).read_text() for name in ("result.json", "iou_per_class.csv")}
    return {"weights": last["state_dict"], "momentum": last["optimizer_states"], "best": best["state_dict"], **files}


def main(args: Sequence[str] | None = None) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=300, help="length of the run")
    parser.add_argument("--every", type=int, default=15, help="steps between evaluations")
    parser.add_argument("--minutes", type=float, default=0.01, help="minutes between regular checkpoints")
    parser.add_argument("--most", type=int, default=9, help="largest number of steps between a start and its kill")
    parser.add_argument("--workers", type=int, default=0, help="loader processes")
    parser.add_argument("--seed", type=int, default=0, help="seed of the kills")
    parser.add_argument("--folder", type=Path, help="folder of the runs (default: a temporary folder)")
    options, options.others = parser.parse_known_args(args)
    folder = options.folder or Path(tempfile.mkdtemp())
    draw, counts, trained, began = random.Random(options.seed), Counter[str](), 0, time.monotonic()
    alone, killed = folder / "alone", folder / "killed"
    os.environ.pop("SLURM_JOB_ID", None)  # a job that runs this script must not requeue itself
    torch.set_num_threads(1)  # as in the other processes
    cli.main(arguments(alone, options))
    for number in range(options.kills):
        signum = (signal.SIGKILL, signal.SIGUSR1, signal.SIGTERM)[number % 3]
        after = draw.randint(0, options.most)
        process = start(killed, options)
        step = kill(process, after, signum, delay=draw.uniform(0, 0.3))
        if step < 0 or (killed / "result.json").exists() or process.returncode != STATUS[signum]:
            sys.exit(f"kill {number}, {signum.name}: at step {step}, ended with status {process.returncode}")
        counts[signum.name] += 1
        trained = max(trained, step)
        print(f"kill {number + 1}: {signum.name} in step {step}", flush=True)
    cli.main(arguments(killed, options))
    one, other = left_by(alone), left_by(killed)
    differ = [name for name in one if repr_bits(one[name]) != repr_bits(other[name])]
    minutes = (time.monotonic() - began) / 60
    print(f"{dict(counts)}, the last in step {trained} of {options.steps}, in {minutes:.1f} min; logs in {folder}")
    print(f"differ: {', '.join(differ)}" if differ else "identical: " + ", ".join(one))
    sys.exit(1 if differ else 0)


def repr_bits(value: Any) -> Any:
    """Return a value that compares equal if and only if all bits are equal."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, value.numpy().tobytes()
    if isinstance(value, dict):
        return {name: repr_bits(item) for name, item in value.items()}
    if isinstance(value, list):
        return [repr_bits(item) for item in value]
    return value


if __name__ == "__main__":
    main()
