"""Stopped, continued and repeated runs have the same weights and lose no files."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from pytorch_lightning import Callback, Trainer

from datamodules.io.atomic import part_of
from datamodules.io.errors import InputError
from experiments import RESULT
from experiments.cli import main
from experiments.tables.cell import Cell
from experiments.tables.reproduce import prepare
from experiments.tables.table import CellSpec
from experiments.train.run import Run

Fit = Callable[..., Path]


class SendSignal(Callback):
    """Send a signal to this process during step `after + 1`, or before training if `after` is -1."""

    def __init__(self, signum: int, after: int) -> None:
        self.signum, self.after = signum, after

    def on_validation_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.sanity_checking and self.after < 0:
            os.kill(os.getpid(), self.signum)

    def on_before_backward(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.after:
            os.kill(os.getpid(), self.signum)


Send = Callable[[int, int], str]


@pytest.fixture(scope="module")
def send() -> Iterator[Send]:
    """Return the option that adds the callback."""
    with pytest.MonkeyPatch.context() as patch:
        module = ModuleType("sending")
        patch.setitem(sys.modules, "sending", module)
        patch.setattr(SendSignal, "__module__", "sending")
        patch.setattr(module, "SendSignal", SendSignal, raising=False)
        arguments = "class_path: sending.SendSignal, init_args: {{signum: {}, after: {}}}"
        yield lambda signum, after: f"--trainer.callbacks+={{{arguments.format(int(signum), after)}}}"


@pytest.fixture(scope="module")
def stopped(fit: Fit, send: Send, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a run that was stopped after three of four steps."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(SystemExit, match="143"):
        fit(send(signal.SIGTERM, 2), run=run)
    return run


@pytest.fixture(scope="module")
def two(fit: Fit, send: Send, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with checkpoints of the last two steps."""
    run = tmp_path_factory.mktemp("two") / "run"
    with pytest.raises(SystemExit, match="143"):
        fit("--trainer.callbacks.every_n_minutes=0", send(signal.SIGTERM, 2), run=run)
    assert [load(run / "checkpoints" / f"{name}.ckpt")["global_step"] for name in ("last", "previous")] == [3, 2]
    return run


