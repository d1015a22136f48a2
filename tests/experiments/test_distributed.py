"""Two processes on the real command line, against one."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn

from experiments.run import load_config, load_datamodule, load_model

ONE = ("-m", "experiments.cli")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *ONE)


class PlainNetwork(nn.Module):
    """A network without BatchNorm, which sees other batches on two CPUs than on one."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 5, stride=4, padding=2), nn.ReLU(), nn.Conv2d(8, num_classes, 3))

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


def call(program: tuple[str, ...], config: Path, run: Path, *options: str) -> str:
    """Run ``gatedcrf fit`` and return what it prints."""
    arguments = ["fit", "-c", str(config), f"--trainer.default_root_dir={run}", "--trainer.accelerator=cpu", *options]
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [sys.executable, *program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


def logged(run: Path, *names: str) -> list[tuple[float, ...]]:
    with (run / "metrics.csv").open() as file:
        return [tuple(float(row[name]) for name in names) for row in csv.DictReader(file) if row[names[0]]]


@pytest.fixture(scope="module")
def trained(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two processes that Lightning has started."""
    run = tmp_path_factory.mktemp("two") / "run"
    call(ONE, finished / "config.yaml", run, "--trainer.devices=2", "--data.batch_size=4", "--trainer.max_steps=2")
    return run


def test_two_processes_count_the_same_as_one(trained: Path) -> None:
    """To the last digit on three images, of which torch's own sampler would repeat one."""
    model = load_model(trained, "last")
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    trainer = Trainer(accelerator="cpu", **quiet)
    (metrics,) = trainer.validate(model, load_datamodule(trained), verbose=False)
    assert len(metrics) > 1
    assert logged(trained, *metrics)[-1] == tuple(metrics.values())


def test_two_processes_train_as_one(finished: Path, tmp_path: Path) -> None:
    """The same samples at each step, the same loss, and the same weights but for rounding."""
    options = ("--data.batch_size=4", "--model.supervised_loss.class_weights=batch")
    options += ("--model.network=test_distributed.PlainNetwork", "--model.gate_destination=true")
    printed = [
        call(ONE, finished / "config.yaml", tmp_path / "one", *options),
        call(TORCHRUN, finished / "config.yaml", tmp_path / "two", "--trainer.devices=2", *options),
    ]
    assert "Samples per step: 4 per device x 1 devices x 1 batches = 4" in printed[0]
    assert "Samples per step: 2 per device x 2 devices x 1 batches = 4" in printed[1]
    one, two = (logged(tmp_path / run, "train/loss", "train/cross_entropy") for run in ("one", "two"))
    assert len(one) == load_config(tmp_path / "one")["trainer"]["max_steps"]
    torch.testing.assert_close(torch.tensor(two), torch.tensor(one), rtol=1e-5, atol=0)
    ones, twos = (torch.load(tmp_path / run / "checkpoints/last.ckpt")["state_dict"] for run in ("one", "two"))
    torch.testing.assert_close(twos, ones, rtol=1e-5, atol=1e-6)
