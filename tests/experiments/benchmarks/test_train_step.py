"""Measurements of a training step."""

import sys

import pytest
import torch
from torch import nn

from experiments.benchmarks.photographs import PhotographFolder
from experiments.benchmarks.plain_loop import NETWORKS, PlainLoop
from experiments.benchmarks.settings import Variant
from experiments.benchmarks.train_step import measure_steps

CPU = torch.device("cpu")


def test_rows_are_measured_or_say_why_not(photographs: PhotographFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)  # as if it were not installed
    monkeypatch.setitem(NETWORKS, "huge", lambda size: nn.Linear(2**24, 2**24))
    variants = {"a": Variant(), "b": Variant(network="segmentation_models"), "c": Variant(network="huge")}
    rows = measure_steps(photographs, variants, CPU, repeats=1)
    assert list(rows) == ["a", "b", "c"]
    assert rows["b"] == "not installed"
    assert rows["c"] == "does not fit"
    row = rows["a"]
    assert isinstance(row, dict)
    assert row["images_per_second"] == pytest.approx(2e3 / row["step_ms"])
    assert 0 < row["wait_ms"] < row["step_ms"]
    assert 0 < row["term_ms"] < row["resident_ms"]
    parameters = sum(p.numel() for p in PlainLoop(photographs.size, Variant(), CPU, 1).network.parameters())
    assert row["mib"] > 3 * 4 * parameters / 2**20  # with momentum and gradients
