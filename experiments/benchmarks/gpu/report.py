"""Summary of ``gatedcrf benchmark gpu``."""

import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from datamodules.io.json_files import read_json
from experiments.benchmarks.gpu.goals import GOALS, goal_cells, images_per_second
from experiments.benchmarks.gpu.paper_hours import gpu_hours
from experiments.benchmarks.report import Result
from experiments.tables.report import to_markdown

PACKAGES = ("torch", "triton", "pytorch-lightning")


def describe_machine() -> Result:
    """Return the name of the GPU and the versions of its driver, of CUDA and of the packages."""
    driver = "unknown"
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(command, capture_output=True, text=True, check=False).stdout.partition("\n")[0]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {"gpu": gpu, "driver": driver, "CUDA": torch.version.cuda, **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def to_text(result: Result, folder: Path) -> str:
    """Return the summary as Markdown.

    Args:
        result: Machine and state of each part.
        folder: Folder with the files of the parts.
    """
    states = result["parts"]
    loss, train, tests = (_read(folder / f"{name}.json", name in states) for name in ("loss", "train", "tests"))
    known = {name: value for name, value in result.items() if name != "parts"}
    sections = [
        ", ".join(f"{name} {value}" for name, value in known.items()) + ".",
        to_markdown([["part", "state", "seconds"], *([n, p["state"], str(p["seconds"])] for n, p in states.items())]),
        to_markdown([["figure", "goal", "measured", "reached"], *(goal_cells(goal, loss, train) for goal in GOALS)]),
        _hours(train),
    ]
    if tests:
        names = "".join(f"\n- {name}" for name in tests["failed"])
        counts = f"Tests: {tests['passed']} passed, {len(tests['failed'])} failed, {tests['skipped']} skipped."
        sections.append(counts + (f"\n{names}" if names else ""))
    sections += [f"The end of {n}:\n\n```text\n{p['output']}\n```" for n, p in states.items() if "output" in p]
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _read(path: Path, measured: bool) -> Result:
    return read_json(path) if measured and path.is_file() else {}


def _hours(train: Result) -> str:
    """Return the GPU hours of the paper's trainings at the measured speed of ``fit``."""
    sizes = train.get("sizes", {}).values()
    speeds = {(s["setting"]["batch"], s["setting"]["crop"]): images_per_second(s) for s in sizes}
    if not speeds:
        return "GPU hours of the paper's tables: no speed of `fit` was measured."
    hours = gpu_hours(speeds)
    known = [value for value in hours.values() if value is not None]
    parts = [f"{name} {'not measured' if value is None else f'{value:.0f} h'}" for name, value in hours.items()]
    total = f"; {sum(known):.0f} h in total" if len(known) == len(hours) else ""
    conditions = "one seed each, without evaluations, at the speed of `fit` above"
    return f"GPU hours of all trainings of the paper's tables, {conditions}: {', '.join(parts)}{total}."
