"""Command line of ``gatedcrf benchmark``."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.settings import GPU_PARTS, LOSS_SIZES, TRAIN_SIZES, VARIANTS, WARMUP


def parse(args: Sequence[str]) -> argparse.Namespace:
    """Parse a command line that begins with "benchmark"."""
    return make_parser().parse_args(args[1:])


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all benchmarks. ``options.function`` names the function to run."""
    text = "Measure speed and memory on this machine."
    parser = argparse.ArgumentParser("gatedcrf benchmark", description=text, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="{loss,data,train,tune,gpu}")

    loss = _add(commands, "loss", "measure time, memory and error of each engine of the Gated CRF loss", repeats=9)
    shapes = "; ".join(f"{name}: {size.shape}, r = {size.radius}" for name, size in LOSS_SIZES.items())
    text = f"sizes (N, C, H, W) of the predictions, default all. {shapes}"
    loss.add_argument("--sizes", nargs="+", metavar="SIZE", choices=LOSS_SIZES, default=list(LOSS_SIZES), help=text)
    text = "also measure the growth of the time with N, C, H W and r (default)"
    loss.add_argument("--scaling", action=argparse.BooleanOptionalAction, default=True, help=text)

    _add(commands, "data", "measure training samples per second, and compare with other libraries", repeats=9)

    train = _add(commands, "train", "measure a training step, and the overhead of Lightning", repeats=5)
    shapes = "; ".join(f"{name}: {s.batch} crops of {s.crop}, C = {s.classes}" for name, s in TRAIN_SIZES.items())
    text = f"default: voc cityscapes on a GPU, voc_small folder_small on a CPU. {shapes}"
    train.add_argument("--sizes", nargs="+", metavar="SIZE", choices=TRAIN_SIZES, help=text)
    text = f"variants of a step, default all: {', '.join(VARIANTS)}"
    train.add_argument("--rows", nargs="+", metavar="ROW", choices=VARIANTS, default=list(VARIANTS), help=text)
    text = "steps of each run with and without Lightning, default: 300 on a GPU, 32 on a CPU"
    train.add_argument("--steps", type=_at_least(WARMUP + 2), help=text)
    text = "loader processes; default: 8 on a GPU, 1 on a CPU"
    train.add_argument("--num_workers", type=_at_least(0), help=text)

    _add(commands, "tune", "measure the fused kernel of the loss for several tiles, on a GPU", repeats=9)

    text = "run the tests and benchmarks that need a GPU and train a table, in 15 minutes; without a GPU, only say so"
    gpu = _add(commands, "gpu", text, out="experiments/results/gpu")
    gpu.set_defaults(function="experiments.benchmarks.gpu.command:run")
    text = "parts to run, default all; each has its own process and time limit"
    gpu.add_argument("--parts", nargs="+", metavar="PART", choices=GPU_PARTS, default=list(GPU_PARTS), help=text)
    return parser


def _add(
    commands: Any, name: str, text: str, repeats: int | None = None, out: str = "runs/benchmark"
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    parser.set_defaults(function=f"experiments.benchmarks.{name}:run")
    if repeats is not None:
        text = "measurements of each row, default %(default)s; fewer for slow rows"
        parser.add_argument("--repeats", type=_at_least(1), default=repeats, help=text)
    parser.add_argument("--out", type=Path, default=Path(out), help="folder for the results, default %(default)s")
    return parser


def _at_least(least: int) -> Callable[[str], int]:
    def integer(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is too small; use {least} or more")
        return value

    return integer
