"""Checkpoints and weight files that cannot be used end a command with one line, and nothing in them is executed."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from experiments.cli import main

REMEDY = "Pass another checkpoint: best, last or a file that a run has written."
NOT_OURS = "was not written by torch.save, or is damaged"
DAMAGED = "is truncated or damaged"


class Payload:
    """Pickled as a call that creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


def text(path: Path) -> None:
    path.write_text("not a checkpoint\n" * 50)


def empty(path: Path) -> None:
    path.touch()


def truncated(path: Path) -> None:
    torch.save({"state_dict": {"weight": torch.zeros(5000)}, "global_step": 1}, path)
    path.write_bytes(path.read_bytes()[:9000])


def unsafe(path: Path) -> None:
    torch.save({"state_dict": {}, "global_step": 1, "other": Payload(path.with_name("executed"))}, path)


def whole_module(path: Path) -> None:
    torch.save(timm.create_model("test_resnet"), path)


def other_weights(path: Path) -> None:
    torch.save(timm.create_model("test_vit").state_dict(), path)


def truncated_safetensors(path: Path) -> None:
    save_file({"weight": torch.zeros(5000)}, path)
    path.write_bytes(path.read_bytes()[:9000])


CHECKPOINTS = [
    (text, NOT_OURS),
    (empty, DAMAGED),
    (truncated, DAMAGED),
    (unsafe, r"holds objects other than tensors \([\w.]+, [\w.]+.*\), and loading these could run code from the file"),
    (whole_module, r"holds objects other than tensors \(\w[\w.]+, [\w.]+, \.\.\.\), and loading these could run code"),
    (other_weights, "is not a checkpoint of a run, with state_dict and global_step"),
    (truncated_safetensors, NOT_OURS),
]
WEIGHTS = [
    (text, ".pth", NOT_OURS),
    (truncated, ".pth", DAMAGED),
    (unsafe, ".pth", "holds objects other than tensors"),
    (whole_module, ".pth", "holds objects other than tensors"),
    (other_weights, ".pth", r"does not hold the weights of test_resnet: \d+ of \d+ tensors are missing"),
    (truncated_safetensors, ".safetensors", DAMAGED),
]


def refuse(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command and return the one line of its error."""
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        main(list(arguments))
    error = capsys.readouterr().err.split("gatedcrf: error: ")[1]
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(("write", "reason"), CHECKPOINTS)
@pytest.mark.parametrize("command", ["validate", "fit"])
def test_unusable_checkpoint_is_refused(
    command: str,
    write: Callable[[Path], None],
    reason: str,
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "some.ckpt"
    write(path)
    folder = f"--trainer.default_root_dir={tmp_path / 'run'}"
    error = refuse(capsys, command, "-c", str(finished / "config.yaml"), f"--ckpt_path={path}", folder)
    assert re.fullmatch(rf"{re.escape(str(path))} {reason}.*\. {re.escape(REMEDY)}\n", error)
    assert not (tmp_path / "executed").exists()
    assert not list((tmp_path / "run").glob("[!l]*"))  # a training writes its lock


@pytest.mark.parametrize(("write", "suffix", "reason"), WEIGHTS)
def test_unusable_weights_are_refused(
    write: Callable[[Path], None],
    suffix: str,
    reason: str,
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / f"weights{suffix}"
    write(path)
    options = (f"--model.network.init_args.pretrained={path}", f"--trainer.default_root_dir={tmp_path / 'run'}")
    error = refuse(capsys, "fit", "-c", str(finished / "config.yaml"), *options)
    assert re.search(rf"{re.escape(str(path))} {reason}.*Pass the file that timm publishes", error)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("command", ["validate", "fit"])
def test_checkpoint_of_another_model_is_refused(
    command: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = finished / "checkpoints" / "last.ckpt"
    options = (f"--ckpt_path={checkpoint}", f"--trainer.default_root_dir={tmp_path / 'run'}")
    other = "--model.network.init_args.channels=8"
    error = refuse(capsys, command, "-c", str(finished / "config.yaml"), *options, other)
    assert f"{checkpoint} holds the weights of another model: " in error
    assert "is network.aspp.branches.0.0.weight. Pass the configuration of its run" in error
