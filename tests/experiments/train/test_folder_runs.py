"""Runs on a folder of images, through the command line."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.cli import main


def test_trains_on_simulated_clicks_and_predicts_unlabeled_images(
    folder_root: Path, tmp_path: Path, fit_a_step: Callable[..., dict[str, Any]]
) -> None:
    run = tmp_path / "run"
    assert set(fit_a_step(run, "folder_small", "clicks", f"--data.root={folder_root}")["iou"]) == {"left", "right"}

    shutil.rmtree(folder_root / "images" / "train")  # prediction needs no training data
    shutil.rmtree(folder_root / "masks")
    main(["predict", "-c", str(run / "config.yaml"), f"--ckpt_path={run / 'checkpoints/best.ckpt'}"])
    prediction = np.array(Image.open(run / "predict" / "unseen.png"))
    assert prediction.shape == (37, 50)
    assert set(np.unique(prediction)) <= {0, 1}


def test_malformed_mask_stops_a_run_before_training(
    folder_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.full((48, 64), 7, dtype=np.uint8)).save(folder_root / "masks" / "train" / "train1.png")
    args = ["-c", "base.yaml", "-c", "datasets/folder_small.yaml", f"--data.root={folder_root}"]
    with pytest.raises(SystemExit):
        main(["fit", *args, f"--trainer.default_root_dir={tmp_path / 'run'}"])
    assert "train1.png holds the values [7]" in capsys.readouterr().err
    assert not (tmp_path / "run" / "metrics.csv").exists()