def logged(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def assert_same_weights(run: Path, other: Path, name: str) -> None:
    weights, others = (load(path / "checkpoints" / f"{name}.ckpt")["state_dict"] for path in (run, other))
    torch.testing.assert_close(weights, others, rtol=0, atol=0)


def load(path: Path) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(path, weights_only=True)
    return checkpoint


def test_saved_configuration_stands_alone(finished: Path, tmp_path: Path) -> None:
    main(["fit", "-c", str(finished / "config.yaml"), f"--trainer.default_root_dir={tmp_path / 'again'}"])
    again = load(tmp_path / "again" / "checkpoints" / "last.ckpt")["state_dict"]
    torch.testing.assert_close(again, load(finished / "checkpoints" / "last.ckpt")["state_dict"], rtol=0, atol=0)


def test_resumed_run_equals_an_uninterrupted_one(fit: Any, finished: Path, tmp_path: Path) -> None:
    """Stop after two of four steps and continue with two workers: same order, augmentation and weights."""
    init = f"dirpath: {tmp_path}, filename: '{{step}}', every_n_train_steps: 2, save_top_k: -1"
    checkpoint = f"class_path: pytorch_lightning.callbacks.ModelCheckpoint, init_args: {{{init}}}"
    keep_all = f"--trainer.callbacks+={{{checkpoint}}}"
    fit(keep_all, run=tmp_path / "whole")
    resumed = fit("--data.loader.num_workers=2", f"--ckpt_path={tmp_path / 'step=2.ckpt'}", run=tmp_path / "resumed")
    weights = load(resumed / "checkpoints" / "last.ckpt")["state_dict"]
    torch.testing.assert_close(weights, load(finished / "checkpoints" / "last.ckpt")["state_dict"], rtol=0, atol=0)


def test_a_run_is_not_started_over_another(fit: Any, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (finished / "checkpoints" / "last.ckpt").read_bytes()
    with pytest.raises(SystemExit, match="2"):
        fit(run=finished)
    assert "--ckpt_path=last" in capsys.readouterr().err
    assert (finished / "checkpoints" / "last.ckpt").read_bytes() == before


def test_command_line_beats_the_checkpoint(fit: Any, stopped: Path, tmp_path: Path) -> None:
    run = fit(
        f"--ckpt_path={stopped / 'checkpoints/last.ckpt'}", "--model.regularizer_weight=0.55", run=tmp_path / "run"
    )
    assert Run(run).config["model"]["regularizer_weight"] == 0.55


def test_command_line_sets_the_learning_rate_of_a_resumed_run(fit: Any, stopped: Path, tmp_path: Path) -> None:
    """The saved optimizer state contains the old learning rate."""
    run = fit(f"--ckpt_path={stopped / 'checkpoints/last.ckpt'}", "--model.learning_rate=0.5", run=tmp_path / "run")
    rates = {int(row["step"]): float(row["lr-SGD"]) for row in logged(run) if row["lr-SGD"]}
    assert rates == {3: pytest.approx(0.5 * (1 - 3 / 4) ** 0.9)}


@pytest.mark.parametrize(
    ("option", "difference"),
    [
        ("--trainer.max_steps=8", "trainer.max_steps: 4 before, 8 now"),
        ("--data.loader.batch_size=4", "data.init_args.loader.batch_size: 2 before, 4 now"),
        ("--seed_everything=1", "seed_everything: 0 before, 1 now"),
        ("--trainer.accumulate_grad_batches=2", "trainer.accumulate_grad_batches: 1 before, 2 now"),
        ("--data.supervision=full", "data.init_args.supervision: clicks before, full now"),
        ("--data.augmentation.crop=48", "data.init_args.augmentation.crop: 64 before, 48 now"),
        ("--model.regularizer_weight=0.3", "model.regularizer_weight: 0.1 before, 0.3 now"),
        ("--model.regularizer.init_args.radius=3", "model.regularizer.init_args.radius: None before, 3 now"),
    ],
)
def test_run_does_not_continue_with_other_settings(
    option: str, difference: str, fit: Any, stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit, match="2"):
        fit(option, "--ckpt_path=last", run=stopped)
    assert f"{stopped} was started with other settings:\n  {difference}" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before


def test_another_run_may_continue_a_checkpoint_with_the_same_samples_only(
    fit: Any, stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = f"--ckpt_path={stopped / 'checkpoints/last.ckpt'}"
    with pytest.raises(SystemExit, match="2"):
        fit(checkpoint, "--trainer.max_steps=8", "--model.learning_rate=0.5", run=tmp_path / "run")
    error = capsys.readouterr().err
    assert f"{stopped} was started with other settings:\n  trainer.max_steps: 4 before, 8 now" in error
    assert "learning_rate" not in error
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["lock"]


def test_run_of_version_0_1_is_refused(fit: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").write_text("model: {weight: 0.1, first_step: 0}")
    with pytest.raises(SystemExit, match="2"):
        fit("--ckpt_path=last", run=tmp_path)
    assert f"{tmp_path} is a run of version 0.1" in capsys.readouterr().err


def test_nothing_of_a_finished_run_is_lost(fit: Any, tmp_path: Path) -> None:
    """Lightning's own CSV logger deletes the log of the run that it continues."""
    run = fit(run=tmp_path / "run")
    before = {path: path.read_bytes() for path in (run / "metrics.csv", run / "config.yaml", run / RESULT)}
    main(["predict", "-c", str(run / "config.yaml"), f"--ckpt_path={run / 'checkpoints/last.ckpt'}"])
    assert {path: path.read_bytes() for path in before} == before
    fit("--ckpt_path=last", run=run)
    assert (run / "metrics.1.csv").read_bytes() == before[run / "metrics.csv"]
    assert Run(run).config == yaml.safe_load(before[run / "config.yaml"]) | {"ckpt_path": "last"}


@pytest.mark.parametrize(
    ("signum", "step", "status"),
    [
        (signal.SIGTERM, 2, 143),
        (signal.SIGTERM, 1, 143),  # before a validation
        (signal.SIGTERM, -1, 143),  # before all steps
        (signal.SIGINT, 1, 143),
        (signal.SIGUSR1, 2, 138),
    ],
)
def test_a_run_stopped_amid_a_step_is_resumed_exactly(
    signum: int, step: int, status: int, fit: Any, send: Send, finished: Path, tmp_path: Path
) -> None:
    """Last weights, best weights and log are the same, with each validation logged once."""
    run = tmp_path / "run"
    with pytest.raises(SystemExit, match=str(status)):
        fit(send(signum, step), run=run)
    assert not (run / RESULT).exists()
    assert (run / "stopped").is_file()
    saved = load(run / "checkpoints" / "last.ckpt")
    assert saved["global_step"] == max(step, 0) + 1
    (best,) = (state for name, state in saved["callbacks"].items() if name.startswith("ModelCheckpoint"))
    assert (best["best_model_score"] is not None) == (step > 0)  # of step 2; a later, worse one must not replace it
    first = logged(run)
    fit("--ckpt_path=last", run=run)
    assert not (run / "stopped").exists()
    for name in ("last", "best"):
        assert_same_weights(run, finished, name)
    both, whole = (
        [values for row in rows if any((values := [row["step"], row["train/loss"], row.get("val/miou", "")])[1:])]
        for rows in (first + logged(run), logged(finished))
    )
    assert both == whole


def test_two_processes_do_not_train_in_one_directory(fit: Any, tmp_path: Path) -> None:
    """A process may outlive a killed `reproduce` and still hold the lock.

    The lock is released when that process ends.
    """
    run = tmp_path / "run"
    run.mkdir()
    code = "import fcntl, sys, time; file = open(sys.argv[1] + '/lock', 'a'); fcntl.lockf(file, fcntl.LOCK_EX)"
    command = [sys.executable, "-c", f"{code}; print(flush=True); time.sleep(100)", str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        first.stdout.readline()
        with pytest.raises(SystemExit, match="2"):
            fit("--ckpt_path=last", run=run)
        spec = CellSpec("supervision/clicks.yaml", "losses/pce.yaml")
        with pytest.raises(InputError, match="Another process trains"):
            prepare([Cell(spec, "shapes", "paper", 0, Run(run), "clicks/pCE", "table1")])
        assert [path.name for path in run.iterdir()] == ["lock"]
        first.kill()
    fit("--ckpt_path=last", run=run)
    assert (run / RESULT).is_file()


def test_handlers_of_signals_are_put_back(fit: Any, send: Send, tmp_path: Path) -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    with pytest.raises(SystemExit):
        fit(send(signal.SIGINT, 1), run=tmp_path / "run")
    assert [signal.getsignal(number) for number in numbers] == before


def test_the_status_tells_the_signal(fit: Any, send: Send, tmp_path: Path) -> None:
    """The SLURM script requeues the job on both."""
    for number, status in ((signal.SIGUSR1, "138"), (signal.SIGTERM, "143")):
        with pytest.raises(SystemExit, match=status):
            fit(send(number, 1), run=tmp_path / str(number))


def test_a_run_without_a_regular_checkpoint_starts_from_the_beginning(fit: Any, finished: Path, tmp_path: Path) -> None:
    """One command can then start or continue a run. What a killed process was writing is removed."""
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "best.ckpt").touch()
    part_of(folder / "last.ckpt").write_bytes(b"PK")
    assert_same_weights(fit("--ckpt_path=last", run=tmp_path / "run"), finished, "last")
    assert sorted(path.name for path in folder.iterdir()) == ["best.ckpt", "last.ckpt"]


@pytest.mark.parametrize("damage", ["truncated", "one bit", "a name", "empty"])
def test_a_damaged_checkpoint_falls_back_to_the_previous_one(
    damage: str, fit: Any, two: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(two, tmp_path / "run")
    last = run / "checkpoints" / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[content.rindex(b"archive") if damage == "a name" else len(content) // 2] ^= 128
    last.write_bytes({"truncated": content[: len(content) // 2], "empty": b""}.get(damage, bytes(content)))
    fit("--ckpt_path=last", run=run)
    printed = capsys.readouterr().err
    assert f"{last} is truncated or damaged; trying the previous one" in printed
    assert load(run / "checkpoints" / "previous.ckpt")["global_step"] == 2  # not the damaged one
    assert_same_weights(run, finished, "last")


def test_only_damaged_checkpoints_are_not_trained_over(
    fit: Any, two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(two, tmp_path / "run")
    for name in ("last.ckpt", "previous.ckpt"):
        (run / "checkpoints" / name).write_bytes(b"")
    with pytest.raises(SystemExit, match="2"):
        fit("--ckpt_path=last", run=run)
    assert "Remove last.ckpt and previous.ckpt" in capsys.readouterr().err


def test_changed_runtime_options_are_named_and_other_devices_warn(
    two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(shutil.copytree(two, tmp_path / "run"))
    config = run.config
    config["trainer"] |= {"devices": 2, "callbacks": config["trainer"]["callbacks"][1:]}  # without the progress bar
    checkpoint = run.path / "checkpoints" / "last.ckpt"
    with pytest.warns(UserWarning, match="number of devices has changed"):
        run.check(config, checkpoint)
    printed = capsys.readouterr().err
    assert f"{checkpoint} resumes with changed values of trainer.devices, trainer.callbacks" in printed


def test_run_does_not_continue_without_the_callbacks_of_exact_resume(
    fit: Any, stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        fit("--trainer.callbacks=null", "--ckpt_path=last", run=stopped)
    error = capsys.readouterr().err
    assert "trainer.callbacks: ['lightning_modules.fault_tolerance." in error
    assert "[] now" in error


def test_moved_run_continues_where_it_is(fit: Any, stopped: Path, finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(stopped, tmp_path / "moved")
    main(["fit", "-c", str(run / "config.yaml"), "--ckpt_path=last"])
    assert_same_weights(run, finished, "last")
    assert Run(run).config["trainer"]["default_root_dir"] == str(run)
    assert not (stopped / RESULT).exists()


def test_run_that_began_from_another_checkpoint_is_not_started_over(
    fit: Any, stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit(f"--ckpt_path={stopped / 'checkpoints/last.ckpt'}", run=tmp_path / "run")
    with pytest.raises(SystemExit, match="2"):
        main(["fit", "-c", str(run / "config.yaml")])
    assert "already holds a run. Continue it with --ckpt_path=last" in capsys.readouterr().err


def test_missing_checkpoint_is_refused(fit: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        fit("--ckpt_path=missing.ckpt", run=tmp_path / "run")
    assert "--ckpt_path=missing.ckpt is not a checkpoint; pass best, last or a file" in capsys.readouterr().err


def test_a_run_that_diverges_ends_with_its_samples_and_sound_weights(fit: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"gatedcrf: error: The \w+ of step \d is not finite.* shapes_0_00"):
        fit("--model.learning_rate=1e30", "--trainer.callbacks.every_n_minutes=0", run=tmp_path / "run")
    saved = load(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert saved["global_step"] > 0
    assert all(value.isfinite().all() for value in saved["state_dict"].values())
    assert not (tmp_path / "run" / RESULT).exists()
