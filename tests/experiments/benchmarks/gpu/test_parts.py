"""Parts of ``gatedcrf benchmark gpu``: a failed or endless one costs no other, and all commands parse."""

import json
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from experiments.benchmarks.gpu.parts import GRACE, Part, make_parts, run_part
from experiments.benchmarks.settings import GPU_PARTS
from experiments.cli import PARSERS

CHILD = "import subprocess; child = subprocess.Popen(['sleep', '1000']); print(child.pid, flush=True); child.wait()"
TESTS = """
import pytest
pytestmark = pytest.mark.gpu
def test_right(): pass
def test_wrong(): assert False
def test_broken(missing): pass
def test_skipped(): pytest.skip("needs a GPU")
@pytest.mark.parametrize("size", [1, 2])
def test_sizes(size): assert size == 1
"""


def part(code: str, seconds: int = 60, files: tuple[Path, ...] = ()) -> Part:
    return Part([sys.executable, "-c", code], seconds, list(files), lambda: None)


def test_limits_and_grace_are_fifteen_minutes(tmp_path: Path) -> None:
    assert sum(GPU_PARTS.values()) + GRACE * len(GPU_PARTS) <= 15 * 60
    parts = make_parts(tmp_path, tmp_path)
    assert {name: found.seconds for name, found in parts.items()} == GPU_PARTS


def test_states_of_parts(tmp_path: Path) -> None:
    """A finished part, one that fails, and one that is interrupted and still writes."""
    stale = tmp_path / "stale.json"
    stale.write_text("{}")
    done = run_part(part("print('fine')", files=(stale,)), tmp_path / "done.log")
    assert (done["state"], set(done)) == ("done", {"state", "seconds"})
    assert not stale.exists()
    failed = run_part(part("for k in range(100): print(k)\nraise ValueError('no')"), tmp_path / "failed.log")
    assert failed["state"] == "failed"
    assert failed["output"].endswith("ValueError: no")
    assert "\n50\n" not in failed["output"]
    slow = "import time\ntry: time.sleep(1000)\nexcept KeyboardInterrupt: print('saved')"
    timed_out = run_part(part(slow, seconds=1), tmp_path / "slow.log")
    assert (timed_out["state"], timed_out["output"]) == ("timed out", "saved")
    assert 1 <= timed_out["seconds"] < 10


def test_a_part_leaves_no_process(tmp_path: Path) -> None:
    run_part(part(CHILD, seconds=2), tmp_path / "log")
    pid = (tmp_path / "log").read_text().split()[0]
    deadline = time.monotonic() + 10
    while (status := Path("/proc", pid, "status")).exists() and "Z (zombie)" not in status.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_results_of_the_tests_are_named(tmp_path: Path) -> None:
    """As the part runs pytest, but on other tests."""
    (tmp_path / "test_given.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu\n")
    given = make_parts(tmp_path / "out", tmp_path / "runs")["tests"]
    place = next(k for k, word in enumerate(given.command) if word.endswith("/tests"))
    assert Path(given.command[place], "experiments", "benchmarks", "gpu", Path(__file__).name) == Path(__file__)
    command = [*given.command[:place], str(tmp_path / "test_given.py"), *given.command[place + 1 :]]
    assert run_part(given._replace(command=command), tmp_path / "log")["state"] == "failed"
    result = json.loads((tmp_path / "out" / "tests.json").read_text())
    assert (result["passed"], result["skipped"]) == (2, 1)
    assert [name.split("::")[1] for name in result["failed"]] == ["test_wrong", "test_broken", "test_sizes[2]"]


def test_table_is_copied(tmp_path: Path) -> None:
    out, runs = tmp_path / "out", tmp_path / "runs"
    (runs / "shapes").mkdir(parents=True)
    out.mkdir()
    for suffix in ("csv", "md", "tex"):
        (runs / "shapes" / f"table1.{suffix}").write_text(suffix)
    make_parts(out, runs)["table"].collect()
    assert {path.name: path.read_text() for path in out.iterdir()} == {
        "shapes_table1.csv": "csv",
        "shapes_table1.md": "md",
    }


@pytest.mark.parametrize("name", GPU_PARTS)
def test_commands_of_parts_parse(name: str, tmp_path: Path) -> None:
    command = make_parts(tmp_path, tmp_path)[name].command
    assert command[0] == sys.executable
    if name == "tests":
        command = [f"{word}/losses/engines" if word.endswith("/tests") else word for word in command]  # a part of them
        collected = subprocess.run([*command, "--collect-only"], capture_output=True, text=True, check=True).stdout
        assert "tests/losses/engines/test_fused.py" in collected
        return
    arguments = command[command.index("experiments.cli") + 1 :]
    options = import_module(f"experiments.{PARSERS[arguments[0]]}.parser").parse(arguments)
    assert tmp_path in (getattr(options, "out", None), getattr(options, "runs", None))
