"""``gatedcrf benchmark``: what the loss, the data and a training step cost, measured on this machine."""

import argparse
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from datamodules.io.errors import InputError
from experiments.benchmarks import data as benchmark_data
from experiments.benchmarks import loss as benchmark_loss
from experiments.benchmarks import loss_report as benchmark_report
from experiments.benchmarks import train as benchmark_train
from experiments.tables.report import to_markdown


def run(args: Sequence[str]) -> None:
    """Measure, print a table and write it.

    Args:
        args: Command line without "benchmark".

    Raises:
        InputError: An option that makes no sense.
    """
    parser = argparse.ArgumentParser("gatedcrf benchmark", allow_abbrev=False)
    commands = parser.add_subparsers(required=True)
    loss = commands.add_parser("loss", help="time, memory and error of the Gated CRF loss per engine and size")
    sizes = benchmark_loss.SIZES
    text = ", ".join(f"{name} = {size.shape} r {size.radius}" for name, size in sizes.items())
    loss.add_argument("--sizes", nargs="+", choices=list(sizes), default=list(sizes), help=text)
    loss.add_argument(
        "--repeats", type=int, default=9, help="turns; a step that has taken 20 s is not repeated further"
    )
    loss.add_argument(
        "--scaling", action=argparse.BooleanOptionalAction, default=True, help="measure growth in N, C, H W and r"
    )
    loss.add_argument("--out", default="runs/benchmark", help="folder of loss.json, loss.md and loss.png")
    loss.set_defaults(run=_measure_loss)
    benchmark_data.add_parser(commands)
    benchmark_train.add_parser(commands)
    options = parser.parse_args(args)
    options.run(options)


def _measure_loss(options: argparse.Namespace) -> None:
    if options.repeats < 1:
        raise InputError(f"--repeats is {options.repeats}; measure at least once.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    console = Console()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    chosen = [benchmark_loss.SIZES[name] for name in options.sizes]
    scaled = benchmark_loss.SCALED if options.scaling else {}
    save = partial(_write, out / "loss.json")
    result = benchmark_loss.measure(chosen, scaled, device, options.repeats, console.print, save)
    text = f"{benchmark_report.title(result)}\n\n{to_markdown(benchmark_report.lines(result))}"
    (out / "loss.md").write_text(text)
    benchmark_report.draw(result, out / "loss.png")
    console.print(text, highlight=False, soft_wrap=True)
    console.print(f"Written to {out}: loss.json, loss.md, loss.png.", highlight=False, soft_wrap=True)


def _write(path: Path, result: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(result, indent=2) + "\n")
