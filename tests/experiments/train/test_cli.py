"""``gatedcrf fit | validate | predict`` on tiny shapes, through the real command line."""

import csv
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
    assert Run(run).config["data"]["init_args"]["supervision"] == supervision
    assert (Run(run).config["model"]["regularizer"] is None) == (loss == "pce")
    assert (run / RESULT).is_file()


def test_evaluations_are_counted_in_steps_of_several_batches(fit: Any, tmp_path: Path) -> None:
    run = fit("--trainer.accumulate_grad_batches=2", "--trainer.val_check_interval=2", run=tmp_path / "run")
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) + 1 for row in rows if row["val/miou"]] == [2, 4]


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
    split, model = Run(finished).datamodule().val_split(), Run(finished).model()
    for index in range(len(split)):
        written = np.array(Image.open(tmp_path / "predict" / f"{split.name(index)}.png"))
        with torch.inference_mode():
            probs = model(torch.from_numpy(split.image(index)).permute(2, 0, 1)[None])
        np.testing.assert_array_equal(written, probs.argmax(1)[0].numpy())


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--trainer.max_step=3", "trainer.max_steps"),
        ("--model.regularizer_wieght=3", "model.regularizer_weight"),
        ("--trainer.max_steps=lots", "lots"),
        ("--data.supervision=polygons", "this dataset has tags, clicks, boxes, scribbles, full"),
        ("--model.regularizer.radius=0", "radius is 0"),
        ("--model.regularizer.kernels=[{sigma: {depth: 0.1}}]", "depth"),  # seen at the first step only
        ("--trainer.accelerator=gpu", "gpu") if not torch.cuda.is_available() else ("--trainer.devices=0", "0"),
        ("--model.regularizer.radiuss=3", "radiuss"),
        ("--data.augmentation.crop=big", "big"),
        ("--config=nope.yaml", "Shipped with the package"),
        ("--model.network.backbone=resnet0", "timm has no backbone"),
        ("--data.loader.batch_size=1", "multiple"),
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
