"""``gatedcrf benchmark train``: what a training step costs, and what Lightning and logging add to it."""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console

from datamodules.io.errors import InputError
from experiments.benchmarks import lightning as benchmark_lightning
from experiments.benchmarks import step as benchmark_step
from experiments.benchmarks import train_report as benchmark_train_report
from experiments.benchmarks.measure import hardware
from experiments.benchmarks.plain_loop import WARM, Setting, Variant, of_segmentation_models
from experiments.benchmarks.training_data import draw_tree
from experiments.tables.report import to_markdown

SETTINGS = {
    "voc": Setting(21, 48, 256, (500, 375), "jpg"),  # Sec. 4.1
    "cityscapes": Setting(19, 8, 768, (2048, 1024), "png"),
    "voc_small": Setting(21, 2, 256, (500, 375), "jpg"),
    "cityscapes_small": Setting(19, 2, 384, (1024, 512), "png"),
    "folder_small": Setting(4, 8, 128, (240, 180), "jpg", backbone="resnet10t", channels=64),
}
FAST = Variant(channels_last=True, precision=torch.bfloat16, compiled=True)
VARIANTS = {
    "float32": Variant(),
    "channels_last": Variant(channels_last=True),
    "bf16": Variant(precision=torch.bfloat16),
    "fp16": Variant(precision=torch.float16),
    "compile": Variant(compiled=True),
    "channels_last+bf16": FAST._replace(compiled=False),
    "channels_last+bf16+compile": FAST,
    "tensor_form": Variant(engine="tensor"),
    "segmentation_models": Variant(network=of_segmentation_models),
}


def add_parser(commands: Any) -> None:
    """Add the subcommand.

    Args:
        commands: What ``ArgumentParser.add_subparsers`` returned.
    """
    parser = commands.add_parser("train", help="images per second, data wait, loss, memory, and what Lightning adds")
    text = ", ".join(f"{name} = {s.batch} crops of {s.crop}, C {s.classes}" for name, s in SETTINGS.items())
    gpu = torch.cuda.is_available()
    sizes = ["voc", "cityscapes"] if gpu else ["voc_small", "folder_small"]
    rows = [name for name in VARIANTS if gpu or name != "fp16"]
    parser.add_argument("--sizes", nargs="+", choices=list(SETTINGS), default=sizes, help=text)
    parser.add_argument("--rows", nargs="+", choices=rows, default=rows, help="ways to run a step")
    parser.add_argument("--steps", type=int, default=32, help="per run of the comparison with Lightning")
    parser.add_argument("--repeats", type=int, default=5, help="turns; a row that has taken a minute is not repeated")
    parser.add_argument("--num_workers", type=int, default=8 if gpu else 1, help="loader processes")
    parser.add_argument("--out", default="runs/benchmark", help="folder of train.json and train.md")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Measure; print the tables and write them.

    Args:
        options: Of the command line.

    Raises:
        InputError: No repeats, or too few steps.
    """
    if options.repeats < 1:
        raise InputError(f"--repeats is {options.repeats}; measure at least once.")
    if options.steps < WARM + 2:
        raise InputError(f"--steps is {options.steps}; the first {WARM} are not measured, so take {WARM + 2} or more.")
    console, out = Console(), Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    result: dict[str, Any] = {"hardware": hardware(device), "num_workers": options.num_workers, "sizes": {}}
    for name in options.sizes:
        result["sizes"][name] = _measure(SETTINGS[name], options, device, console)
        (out / "train.json").write_text(json.dumps(result, indent=2) + "\n")
    steps, overhead = (to_markdown(lines) for lines in benchmark_train_report.tables(result))
    text = f"{benchmark_train_report.title(result)}\n\n{steps}\n{benchmark_train_report.LIGHTNING}\n\n{overhead}"
    (out / "train.md").write_text(text)
    console.print(text, highlight=False, soft_wrap=True)
    console.print(f"Written to {out}: train.json, train.md.", highlight=False, soft_wrap=True)


def _measure(setting: Setting, options: argparse.Namespace, device: torch.device, console: Console) -> dict[str, Any]:
    title = f"{setting.batch} crops of {setting.crop}"
    with TemporaryDirectory() as name:
        root = Path(name) / "photos"
        console.print(f"drawing images for {title}", highlight=False)
        draw_tree(root, setting)
        variants = {row: VARIANTS[row] for row in options.rows}
        console.print(f"measuring {title}: {', '.join(variants)}", highlight=False, soft_wrap=True)
        rows = benchmark_step.measure(setting, variants, root, device, options.repeats, options.num_workers)
        console.print(f"measuring {title}: Lightning and a plain loop", highlight=False, soft_wrap=True)
        turns = benchmark_lightning.measure(setting, root, device, options.steps, options.repeats, options.num_workers)
    return {"setting": setting._asdict(), "rows": rows, "lightning": turns}
