"""``gatedcrf benchmark gpu``: everything that a GPU decides, in one command of at most 15 minutes."""

import argparse
from datetime import datetime
from pathlib import Path

import torch

from experiments.benchmarks.gpu.parts import make_parts, run_part
from experiments.benchmarks.gpu.report import describe_machine, to_text
from experiments.benchmarks.report import Result, publish, save_json


def run(options: argparse.Namespace) -> None:
    """Run the parts one after the other, and write gpu.json and gpu.md."""
    if not torch.cuda.is_available():
        print("There is no GPU, so nothing was measured; run the same command on a machine with one.")
        return
    now = datetime.now().astimezone()
    runs = Path("runs", "gpu", f"{now:%Y%m%d-%H%M%S}").resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    parts = make_parts(options.out.resolve(), runs)
    result: Result = {"date": now.isoformat(timespec="seconds"), **describe_machine(), "parts": {}}
    for name in options.parts:
        print(f"{name}: at most {parts[name].seconds} s, output in {runs / name}.log", flush=True)
        result["parts"][name] = run_part(parts[name], runs / f"{name}.log")
        save_json(options.out / "gpu.json", result)
    publish(options.out, "gpu", result, to_text(result, options.out))
