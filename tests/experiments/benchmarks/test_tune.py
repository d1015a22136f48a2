"""The benchmark of tiles of the fused kernel."""

import json
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton comes with torch on Linux only")

from experiments.benchmarks import tune
from experiments.benchmarks.settings import LossSize
from experiments.cli import main
from losses.engines.fused import TILE, Tile

pytestmark = pytest.mark.gpu


def test_every_tile_is_measured_and_compared_with_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "SIZES", ("voc",))
    monkeypatch.setattr(tune, "TILES", [Tile(1, 32), TILE])
    monkeypatch.setitem(tune.LOSS_SIZES, "voc", LossSize((1, 3, 4, 5), radius=1))
    main(["benchmark", "tune", "--repeats", "1", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "tune.json").read_text())
    assert [(row["predictions"], row["rows"], row["lanes"]) for row in result["rows"]] == [
        *(("float32", 1, 32), ("float32", *TILE)),
        *(("bfloat16", 1, 32), ("bfloat16", *TILE)),
    ]
    text = (tmp_path / "tune.md").read_text()
    lines = [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("| ")]
    ratio = result["rows"][0]["ms"] / result["rows"][1]["ms"]
    assert lines[2] == ["1, 3, 4, 5", "1", "float32", "1", "32", lines[2][5], f"{ratio:.2f}"]
    assert lines[3][-1] == "1.00"
