"""The benchmark of the data: every method makes the same sample, and the table reports the measurements."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from experiments.benchmarks import data
from experiments.benchmarks.data import to_text
from experiments.benchmarks.parser import make_parser
from experiments.benchmarks.sample_methods import CROP, Methods, make_methods

ROWS = [
    "decoder alone",
    "ours, from files",
    "ours, `--data.loader.image_cache=FOLDER`",
    "torchvision v2, image, clicks and padding",
    "torchvision v2, crop first, no padding",
    "one Pillow perspective warp, as the authors",
]
SIZES = [(500, 375), (300, 420), (260, 200), (180, 500)]


@pytest.fixture(scope="module")
def smooth(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Smooth images, for which all interpolations agree."""
    folder = tmp_path_factory.mktemp("smooth")
    for index in range(12):
        coarse = np.random.default_rng(index).integers(0, 256, size=(5, 6, 3), dtype=np.uint8)
        image = cv2.resize(coarse, SIZES[index % 4], interpolation=cv2.INTER_CUBIC)
        Image.fromarray(image).save(folder / f"{index:02}.jpg", quality=98, subsampling=0)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def methods(smooth: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Methods:
    return make_methods(smooth, tmp_path_factory.mktemp("cache"))


def near(target: torch.Tensor, reach: int) -> list[torch.Tensor]:
    """Return, per class, the pixels within ``reach`` of a pixel of that class."""
    square = np.ones((2 * reach + 1, 2 * reach + 1), dtype=np.uint8)
    return [torch.from_numpy(cv2.dilate((target == c).numpy().astype(np.uint8), square)) > 0 for c in range(21)]


@pytest.mark.parametrize("name", ROWS[2:])
def test_every_method_makes_the_same_sample(methods: Methods, name: str) -> None:
    """Up to one pixel, because others crop at whole pixels, and up to ringing at the border of the image."""
    clicks = 0
    for index in range(12):
        ours, other = (method(arguments[index]) for method, arguments in (methods[ROWS[1]], methods[name]))
        valid = ours["valid"]
        inside = torch.from_numpy(cv2.erode(valid.numpy().astype(np.uint8), np.ones((7, 7)), borderValue=0)) > 0
        assert other["image"].shape == (3, CROP, CROP)
        assert (other["image"].int() - ours["image"].int()).abs()[:, inside].float().mean() < 2.5
        if "valid" in other:
            assert other["valid"][inside].all()
            assert (other["valid"] != valid).float().mean() < 4 * CROP * 1.5 / CROP**2
        if name == ROWS[2]:
            assert all(torch.equal(ours[key], other[key]) for key in ("image", "target", "valid"))
        for label, (a, b) in enumerate(zip(near(ours["target"], 2), near(other["target"], 2), strict=True)):
            border = (ours["target"] == label)[2:-2, 2:-2]
            assert (b[2:-2, 2:-2] >= border).all()
            assert (a >= (other["target"] == label)).all() or not border.any()
            clicks += int(border.sum())
    assert clicks > 20


def test_command_measures_every_method_on_one_thread_and_restores_the_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data, "IMAGES", 3)
    before = cv2.getNumThreads(), torch.get_num_threads()
    arguments = ["data", "--repeats", "1", "--out", str(tmp_path)]
    data.run(make_parser().parse_args(arguments))
    assert (cv2.getNumThreads(), torch.get_num_threads()) == before
    result: dict[str, Any] = json.loads((tmp_path / "data.json").read_text())
    assert list(result["ms"]) == ROWS
    assert min(result["ms"].values()) > 0
    assert result["images"] == 3
    text = (tmp_path / "data.md").read_text()
    assert ", 1 threads," in text
    assert all(f"| {name} |" in text for name in ROWS)
    assert text in capsys.readouterr().out


def test_table_compares_with_torchvision_and_the_decoder() -> None:
    times = dict(zip(ROWS, [1.0, 2.0, 0.5, 4.0, 2.5, 8.0], strict=True))
    conditions = {"hardware": "CPU", "versions": {}, "images": 1, "repeats": 1}
    table = [line[2:-2].split(" | ") for line in to_text({**conditions, "ms": times}).splitlines()[2:]]
    assert {len(row) for row in table} == {5}
    figures = {row[0]: row[1:] for row in table}
    assert figures["decoder alone"] == ["1,000", "1.00", "4.00", "100 %"]
    assert figures["ours, from files"] == ["500", "2.00", "2.00", "50 %"]
    assert figures[ROWS[2]] == ["2,000", "0.50", "8.00", "200 %"]
    assert figures[ROWS[3]] == ["250", "4.00", "1.00", "25 %"]
