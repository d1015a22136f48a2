"""The parser of ``gatedcrf data``."""

import subprocess
import sys
from importlib import import_module

import pytest

from experiments.data.parser import parse

COMMANDS = [
    ["check", "photos"],
    ["show", "photos"],
    ["download", "voc", "data/voc"],
    ["import", "cvat", "annotations.xml", "--out=photos"],
    ["to-coco", "predict", "val.json", "results.json"],
    ["background-clicks", "scribble_annotation.zip"],
    ["cityscapes-clicks", "data/cityscapes"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_function_of_each_command_exists(command: list[str]) -> None:
    module, _, function = parse(["data", *command]).function.partition(":")
    assert callable(getattr(import_module(module), function))


def test_dataset_settings_are_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    options = parse(["data", "check", "photos", "--data.seed=3", "--all", "--data.loader.batch_size=2"])
    assert (options.root, options.all, options.settings) == (
        "photos",
        True,
        ["--data.seed=3", "--data.loader.batch_size=2"],
    )
    for refused in (["check", "photos", "--model.seed=3"], ["to-coco", "a", "b", "c", "--data.seed=3"]):
        with pytest.raises(SystemExit, match="2"):
            parse(["data", *refused])
        assert f"unrecognized arguments: {refused[-1]}" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--al", "--count=0", "--crops=few"])
def test_invalid_options_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(["data", "show", "photos", option])
    assert option.partition("=")[0] in capsys.readouterr().err


def test_parser_imports_no_large_package() -> None:
    code = (
        "import sys, experiments.data.parser; sys.exit(bool({'torch', 'numpy', 'rich', 'yaml'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
