"""Evaluations of a checkpoint through the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from experiments import RESULT
from experiments.cli import main
from experiments.train.run import Run
from lightning_modules.inference import Inference


def evaluate(finished: Path, folder: Path, *options: str, command: str = "validate") -> None:
    checkpoint = finished / "checkpoints" / "last.ckpt"
    root = f"--trainer.default_root_dir={folder}"
    main([command, "-c", str(finished / "config.yaml"), f"--ckpt_path={checkpoint}", root, *options])


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_ways_of_inference_are_named_and_keep_apart(finished: Path, tmp_path: Path) -> None:
    """The default gives the result of the run. Another is compared with a computation from the stored predictions."""
    evaluate(finished, tmp_path)
    metrics, result = read(tmp_path / "validate" / "metrics.json"), read(finished / RESULT)
    assert metrics.pop("checkpoint") == str(finished / "checkpoints" / "last.ckpt")
    assert metrics.items() <= result.items()
    assert (metrics["evaluation"], metrics["images"], metrics["step"]) == ("whole image", 3, 4)

    way = ["--model.inference.window=40", "--model.inference.stride=20", "--model.inference.scales=[0.5, 1]"]
    way += ["--model.inference.flip=true", "--predictions.of_evaluations=true"]
    evaluate(finished, tmp_path, *way)
    folder = tmp_path / "validate-sliding-window-40-20-scales-0.5-1-flip"
    other = read(folder / "metrics.json")
    assert other["evaluation"] == "sliding window 40/20, scales 0.5 1, flip"
    assert (folder / "confusion_matrix.png").is_file()
    assert read(tmp_path / "validate" / "metrics.json")["miou"] == metrics["miou"]

    split, model = Run(finished).datamodule().val_split(), Run(finished).model("last")
    model.inference = Inference(window=40, stride=20, scales=[0.5, 1], flip=True)
    right = 0
    for index in range(len(split)):
        written = np.array(Image.open(folder / "predictions" / f"{split.name(index)}.png"))
        with torch.inference_mode():
            probs = model(torch.from_numpy(split.image(index)).permute(2, 0, 1)[None])
        np.testing.assert_array_equal(written, probs.argmax(1)[0])
        right += int((written == split.dense_mask(index)).sum())
    assert other["pixel_accuracy"] == pytest.approx(100 * right / (3 * 64 * 64), abs=1e-4)


def test_run_can_be_trained_with_another_way(fit: Any, tmp_path: Path) -> None:
    """The configuration and the result of the run name the inference."""
    run = fit("--model.inference={crop: 48}", run=tmp_path / "run")
    assert read(run / RESULT)["evaluation"] == "48 center crop"
    assert Run(run).model().inference == Inference(crop=48, scales=[1.0])


@pytest.mark.parametrize(
    ("option", "message"),
    [("--model.inference.window=40", "belong together"), ("--model.inference.crop=0", "crop is 0")],
)
def test_bad_inference_is_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, message: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        evaluate(finished, tmp_path, option)
    error = capsys.readouterr().err.split("gatedcrf: error:")[1]
    assert message in error
    assert len(error.splitlines()) <= 5


def test_checkpoints_of_the_run_are_known_by_name(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(finished.iterdir())
    with pytest.raises(SystemExit, match="2"):
        main(["predict", "-c", str(finished / "config.yaml"), "--ckpt_path=first"])
    assert f"best, last or a file. Found: {finished / 'checkpoints' / 'best.ckpt'}" in capsys.readouterr().err
    assert set(finished.iterdir()) == before
    options = ["--ckpt_path=last", "--model.inference.crop=16"]  # in a folder of its own
    main(["validate", "-c", str(finished / "config.yaml"), *options])
    metrics = json.loads((finished / "validate-16-center-crop" / "metrics.json").read_text())
    assert metrics["step"] == 4
    assert Path(metrics["checkpoint"]).name == "last.ckpt"


def test_weights_evaluated_once_at_the_end_are_the_best(fit: Any, tmp_path: Path) -> None:
    run = fit("--trainer.val_check_interval=1000", run=tmp_path / "run")
    best, last = (torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("best", "last"))
    torch.testing.assert_close(best["state_dict"], last["state_dict"], rtol=0, atol=0)
    assert json.loads((run / RESULT).read_text())["best_step"] == 4
