"""Runs that are stopped, continued or repeated: the same weights, and nothing saved is lost."""

import os
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, Trainer

from experiments import RESULT
from experiments.cli import main
from experiments.run import load_config


def load(path: Path) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(path, weights_only=True)
    return checkpoint


def test_saved_configuration_stands_alone(finished: Path, tmp_path: Path) -> None:
    main(["fit", "-c", str(finished / "config.yaml"), f"--trainer.default_root_dir={tmp_path / 'again'}"])
    again = load(tmp_path / "again" / "checkpoints" / "last.ckpt")["state_dict"]
    torch.testing.assert_close(again, load(finished / "checkpoints" / "last.ckpt")["state_dict"], rtol=0, atol=0)


def test_resumed_run_equals_an_uninterrupted_one(fit: Any, finished: Path, tmp_path: Path) -> None:
    """Stop after two of four steps, go on with two workers: same order, same augmentation, same weights."""
    init = f"dirpath: {tmp_path}, filename: '{{step}}', every_n_train_steps: 2, save_top_k: -1"
    checkpoint = f"class_path: pytorch_lightning.callbacks.ModelCheckpoint, init_args: {{{init}}}"
    keep_all = f"--trainer.callbacks+={{{checkpoint}}}"
    fit(keep_all, run=tmp_path / "whole")
    resumed = fit("--data.num_workers=2", f"--ckpt_path={tmp_path / 'step=2.ckpt'}", run=tmp_path / "resumed")
    weights = load(resumed / "checkpoints" / "last.ckpt")["state_dict"]
    torch.testing.assert_close(weights, load(finished / "checkpoints" / "last.ckpt")["state_dict"], rtol=0, atol=0)


def test_a_run_is_not_started_over_another(fit: Any, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (finished / "checkpoints" / "last.ckpt").read_bytes()
    with pytest.raises(SystemExit, match="2"):
        fit(run=finished)
    assert "--ckpt_path=last" in capsys.readouterr().err
    assert (finished / "checkpoints" / "last.ckpt").read_bytes() == before


def test_command_line_beats_the_checkpoint(fit: Any, finished: Path, tmp_path: Path) -> None:
    checkpoint = finished / "checkpoints" / "last.ckpt"
    run = fit(f"--ckpt_path={checkpoint}", "--model.weight=0.55", "--trainer.max_steps=5", run=tmp_path / "run")
    assert load_config(run)["model"]["weight"] == 0.55


def test_command_line_sets_the_learning_rate_of_a_resumed_run(fit: Any, finished: Path, tmp_path: Path) -> None:
    """The optimizer's state holds the old one, and the schedule's state the old length."""
    options = [
        f"--ckpt_path={finished / 'checkpoints/last.ckpt'}",
        "--trainer.max_steps=8",
        "--model.learning_rate=0.5",
    ]
    run = fit(*options, run=tmp_path / "run")
    lines = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    column, step = lines[0].index("lr-SGD"), lines[0].index("step")
    rates = {int(line[step]): float(line[column]) for line in lines[1:] if line[column]}
    assert rates == {k + 1: pytest.approx(0.5 * (1 - k / 8) ** 0.9) for k in range(4, 8)}  # logged after the step


def test_nothing_of_a_finished_run_is_lost(fit: Any, tmp_path: Path) -> None:
    """Lightning's own CSV logger deletes the log of the run that it continues."""
    run = fit(run=tmp_path / "run")
    before = {path: path.read_bytes() for path in (run / "metrics.csv", run / "config.yaml", run / RESULT)}
    main(["predict", "-c", str(run / "config.yaml"), f"--ckpt_path={run / 'checkpoints/last.ckpt'}"])
    assert {path: path.read_bytes() for path in before} == before
    fit("--ckpt_path=last", run=run)
    assert (run / "metrics.1.csv").read_bytes() == before[run / "metrics.csv"]
    assert (run / "config.yaml").read_bytes() == before[run / "config.yaml"]
    assert load_config(run)["ckpt_path"] == "last"


class Terminate(Callback):
    """Sends SIGTERM after the third step, as a cluster does."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 3:
            os.kill(os.getpid(), signal.SIGTERM)


class Interrupt(Callback):
    """Sends SIGINT amid the third step, as Ctrl-C does."""

    def on_before_backward(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_run_interrupted_amid_a_step_is_resumed_exactly(
    fit: Any, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("interrupting")
    monkeypatch.setitem(sys.modules, "interrupting", module)
    monkeypatch.setattr(Interrupt, "__module__", "interrupting")
    monkeypatch.setattr(module, "Interrupt", Interrupt, raising=False)
    with pytest.raises(SystemExit, match="143"):
        fit("--trainer.callbacks+={class_path: interrupting.Interrupt}", run=tmp_path / "run")
    fit("--ckpt_path=last", run=tmp_path / "run")
    weights = load(tmp_path / "run" / "checkpoints" / "last.ckpt")["state_dict"]
    torch.testing.assert_close(weights, load(finished / "checkpoints" / "last.ckpt")["state_dict"], rtol=0, atol=0)


def test_a_run_without_a_last_checkpoint_is_not_started_anew(
    fit: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "best.ckpt").touch()
    with pytest.raises(SystemExit, match="2"):
        fit("--ckpt_path=last", run=tmp_path / "run")
    assert "ended before it saved last.ckpt" in capsys.readouterr().err


def test_termination_saves_a_checkpoint_and_is_no_result(
    fit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning turns SIGTERM into an ordinary end with status 0; a killed run must not count as finished."""
    module = ModuleType("terminating")
    monkeypatch.setitem(sys.modules, "terminating", module)
    monkeypatch.setattr(Terminate, "__module__", "terminating")
    monkeypatch.setattr(module, "Terminate", Terminate, raising=False)
    with pytest.raises(SystemExit) as ended:
        fit("--trainer.callbacks+={class_path: terminating.Terminate}", run=tmp_path / "run")
    assert ended.value.code == 143
    assert not (tmp_path / "run" / RESULT).exists()
    assert load(tmp_path / "run" / "checkpoints" / "last.ckpt")["global_step"] == 3
