"""``gatedcrf fit | validate | predict`` on tiny shapes, through the real command line."""

import json
import os
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import wandb
from PIL import Image
from pytorch_lightning import Callback, Trainer

from experiments import RESULT
from experiments.cli import main
from experiments.run import load_config, load_datamodule, load_model


def load(path: Path) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(path, weights_only=True)
    return checkpoint


def test_a_run_leaves_everything_in_its_directory(finished: Path) -> None:
    left = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    assert {"config.yaml", "metrics.csv", "iou_per_class.csv", RESULT} <= left
    assert {"checkpoints/best.ckpt", "checkpoints/last.ckpt"} <= left
    assert len(list((finished / "gallery").glob("*.png"))) == 3


def test_result_is_the_last_logged_miou(finished: Path) -> None:
    result = json.loads((finished / RESULT).read_text())
    lines = (finished / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("val/miou")
    logged = [float(value) for line in lines[1:] if (value := line.split(",")[column])]
    assert result["miou"] == pytest.approx(logged[-1], abs=1e-3)


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


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_random_weights_are_not_evaluated(finished: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([command, "-c", str(finished / "config.yaml")])
    assert "--ckpt_path=" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("supervision", "loss"),
    [("scribbles", "gcrf_sd"), ("clicks", "gcrf"), ("full", "pce")],  # the others are run by the tests around
)
def test_every_shipped_part_runs(fit: Any, tmp_path: Path, supervision: str, loss: str) -> None:
    run = fit("-c", f"supervision/{supervision}.yaml", "-c", f"losses/{loss}.yaml", run=tmp_path / "run")
    assert load_config(run)["data"]["init_args"]["supervision"] == supervision
    assert (load_config(run)["model"]["regularizer"] is None) == (loss == "pce")
    assert (run / RESULT).is_file()


def test_validate_reports_the_result_of_the_run(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"--ckpt_path={finished / 'checkpoints/last.ckpt'}", f"--trainer.default_root_dir={tmp_path}"]
    main(["validate", "-c", str(finished / "config.yaml"), *arguments])
    expected = json.loads((finished / RESULT).read_text())["miou"]
    last = (tmp_path / "validate" / "iou_per_class.csv").read_text().split()[-1]
    assert last == f"mean,{expected:.2f}"


def test_predict_writes_class_indices(finished: Path, tmp_path: Path) -> None:
    arguments = [f"--ckpt_path={finished / 'checkpoints/best.ckpt'}", f"--trainer.default_root_dir={tmp_path}"]
    main(["predict", "-c", str(finished / "config.yaml"), *arguments])
    split, model = load_datamodule(finished).val_split(), load_model(finished)
    for index in range(len(split)):
        written = np.array(Image.open(tmp_path / "predict" / f"{split.name(index)}.png"))
        with torch.inference_mode():
            probs = model(torch.from_numpy(split.image(index)).permute(2, 0, 1)[None])
        np.testing.assert_array_equal(written, probs.argmax(1)[0].numpy())


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


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--trainer.max_step=3", "trainer.max_steps"),
        ("--model.wieght=3", "model.weight"),
        ("--trainer.max_steps=lots", "lots"),
        ("--data.supervision=boxes", "shapes has clicks, scribbles, full"),
        ("--model.regularizer.radius=0", "radius is 0"),
        ("--model.regularizer.radiuss=3", "radiuss"),
        ("--data.crop=big", "big"),
        ("--config=nope.yaml", "shipped with the package"),
        ("--model.network.backbone=resnet0", "timm has no backbone"),
        ("--data.batch_size=1", "multiple"),
    ],
)
def test_bad_input_ends_in_a_short_message(
    fit: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, expected: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        fit(option, run=tmp_path / "run")
    message = capsys.readouterr().err.split("gatedcrf: error:")[1]
    assert ended.value.code == 2
    assert expected in message
    assert len(message.splitlines()) <= 5
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_wandb_runs_offline_without_a_key(fit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    run = fit("-c", "wandb.yaml", run=tmp_path / "run")
    wandb.finish()
    monkeypatch.delenv("WANDB_MODE", raising=False)  # Lightning sets it for the whole process
    (offline,) = (run / "wandb").glob("offline-run-*")
    assert list(offline.glob("*.wandb"))
    assert len(list(offline.rglob("val/gallery*.png"))) >= 3
    assert load_config(run)["trainer"]["logger"][1]["init_args"]["save_dir"] == str(run)
