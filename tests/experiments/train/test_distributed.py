"""Two processes, started by Lightning and by torchrun, against one process."""

import csv
import json
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.distributed import distributed_c10d

from experiments import RESULT
from experiments.cli import main
from experiments.train.run import Run

LIGHTNING = ("-m", "experiments.cli")  # Lightning starts the second process
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *LIGHTNING)


class Collectives(pl.Callback):
    """Writes the number of collective operations before each step to a file, those of DDP's C++ code included."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        number = distributed_c10d._get_default_group()._get_sequence_number_for_group()
        with Path(trainer.default_root_dir, f"collectives{trainer.global_rank}.txt").open("a") as file:
            file.write(f"{number}\n")


class PlainNetwork(nn.Module):
    """A network without BatchNorm, whose statistics would depend on the number of CPUs."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 5, stride=4, padding=2), nn.ReLU(), nn.Conv2d(8, num_classes, 3))

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


OPTIONS = (
    *("--data.loader.batch_size=4", "--model.supervised_loss.class_weights=batch", "--model.gate_destination=true"),
    *("--model.network=test_distributed.PlainNetwork", "--trainer.accelerator=cpu"),
)


def call(program: tuple[str, ...], *arguments: str) -> str:
    """Run ``gatedcrf`` in separate processes and return its output."""
    done = subprocess.run(
        [sys.executable, *program, *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def environment() -> Iterator[None]:
    """Make the network importable in all processes, and hide W&B keys."""
    folder = str(Path(__file__).parent)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", folder, prepend=os.pathsep)
        patch.setenv("WANDB_API_KEY", "")
        patch.setenv("NETRC", os.devnull)
        yield


@pytest.fixture(scope="module")
def two(environment: None, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str]:
    """A run on two processes and its output."""
    run = Run(tmp_path_factory.mktemp("distributed") / "two")
    configs = ("-c", str(finished / "config.yaml"), "-c", "wandb.yaml")
    folder = f"--trainer.default_root_dir={run.path}"
    return run, call(LIGHTNING, "fit", *configs, folder, "--trainer.devices=2", *OPTIONS)


def test_two_processes_train_as_one(
    two: tuple[Run, str], finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each step has the same samples and loss, and the weights are equal up to rounding."""
    caplog.set_level(logging.INFO, "pytorch_lightning")  # benchmarks raise it for their process
    main(["fit", "-c", str(finished / "config.yaml"), f"--trainer.default_root_dir={tmp_path}", *OPTIONS])
    assert "Samples per step: 4 per device x 1 devices x 1 batches = 4" in caplog.text
    assert "Samples per step: 2 per device x 2 devices x 1 batches = 4" in two[1]
    alone, both = (logged(run, "train/loss", "train/cross_entropy") for run in (tmp_path, two[0].path))
    assert len(alone) == two[0].steps
    torch.testing.assert_close(torch.tensor(both), torch.tensor(alone), rtol=1e-5, atol=0)
    ones, twos = (torch.load(run / "checkpoints/last.ckpt")["state_dict"] for run in (tmp_path, two[0].path))
    torch.testing.assert_close(twos, ones, rtol=1e-5, atol=1e-6)


def test_two_processes_evaluate_as_one(two: tuple[Run, str], tmp_path: Path) -> None:
    """Three images on two processes: torch's own sampler would repeat one."""
    run = two[0]
    arguments = ["validate", "-c", str(run.path / "config.yaml"), "--predictions.of_evaluations=true"]
    arguments += [f"--ckpt_path={run.path / 'checkpoints/last.ckpt'}"]
    main([*arguments, f"--trainer.default_root_dir={tmp_path / 'one'}", "--trainer.devices=1"])
    call(TORCHRUN, *arguments, f"--trainer.default_root_dir={tmp_path / 'both'}")
    one, both = (tmp_path / name / "validate" for name in ("one", "both"))
    for name in ("metrics.json", "iou_per_class.csv", "confusion_matrix.csv"):
        assert (one / name).read_text() == (both / name).read_text()
    metrics, result = (json.loads(path.read_text()) for path in (one / "metrics.json", run.path / RESULT))
    assert metrics["images"] == 3
    assert {name: result[name] for name in metrics if name != "checkpoint"}.items() <= metrics.items()
    written = [{path.name: path.read_bytes() for path in (each / "predictions").iterdir()} for each in (one, both)]
    assert written[0] == written[1]
    assert len(written[0]) == 3


def test_a_step_that_is_not_logged_has_one_sum_besides_the_gradients(
    environment: None, finished: Path, tmp_path: Path
) -> None:
    """The gradients are one bucket. DDP arranges its buckets anew in the second step, and the seventh is logged."""
    options = ("--trainer.devices=2", "--trainer.max_steps=8", "--trainer.log_every_n_steps=7")
    options += ("--trainer.val_check_interval=8", "--trainer.callbacks+=test_distributed.Collectives", *OPTIONS)
    configs = ("-c", str(finished / "config.yaml"), "-c", "presets/ddp.yaml")
    call(LIGHTNING, "fit", *configs, f"--trainer.default_root_dir={tmp_path}", *options)
    for rank in range(2):
        numbers = [int(line) for line in (tmp_path / f"collectives{rank}.txt").read_text().split()]
        assert [after - before for before, after in pairwise(numbers[2:7])] == 4 * [2]


def test_one_of_two_processes_logs(two: tuple[Run, str], read_wandb: Callable[[Path], list[Any]]) -> None:
    """Each metric of a step is logged once, and labels are counted over both processes."""
    (file,) = two[0].path.rglob("*.wandb")
    assert "finishing run" in (file.parent / "logs" / "debug.log").read_text()  # otherwise the last values may be lost
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
