"""The parts of ``gatedcrf benchmark gpu``. Each is a process with a time limit, so no part can cost another."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from experiments import EXPERIMENTS
from experiments.benchmarks.report import Result, save_json
from experiments.benchmarks.settings import GPU_PARTS

GRACE = 20  # seconds to write results after the time limit
TAIL = 30  # lines of output that a report keeps


class Part(NamedTuple):
    """A command, its time limit, the files that it leaves in ``out``, and what writes them from its own output."""

    command: list[str]
    seconds: int
    files: list[Path]
    collect: Callable[[], None]


def make_parts(out: Path, runs: Path) -> dict[str, Part]:
    """Return the parts by name.

    Args:
        out: Folder of the results.
        runs: Folder of this call, for logs, runs and everything else that a part writes.
    """
    junit, tests = runs / "tests.xml", EXPERIMENTS.parent / "tests"
    table, copies = runs / "shapes" / "table1", [out / "shapes_table1.csv", out / "shapes_table1.md"]
    cells = ["clicks/pCE", "clicks/GCRF_s", "full/pCE"]

    def benchmark(name: str, *options: str) -> Part:
        command = [*_gatedcrf("benchmark", name), "--out", str(out), *options]
        return Part(command, GPU_PARTS[name], [out / f"{name}.json", out / f"{name}.md"], lambda: None)

    pytest = [sys.executable, "-m", "pytest", str(tests), "-m", "gpu", f"--junit-xml={junit}"]
    reproduce = _gatedcrf("reproduce", "table1", "--dataset", "shapes", "--runs", str(runs), "--cells", *cells)
    return {
        "tests": Part(pytest, GPU_PARTS["tests"], [out / "tests.json"], lambda: _save_tests(junit, out)),
        "loss": benchmark("loss", "--sizes", "voc", "cityscapes", "voc_r8", "full", "full_r11", "--no-scaling"),
        "train": benchmark(*("train", "--rows", "float32", "preset_gpu", "--steps", "100", "--repeats", "2")),
        "data": benchmark("data", "--repeats", "3"),
        "tune": benchmark("tune"),
        "table": Part(reproduce, GPU_PARTS["table"], copies, lambda: _copy_table(table, copies)),
    }


def _gatedcrf(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "experiments.cli", *arguments]


def run_part(part: Part, log: Path) -> Result:
    """Run a part and return its state, its seconds, and the end of its output unless it is done.

    The state is "done", "failed" or "timed out". Files of an earlier call are removed first.
    """
    for file in part.files:
        file.unlink(missing_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with log.open("wb") as output:
        state = _wait(part, subprocess.Popen(part.command, stdout=output, stderr=output, start_new_session=True))
    result: Result = {"state": state, "seconds": round(time.monotonic() - start, 1)}
    try:
        part.collect()
    except (OSError, ElementTree.ParseError) as error:  # a report that was cut off, or a full disk
        result |= {"state": "failed" if state == "done" else state, "results": str(error)}
    if result["state"] != "done":
        result["output"] = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL:])
    return result


def _wait(part: Part, process: subprocess.Popen[bytes]) -> str:
    """Return the state of a process after its end. Interrupt it at its time limit, so that it writes what it has."""
    try:
        return "failed" if process.wait(part.seconds) else "done"
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        return "timed out"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # also what it has started
        process.wait()


def _save_tests(junit: Path, out: Path) -> None:
    """Write tests.json from pytest's report: the number of passed and skipped tests and the names of failed ones."""
    if not junit.is_file():
        return
    result: Result = {"passed": 0, "skipped": 0, "failed": []}
    for case in ElementTree.parse(junit).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            result["failed"].append(f"{case.get('classname')}::{case.get('name')}")
        else:
            result["skipped" if case.find("skipped") is not None else "passed"] += 1
    save_json(out / "tests.json", result)


def _copy_table(table: Path, copies: list[Path]) -> None:
    for copy in copies:
        if table.with_suffix(copy.suffix).is_file():
            shutil.copyfile(table.with_suffix(copy.suffix), copy)
