"""The benchmark of the loss: measurements and report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.benchmarks import loss
from experiments.benchmarks.loss import HEADER, to_text
from experiments.benchmarks.loss_plot import draw_plot
from experiments.benchmarks.measure import hardware
from experiments.benchmarks.parser import make_parser
from experiments.benchmarks.settings import LossSize

TINY = LossSize((2, 3, 8, 8), radius=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of ``gatedcrf benchmark loss`` for a tiny size."""
    out = tmp_path_factory.mktemp("out") / "benchmark"
    options = make_parser().parse_args(["loss", "--sizes", "voc8", "--repeats", "1", "--out", str(out)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(loss.LOSS_SIZES, "voc8", TINY)
        patch.setattr(loss, "SCALING", {"r": [TINY, TINY._replace(radius=3)]})
        loss.run(options)
    return out


@pytest.fixture(scope="module")
def result(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "loss.json").read_text())
    return loaded


def rows(text: str) -> list[list[str]]:
    """Cells of a Markdown table."""
    return [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("| ")]


def test_every_engine_is_measured_and_compared_with_the_lower_bound(result: dict[str, Any]) -> None:
    (measured,) = result["sizes"]
    assert list(measured["engines"]) == ["tensor", "shifted", "banded"]
    for engine, figures in measured["engines"].items():
        assert figures["loss_error"] < 1e-5
        assert figures["gradient_error"] < 1e-5
        assert figures["share_of_floor"] == pytest.approx(measured["floor_ms"] / figures["ms"])
        if engine != "tensor":
            assert 0 < figures["bf16"]["gradient_error"] < 1e-2
    assert measured["engines"]["shifted"]["times_gradient"] < 0.2 * measured["engines"]["tensor"]["times_gradient"]
    limits = result["limits"]
    floor = max(TINY.traffic() / limits["bytes_per_second"], TINY.multiply_adds() / limits["multiply_adds_per_second"])
    assert measured["floor_ms"] == pytest.approx(1e3 * floor)
    assert measured["training_step_ms"] > 0
    assert [set(growth["ms"]) for growth in result["scaling"]["r"]] == 2 * [{"shifted", "banded"}]


def test_limits_are_plausible_and_named_in_the_report(result: dict[str, Any], folder: Path) -> None:
    text = (folder / "loss.md").read_text()
    assert hardware(torch.device("cpu")) in text
    for limit in result["limits"].values():
        assert 1e8 < limit < 1e15
        assert f"{limit / 1e9:.0f} G" in text


def test_size_that_does_not_fit_is_reported(result: dict[str, Any], tmp_path: Path) -> None:
    (measured,) = result["sizes"]
    lacking = {**measured, "engines": {**measured["engines"], "tensor": "does not fit"}}
    lacking |= {"training_step_ms": "too large for a CPU", "term_ms": None, "losses": {}}
    measured = {**measured, "losses": {}}
    both = {**result, "sizes": [measured, lacking]}
    header, _, *table = rows(to_text(both))
    assert header == HEADER
    assert [row[3] for row in table].count("does not fit") == 1
    assert {len(row) for row in table} == {len(HEADER)}
    assert table[0][4] == "1.0"
    assert table[2][-1].endswith(" %")
    assert table[4][4] == table[4][-1] == ""
    draw_plot(both, tmp_path / "loss.png")
    pixels = np.asarray(Image.open(tmp_path / "loss.png").convert("L"))
    assert pixels.shape[1] > 1000
    assert (pixels < 128).mean() > 0.005


def test_every_loss_is_measured_beside_the_others(result: dict[str, Any]) -> None:
    (measured,) = result["sizes"]
    assert list(measured["losses"]) == [
        *("Gated CRF", "dense CRF", "normalized cut", "kernel cut", "partial cross-entropy", "What's the Point"),
    ]
    assert all(figures["error"] < 1e-5 and figures["ms"] > 0 for figures in measured["losses"].values())
    shown = [row for row in rows(to_text(result)) if row[1] in measured["losses"]]
    assert [row[1] for row in shown] == list(measured["losses"])
    assert all(row[-1].endswith(" %") for row in shown)
