"""A run on somebody's folder through the real command line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import RESULT
from experiments.cli import main


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two halves of different color: class 0 on the left, class 1 on the right."""
    root = tmp_path / "data"
    (root / "images" / "test").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for index in range(3):
            image = rng.integers(0, 40, size=(48, 64, 3), dtype=np.uint8)
            image[:, 32:] += 180
            Image.fromarray(image).save(root / "images" / split / f"{split}{index}.png")
            Image.fromarray(np.repeat([[0] * 32 + [1] * 32], 48, axis=0).astype(np.uint8)).save(
                root / "masks" / split / f"{split}{index}.png"
            )
    Image.fromarray(image).resize((50, 37)).save(root / "images" / "test" / "unseen.jpg")
    (root / "classes.txt").write_text("left\nright\n")
    return root


@pytest.mark.parametrize("dataset", ["folder", "folder_small"])
def test_trains_on_simulated_clicks_and_predicts_unlabeled_images(root: Path, tmp_path: Path, dataset: str) -> None:
    run = tmp_path / "run"
    configs = ["base.yaml", f"datasets/{dataset}.yaml", "supervision/clicks.yaml", "losses/gcrf_s.yaml"]
    small = ["--trainer.max_steps=2", "--trainer.val_check_interval=1", "--data.crop=32", "--data.batch_size=2"]
    network = ["backbone=resnet10t", "pretrained=false", "channels=16"]
    options = [*small, "--data.num_workers=0", *(f"--model.network.init_args.{value}" for value in network)]
    args = [part for config in configs for part in ("-c", config)]
    main(["fit", *args, *options, f"--data.root={root}", f"--trainer.default_root_dir={run}"])
    assert set(json.loads((run / RESULT).read_text())["iou"]) == {"left", "right"}

    shutil.rmtree(root / "images" / "train")  # prediction needs no training data
    shutil.rmtree(root / "masks")
    main(["predict", "-c", str(run / "config.yaml"), f"--ckpt_path={run / 'checkpoints/best.ckpt'}"])
    prediction = np.array(Image.open(run / "predict" / "unseen.png"))
    assert prediction.shape == (37, 50)
    assert set(np.unique(prediction)) <= {0, 1}


def test_bad_files_stop_a_run_before_training(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.full((48, 64), 7, dtype=np.uint8)).save(root / "masks" / "train" / "train1.png")
    args = ["-c", "base.yaml", "-c", "datasets/folder_small.yaml", f"--data.root={root}"]
    with pytest.raises(SystemExit):
        main(["fit", *args, f"--trainer.default_root_dir={tmp_path / 'run'}"])
    assert "train1.png holds the values [7]" in capsys.readouterr().err
    assert not (tmp_path / "run" / "metrics.csv").exists()


def test_check_counts_a_sound_folder_and_fails_on_a_broken_one(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "check", str(root), "--supervision", "full"])
    printed = capsys.readouterr().out
    assert "2 classes, 3 training and 3 validation images, no problems" in printed
    assert str(3 * 48 * 32) in printed  # labeled pixels of each class
    image = root / "images" / "val" / "val2.png"
    image.write_bytes(image.read_bytes()[:200])
    (root / "masks" / "train" / "train0.png").unlink()
    with pytest.raises(SystemExit, match="1"):
        main(["data", "check", str(root)])
    printed = capsys.readouterr().out
    assert "val2.png cannot be read" in printed
    assert "train0.png is missing" in printed
    assert "2 problems" in printed


def test_check_counts_clicks_and_names_what_cannot_be_learned(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inside, outside = {"class": 0, "points": [[3, 4]]}, {"class": 0, "points": [[64, 4]]}
    (root / "clicks.json").write_text(json.dumps({"train0": [inside, inside], "train1": [outside]}))
    main(["data", "check", str(root)])
    printed = capsys.readouterr().out
    assert "2 training images without a label, 1 clicks outside their image" in printed
    assert "No training image has a label of 'right'" in printed
