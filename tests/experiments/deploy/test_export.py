"""``gatedcrf export``: files that other programs read, equal to the model."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image as PILImage

import gated_crf
from experiments.cli import main
from experiments.deploy import export


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    PILImage.fromarray(np.random.default_rng(0).integers(0, 256, (45, 70, 3), dtype=np.uint8)).save(path)
    return path


@pytest.mark.parametrize("kind", ["onnx", "torch.export"])
def test_file_gives_the_probabilities_of_the_model_for_other_sizes(
    kind: str, finished: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = finished / "checkpoints" / "last.ckpt"
    out = tmp_path / "new" / ("m.onnx" if kind == "onnx" else "m.pt2")
    main(["export", str(checkpoint), str(photo), "--format", kind, "--out", str(out)])
    assert f"wrote {out}" in capsys.readouterr().out
    assert list(out.parent.iterdir()) == [out]
    model = gated_crf.load(checkpoint, "cpu")
    images = np.random.default_rng(1).integers(0, 256, (2, 33, 64, 3), dtype=np.uint8)
    batch = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    if kind == "onnx":
        session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
        (probs,), metadata = session.run(None, {"image": batch}), session.get_modelmeta().custom_metadata_map
    else:
        metadata = dict.fromkeys(["classes", "max_side"], "")
        probs = torch.export.load(out, extra_files=metadata).module()(torch.from_numpy(batch)).detach().numpy()
    np.testing.assert_allclose(probs, model.predict(images, probabilities=True), atol=1e-4)
    assert json.loads(metadata["classes"]) == model.class_names
    assert json.loads(metadata["max_side"]) is None


def test_model_that_differs_is_not_written(
    finished: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    out = tmp_path / "m.pt2"
    with pytest.raises(SystemExit, match="2"):
        main(
            [
                *("export", str(finished / "checkpoints" / "last.ckpt"), str(photo)),
                *("--format", "torch.export"),
                f"--out={out}",
            ]
        )
    assert "Nothing is written" in capsys.readouterr().err
    assert not out.exists()


def test_suffix_of_another_format_is_refused(finished: Path, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["export", str(finished / "checkpoints" / "last.ckpt"), str(photo), "--out", "model.pt2"])
    assert "does not end in .onnx" in capsys.readouterr().err
