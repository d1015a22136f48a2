"""``gatedcrf predict CHECKPOINT IMAGES`` and checkpoints without their runs."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage

import gated_crf
from datamodules.io.errors import InputError
from experiments.cli import main
from experiments.train.run import Run
from lightning_modules.weak_segmentation import WeakSegmentation


@pytest.fixture(scope="module")
def checkpoint(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose run is gone."""
    return Path(shutil.copy(finished / "checkpoints" / "last.ckpt", tmp_path_factory.mktemp("moved") / "a.ckpt"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, size in (("a.jpg", (40, 52, 3)), ("b.png", (64, 48, 3))):
        PILImage.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(folder / name)
    return folder


def predict(checkpoint: Path, *options: Path | str) -> None:
    main(["predict", str(checkpoint), *map(str, options)])


def test_folder_is_predicted_as_in_a_script(
    checkpoint: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    predict(checkpoint, photos, "--out", out, "--overlay", "--probabilities")
    model = gated_crf.load(checkpoint)
    assert model.class_names == ["background", "disc", "square", "triangle", "cross", "ring"]
    for path, classes in model.predict(photos):
        written = PILImage.open(out / f"{path.stem}.png")
        assert written.mode == "P"
        np.testing.assert_array_equal(np.array(written), classes)
        probs = np.load(out / "probabilities" / f"{path.stem}.npy")
        np.testing.assert_allclose(probs, model.predict(path, probabilities=True), atol=1e-3)
        assert PILImage.open(out / "overlays" / f"{path.stem}.jpg").size == written.size
    index = json.loads((out / "predictions.json").read_text())
    assert index["classes"] == model.class_names
    assert index["images"] == {f"{path.stem}.png": str(path) for path in sorted(photos.iterdir())}
    assert f"wrote 2 masks of class indices to {out}" in capsys.readouterr().out


def test_predictions_are_those_of_the_dataset_of_the_run(finished: Path, checkpoint: Path, tmp_path: Path) -> None:
    """The other form of the command predicts the same images through the datamodule."""
    config, last = str(finished / "config.yaml"), finished / "checkpoints" / "last.ckpt"
    main(["predict", "-c", config, f"--ckpt_path={last}", f"--trainer.default_root_dir={tmp_path}"])
    model, pngs = gated_crf.load(checkpoint), sorted((tmp_path / "predict").glob("*.png"))
    split = Run(finished).datamodule().val_split()
    assert len(pngs) == len(split)
    for index, png in enumerate(pngs):
        np.testing.assert_array_equal(np.array(PILImage.open(png)), model.predict(split.image(index)))


def test_two_folders_never_mix(
    checkpoint: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    shutil.copytree(photos, other)
    predict(checkpoint, photos, "--out", out)
    predict(checkpoint, photos / "a.jpg", "--out", out)  # again
    for message, arguments in {
        "both be written to a.png": (photos, other, "--out", tmp_path / "new"),
        "holds predictions for images of": (other, "--out", out),
        "is not empty": (photos, "--out", other),
        "is a file": (photos, "--out", photos / "a.jpg"),
        "no image or folder": (tmp_path / "missing.jpg",),
    }.items():
        with pytest.raises(SystemExit, match="2"):
            predict(checkpoint, *arguments)
        assert message in capsys.readouterr().err
    shutil.copy(checkpoint, tmp_path / "b.ckpt")
    with pytest.raises(SystemExit, match="2"):
        predict(tmp_path / "b.ckpt", photos, "--out", out)
    assert f"holds predictions of {checkpoint}" in capsys.readouterr().err
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png", "predictions.json"]
    (out / "predictions.json").write_text("[]")
    with pytest.raises(SystemExit, match="2"):
        predict(checkpoint, photos, "--out", out)
    assert "predictions.json is not from this command" in capsys.readouterr().err


def test_lightning_loads_the_checkpoint_without_its_run(finished: Path, checkpoint: Path) -> None:
    module = WeakSegmentation.load_from_checkpoint(checkpoint, map_location="cpu")
    weights = gated_crf.load(checkpoint, "cpu").model.state_dict()
    assert all((weights[name] == value).all() for name, value in module.state_dict().items() if name in weights)
    assert module.regularizer_weight == 0.1
    assert module.class_names[1] == "disc"


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "There is no checkpoint"), (b"PK", "Pass a checkpoint"), ({"state_dict": {}}, "has no configuration")],
)
def test_files_that_are_no_checkpoints_are_named(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=rf"(?s)c\.ckpt.*{message}|{message}.*c\.ckpt"):
        gated_crf.load(path)
