"""Command line of the benchmarks."""

import subprocess
import sys
from importlib import import_module

import pytest

from experiments.benchmarks.parser import make_parser


@pytest.mark.parametrize("command", ["loss", "data", "train", "tune", "gpu"])
def test_command_names_the_function_that_runs_it(command: str) -> None:
    module, function = make_parser().parse_args([command]).function.split(":")
    assert callable(getattr(import_module(module), function))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["loss", "--repeats", "0"], "--repeats: 0 is too small; use 1 or more"),
        (["loss", "--repeats", "x"], "--repeats: invalid integer value: 'x'"),
        (["loss", "--sizes", "x"], "voc8"),
        (["train", "--steps", "3"], "--steps: 3 is too small; use 4 or more"),
        (["train", "--rep", "8"], "unrecognized arguments: --rep"),
        (["gpu", "--parts", "x"], "tests"),
    ],
)
def test_bad_options_are_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        make_parser().parse_args(arguments)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_parser_loads_nothing_slow() -> None:
    code = "import sys, experiments.benchmarks.parser as p; p.make_parser(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "pytorch_lightning", "rich"} & set(modules)
