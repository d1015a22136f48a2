"""The benchmark of the data: every way makes the same sample, and the table says what was measured."""

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from experiments.benchmarks import data as benchmark_data
from experiments.benchmarks.data import CROP, WAYS, draw_photographs, lines, make_ways, measure, title

SIZES = [(500, 375), (300, 420), (260, 200), (180, 500)]


@pytest.fixture(scope="module")
def smooth(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Images without detail, which every interpolation renders alike."""
    folder = tmp_path_factory.mktemp("smooth")
    for index in range(12):
        coarse = np.random.default_rng(index).integers(0, 256, size=(5, 6, 3), dtype=np.uint8)
        image = cv2.resize(coarse, SIZES[index % 4], interpolation=cv2.INTER_CUBIC)
        Image.fromarray(image).save(folder / f"{index:02}.jpg", quality=98, subsampling=0)
    return sorted(folder.iterdir())


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    benchmark_data.add_parser(parser.add_subparsers(required=True))
    return parser


def near(target: torch.Tensor, reach: int) -> list[torch.Tensor]:
    """Per class, the pixels within ``reach`` of one of that class."""
    square = np.ones((2 * reach + 1, 2 * reach + 1), dtype=np.uint8)
    return [torch.from_numpy(cv2.dilate((target == c).numpy().astype(np.uint8), square)) > 0 for c in range(21)]


@pytest.mark.parametrize("way", list(WAYS)[2:])
def test_every_way_makes_the_same_sample(smooth: list[Path], tmp_path: Path, way: str) -> None:
    """Up to a pixel, as the others cut at whole ones, and up to ringing at the border of the image."""
    ways = make_ways(smooth, tmp_path / "cache")
    clicks = 0
    for index in range(len(smooth)):
        ours, other = ways["ours"](index), ways[way](index)
        valid = ours["valid"]
        inside = torch.from_numpy(cv2.erode(valid.numpy().astype(np.uint8), np.ones((7, 7)), borderValue=0)) > 0
        assert other["image"].shape == (3, CROP, CROP)
        assert (other["image"].int() - ours["image"].int()).abs()[:, inside].float().mean() < 2.5
        if "valid" in other:
            assert other["valid"][inside].all()
            assert (other["valid"] != valid).float().mean() < 4 * CROP * 1.5 / CROP**2
        if way == "ours, cached":
            assert all(torch.equal(ours[key], other[key]) for key in ("image", "target", "valid"))
        for label, (a, b) in enumerate(zip(near(ours["target"], 2), near(other["target"], 2), strict=True)):
            border = (ours["target"] == label)[2:-2, 2:-2]
            assert (b[2:-2, 2:-2] >= border).all()
            assert (a >= (other["target"] == label)).all() or not border.any()
            clicks += int(border.sum())
    assert clicks > 20


def test_turns_read_every_image_on_one_thread_and_threads_are_given_back(smooth: list[Path], tmp_path: Path) -> None:
    before = cv2.getNumThreads(), torch.get_num_threads()
    result = measure(smooth[:2], tmp_path / "cache", repeats=1)
    assert (cv2.getNumThreads(), torch.get_num_threads()) == before
    assert list(result["ms"]) == list(WAYS)
    assert min(result["ms"].values()) > 0
    assert result["images"] == 2
    assert result["megapixels"] == pytest.approx((500 * 375 + 300 * 420) / 2e6)
    assert ", 1 threads," in title(result)


def test_table_compares_with_torchvision_and_the_decoder() -> None:
    times = dict(zip(WAYS, [1.0, 2.0, 0.5, 4.0, 5.0, 3.0, 2.5, 8.0], strict=True))
    header, *rows = lines({"ms": times})
    assert {len(row) for row in [header, *rows]} == {6}
    figures = {row[0]: row[2:] for row in rows}
    assert figures["floor"] == ["1,000", "1.00", "4.00", "100 %"]
    assert figures["ours"] == ["500", "2.00", "2.00", "50 %"]
    assert figures["ours, cached"] == ["2,000", "0.50", "8.00", "200 %"]
    assert figures["torchvision"] == ["250", "4.00", "1.00", "25 %"]


def test_drawn_photographs_are_like_those_of_voc_and_always_the_same(tmp_path: Path) -> None:
    draw_photographs(tmp_path / "a", 3)
    draw_photographs(tmp_path / "b", 3)
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
        assert 40 * 2**10 < path.stat().st_size < 120 * 2**10
        with Image.open(path) as picture:
            assert (picture.size, picture.mode, picture.format) == ((500, 375), "RGB", "JPEG")


def test_command_writes_the_table_of_a_folder(
    smooth: list[Path], tmp_path: Path, parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = parser.parse_args(["data", "--images", str(smooth[0].parent), "--repeats", "1", "--out", str(out)])
    options.run(options)
    result: dict[str, Any] = json.loads((out / "data.json").read_text())
    text = (out / "data.md").read_text()
    assert result["images"] == len(smooth)
    assert result["hardware"] in text
    assert all(f"| {name} |" in text for name in WAYS)
    assert text in capsys.readouterr().out


def test_bad_options_are_refused(tmp_path: Path, parser: argparse.ArgumentParser) -> None:
    for arguments, message in (
        (["--repeats", "0"], "--repeats is 0"),
        (["--images", str(tmp_path)], "holds no images"),
    ):
        options = parser.parse_args(["data", *arguments])
        with pytest.raises(ValueError, match=message):
            options.run(options)
