"""Two processes on the real command line."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments import RESULT


def call(command: str, config: Path, run: Path, *options: str) -> None:
    arguments = [command, "-c", str(config), f"--trainer.default_root_dir={run}", "--trainer.accelerator=cpu", *options]
    program = [sys.executable, "-m", "experiments.cli", *arguments]
    environment = {**os.environ, "WANDB_API_KEY": "", "NETRC": os.devnull}
    done = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]


def test_two_processes_count_the_same_as_one(
    finished: Path, tmp_path: Path, read_wandb: Callable[[Path], list[Any]]
) -> None:
    """Train on two ranks, then evaluate three images on one and on two: torch's own sampler would repeat an image."""
    config, trained = finished / "config.yaml", tmp_path / "trained"
    two = ("--trainer.devices=2", "--data.batch_size=4", "--trainer.max_steps=2")
    call("fit", config, trained, *two, "-c", "wandb.yaml")
    check_that_one_process_logged(trained, read_wandb)
    options = (f"--ckpt_path={trained / 'checkpoints/last.ckpt'}", "--predictions.of_evaluations=true")
    for devices in (1, 2):
        call("validate", config, tmp_path / str(devices), *options, f"--trainer.devices={devices}")
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
