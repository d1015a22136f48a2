"""Summary of ``gatedcrf benchmark gpu`` from results whose figures are known."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.benchmarks.gpu.report import describe_machine, to_text
from experiments.benchmarks.settings import LOSS_SIZES, TRAIN_SIZES
from experiments.cli import main


def loss_result(tensor: Any, fused: float, full: float) -> dict[str, Any]:
    engines = {
        "voc_r8": {"tensor": {"ms": 1.0}, "fused": {"ms": 1.0}},  # the same shape as "voc"
        "voc": {"tensor": tensor, "fused": {"ms": fused}},
        "full_r11": {"tensor": "does not fit", "fused": {"ms": full}},
    }
    return {"sizes": [{"size": LOSS_SIZES[name]._asdict(), "engines": found} for name, found in engines.items()]}


def train_result(term: float, plain: list[float], lightning: list[float]) -> dict[str, Any]:
    rows = {"preset_gpu": {"term_ms": term, "resident_ms": 30.0}}
    times = {"plain_ms": plain, "lightning_ms": lightning}
    return {
        "sizes": {
            name: {"setting": TRAIN_SIZES[name]._asdict(), "rows": rows, "lightning": times}
            for name in ("voc", "cityscapes")
        }
    }


def table(text: str, first: str) -> list[list[str]]:
    rows = [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("| ")]
    start = next(k for k, row in enumerate(rows) if row[0] == first)
    return [row[1:] for row in rows[start + 2 : start + 7]]


def write(folder: Path, **results: dict[str, Any]) -> None:
    for name, result in results.items():
        (folder / f"{name}.json").write_text(json.dumps(result))


def state(*names: str) -> dict[str, Any]:
    return {"gpu": "H100", "driver": "1", "parts": {name: {"state": "done", "seconds": 2.5} for name in names}}


def test_goals_are_compared_with_the_measurements(tmp_path: Path) -> None:
    """48 images in 24 ms are 2,000 per second; the median of 1/25, 1/24 and 0 behind is 4 %."""
    train = train_result(0.15, [24.0, 23.0, 24.0], [25.0, 24.0, 24.0])
    write(tmp_path, loss=loss_result({"ms": 10.0}, 0.25, 12.5), train=train)
    text = to_text(state("loss", "train"), tmp_path)
    assert table(text, "figure") == [
        ["at least 30", "40", "yes"],
        ["at most 1 %", "0.5 %", "yes"],
        ["at most 10 ms", "12.5 ms", "no"],
        ["at least 1,500 images/s", "2,000 images/s", "yes"],
        ["at most 10 %", "4 %", "yes"],
    ]


def test_hours_of_the_paper_are_those_of_its_38_trainings(tmp_path: Path) -> None:
    """29 trainings on VOC and 9 on Cityscapes take 90,000 steps each, here of 36 ms: 0.9 h."""
    write(tmp_path, train=train_result(0.1, [36.0], [36.0]))
    text = to_text(state("train"), tmp_path)
    voc = 38 - 9
    assert f"voc {voc * 0.9:.0f} h, cityscapes {9 * 0.9:.0f} h; {38 * 0.9:.0f} h in total." in text


def test_parts_without_results_are_reported(tmp_path: Path) -> None:
    """Files of parts that were not run are not read; a failed part shows its output."""
    write(tmp_path, train=train_result(0.15, [24.0], [25.0]), tests={"passed": 3, "skipped": 1, "failed": ["a::b"]})
    write(tmp_path, loss=loss_result("does not fit", 0.25, 12.5))
    result = state("loss", "tests")
    result["parts"]["data"] = {"state": "failed", "seconds": 1.0, "output": "Traceback"}
    text = to_text(result, tmp_path)
    assert [row[1] for row in table(text, "figure")] == ["not measured"] * 2 + ["12.5 ms"] + ["not measured"] * 2
    assert "| data | failed | 1.0 |" in text
    assert "The end of data:\n\n```text\nTraceback\n```" in text
    assert "3 passed, 1 failed, 1 skipped" in text
    assert "- a::b" in text
    assert "no speed of `fit` was measured" in text
    assert text.startswith("gpu H100, driver 1.\n")


def test_machine_is_described() -> None:
    machine = describe_machine()
    assert machine["torch"] == torch.__version__.partition("+")[0]
    assert set(machine) == {"gpu", "driver", "CUDA", "torch", "triton", "pytorch-lightning"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="measures for minutes with a GPU")
def test_without_a_gpu_the_command_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["benchmark", "gpu", "--out", str(tmp_path / "out")])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("There is no GPU")
    assert not (tmp_path / "out").exists()
