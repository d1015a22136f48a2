"""Figures of a training step, and counted operations against closed forms."""

import sys

import pytest
import torch
from torch import nn

from experiments.benchmarks.photographs import PhotographFolder
from experiments.benchmarks.plain_loop import NETWORKS, PlainLoop
from experiments.benchmarks.settings import Variant
from experiments.benchmarks.train_step import measure_steps, step_flops
from lightning_modules.deeplab_v3plus import DeepLabV3Plus

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


def test_two_convolutions_cost_their_multiply_adds() -> None:
    """Backward costs one forward for the weights, and one for the input, which the image does not need."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.ReLU(), nn.Conv2d(8, 5, 1))
    first, second = 2 * 2 * 32**2 * 8 * 3 * 9, 2 * 2 * 32**2 * 5 * 8
    assert step_flops(network, batch=2, crop=64) == 2 * first + 3 * second


def test_counting_keeps_weights_and_mode() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    step_flops(network, batch=2, crop=8)
    assert not network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_cost_of_the_network_grows_with_batch_and_area() -> None:
    network = DeepLabV3Plus(21, "test_resnet", pretrained=False, channels=16)
    cost = step_flops(network, batch=2, crop=64)
    assert step_flops(network, batch=4, crop=64) == pytest.approx(2 * cost)
    assert step_flops(network, batch=2, crop=128) == pytest.approx(4 * cost, rel=0.01)
