"""Presets, which apply between base.yaml and the settings of the user."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.io.errors import InputError
from experiments.train.cli import parse
from experiments.train.preset import apply_preset
from experiments.train.run import Run

FIT = ["fit", "-c", "datasets/shapes.yaml", "-c", "supervision/clicks.yaml"]
ON_A_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_the_preset_comes_before_the_settings_of_the_user() -> None:
    config = parse([*FIT, "--preset=gpu", "--trainer.precision=16-mixed"])
    assert config["preset"] == "gpu"
    assert config["trainer"]["precision"] == "16-mixed"
    assert config["model"]["speed"]["channels_last"] is True


def test_none_is_exact_float32() -> None:
    config = parse([*FIT, "--preset=none"])
    assert config["trainer"]["precision"] == "32-true"
    assert set(config["model"]["speed"].values()) == {False}


@pytest.mark.parametrize(
    "arguments", [["--trainer.accelerator=cpu"], ["--preset=auto", "--trainer.accelerator", "cpu"]]
)
def test_a_run_on_the_cpu_has_no_preset(arguments: list[str]) -> None:
    assert apply_preset(arguments)[0] == "none"


@ON_A_GPU
def test_a_run_on_a_gpu_has_one() -> None:
    assert parse(FIT)["preset"] == "gpu"


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        (["--config", "{preset: none}", "--preset=gpu"], "gpu"),
        (["--preset", "gpu", "--config", "{preset: none}"], "none"),
        (["--config", "preset: gpu\nseed_everything: 3"], "gpu"),
    ],
)
def test_the_last_name_counts(arguments: list[str], chosen: str) -> None:
    assert apply_preset(arguments)[0] == chosen


def test_an_unknown_preset_is_refused_with_the_shipped_ones() -> None:
    with pytest.raises(InputError, match=r"'presets/fast.yaml'.* presets/gpu.yaml"):
        parse([*FIT, "--preset=fast"])


def test_a_run_keeps_the_settings_of_its_preset_and_names_them(
    fit: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The saved configuration alone gives the same settings on any machine."""
    caplog.set_level(logging.INFO, "pytorch_lightning")  # benchmarks raise it for their process
    run = Run(fit("--preset=gpu", run=tmp_path / "run"))
    assert "Preset gpu: precision bf16-mixed, channels_last, fused_optimizer, tf32." in caplog.text
    assert "--preset=none switches it off" in caplog.text
    again = parse(["fit", "-c", str(run.path / "config.yaml")])
    assert again == run.config
    assert (again["preset"], again["trainer"]["precision"]) == ("gpu", "bf16-mixed")
    exact = parse(["fit", "-c", str(run.path / "config.yaml"), "--preset=none"])
    assert (exact["preset"], exact["trainer"]["precision"]) == ("none", "32-true")
    assert set(exact["model"]["speed"].values()) == {False}
