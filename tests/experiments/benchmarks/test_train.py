"""The benchmark of a training step: command and tables."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.benchmarks import train
from experiments.benchmarks.measure import hardware
from experiments.benchmarks.photographs import PhotographFolder
from experiments.benchmarks.train import OVERHEAD_HEADER, STEP_HEADER, to_text
from experiments.cli import main


def test_command_writes_both_tables(
    photographs: PhotographFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(train.TRAIN_SIZES, "folder_small", photographs.size)
    arguments = ["--sizes", "folder_small", "--rows", "float32", "--steps", "4", "--repeats", "1", "--num_workers", "0"]
    main(["benchmark", "train", *arguments, "--out", str(tmp_path)])
    result: dict[str, Any] = json.loads((tmp_path / "train.json").read_text())
    text = (tmp_path / "train.md").read_text()
    assert text in capsys.readouterr().out
    assert result["hardware"] == hardware(torch.device("cpu"))
    assert result["hardware"] in text
    assert "| 2, 32, 3 | float32 |" in text
    assert "| 2, 32, 3 | test_resnet |" in text
    assert "for 4 steps, as fast as preset none;" in text
    assert len(result["sizes"]["folder_small"]["lightning"]["plain_ms"]) == 1


def test_tables_report_the_measurements(photographs: PhotographFolder) -> None:
    row = {"images_per_second": 4.0, "step_ms": 500.0, "wait_ms": 5.0, "term_ms": 8.0, "resident_ms": 400.0}
    size = {
        "setting": photographs.size._asdict(),
        "rows": {"float32": row | {"mib": 1234.0}, "other": "not installed"},
        "lightning": {"plain_ms": [100.0, 200.0, 100.0], "lightning_ms": [101.0, 210.0, 99.0]},
    }
    text = to_text({"hardware": "CPU", "num_workers": 1, "preset": "none", "steps": 9, "sizes": {"tiny": size}})
    table = [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    figures = ["4", "500", "1.0 %", "2.0 %", "1,234"]
    assert table[:3] == [
        STEP_HEADER,
        ["2, 32, 3", "float32", *figures],
        ["2, 32, 3", "other", "not installed", *[""] * 4],
    ]
    assert table[3:] == [
        OVERHEAD_HEADER,
        ["2, 32, 3", "test_resnet", "20", "19.8", "1.0", "1.0 %", "-1.0 to 5.0 %"],
    ]
