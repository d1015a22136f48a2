"""Two processes on the real command line, against one."""

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments import RESULT
from experiments.train.run import Run

ONE = ("-m", "experiments.cli")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *ONE)


class PlainNetwork(nn.Module):
    """A network without BatchNorm, which sees other batches on two CPUs than on one."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 5, stride=4, padding=2), nn.ReLU(), nn.Conv2d(8, num_classes, 3))

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


def call(program: tuple[str, ...], command: str, config: Path, run: Path, *options: str) -> str:
    """Run ``gatedcrf`` and return what it prints."""
    arguments = [command, "-c", str(config), f"--trainer.default_root_dir={run}", "--trainer.accelerator=cpu", *options]
    environment = {
        **os.environ,
        "WANDB_API_KEY": "",
        "NETRC": os.devnull,
        "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}",
    }
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


def test_two_processes_count_the_same_as_one(
    finished: Path, tmp_path: Path, read_wandb: Callable[[Path], list[Any]]
) -> None:
    """Train on two ranks, then evaluate three images on one and on two: torch's own sampler would repeat an image."""
    config, trained = finished / "config.yaml", tmp_path / "trained"
    two = ("--trainer.devices=2", "--data.loader.batch_size=4", "--trainer.max_steps=2")
    call(ONE, "fit", config, trained, *two, "-c", "wandb.yaml")
    check_that_one_process_logged(trained, read_wandb)
    options = (f"--ckpt_path={trained / 'checkpoints/last.ckpt'}", "--predictions.of_evaluations=true")
    for devices in (1, 2):
        call(ONE, "validate", config, tmp_path / str(devices), *options, f"--trainer.devices={devices}")
    one, both = (tmp_path / str(devices) / "validate" for devices in (1, 2))
    for name in ("metrics.json", "iou_per_class.csv", "confusion_matrix.csv"):
        assert (one / name).read_text() == (both / name).read_text()
    metrics, result = (json.loads(path.read_text()) for path in (one / "metrics.json", trained / RESULT))
    assert metrics["images"] == 3
    assert {name: result[name] for name in metrics if name != "checkpoint"}.items() <= metrics.items()
    written = [{path.name: path.read_bytes() for path in (run / "predictions").iterdir()} for run in (one, both)]
    assert written[0] == written[1]
    assert len(written[0]) == 3


def check_that_one_process_logged(run: Path, read_wandb: Callable[[Path], list[Any]]) -> None:
    """One file, in which no metric of a step stands twice, and labels are counted over both processes."""
    (file,) = run.rglob("*.wandb")
    assert "finishing run" in (file.parent / "logs" / "debug.log").read_text()  # or the last figures may be lost
    steps = [
        {(item.key or item.nested_key[0]): item.value_json for item in record.history.item}
        for record in read_wandb(file)
        if record.HasField("history")
    ]
    logged = Counter((step["trainer/global_step"], key) for step in steps for key in step if "/" in key[1:])
    assert logged["0", "train/loss"] == logged["1", "train/loss"] == logged["1", "val/miou"] == 1
    assert max(count for (_, key), count in logged.items() if key != "trainer/global_step") == 1
    for step in steps:
        if "train/labeled_share" in step:
            share = float(step["train/labeled_pixels"]) / (4 * 64 * 64)
            assert abs(float(step["train/labeled_share"]) - share) < 1e-6


def logged(run: Path, *names: str) -> list[tuple[float, ...]]:
    with (run / "metrics.csv").open() as file:
        return [tuple(float(row[name]) for name in names) for row in csv.DictReader(file) if row[names[0]]]


def test_two_processes_train_as_one(finished: Path, tmp_path: Path) -> None:
    """The same samples at each step, the same loss, and the same weights but for rounding."""
    options = ("--data.loader.batch_size=4", "--model.supervised_loss.class_weights=batch")
    options += ("--model.network=test_distributed.PlainNetwork", "--model.gate_destination=true")
    printed = [
        call(ONE, "fit", finished / "config.yaml", tmp_path / "one", *options),
        call(TORCHRUN, "fit", finished / "config.yaml", tmp_path / "two", "--trainer.devices=2", *options),
    ]
    assert "Samples per step: 4 per device x 1 devices x 1 batches = 4" in printed[0]
    assert "Samples per step: 2 per device x 2 devices x 1 batches = 4" in printed[1]
    one, two = (logged(tmp_path / run, "train/loss", "train/cross_entropy") for run in ("one", "two"))
    assert len(one) == Run(tmp_path / "one").config["trainer"]["max_steps"]
    torch.testing.assert_close(torch.tensor(two), torch.tensor(one), rtol=1e-5, atol=0)
    ones, twos = (torch.load(tmp_path / run / "checkpoints/last.ckpt")["state_dict"] for run in ("one", "two"))
    torch.testing.assert_close(twos, ones, rtol=1e-5, atol=1e-6)
