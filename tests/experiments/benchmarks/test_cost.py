"""Counted operations against closed forms."""

import pytest
import torch
from torch import nn

from experiments.benchmarks.cost import step_flops
from lightning_modules.deeplab_v3plus import DeepLabV3Plus


def test_two_convolutions_cost_their_multiply_adds() -> None:
    """Backward costs a forward for the weights, and another for the input, which the image does not need."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.ReLU(), nn.Conv2d(8, 5, 1))
    first, second = 2 * 2 * 32**2 * 8 * 3 * 9, 2 * 2 * 32**2 * 5 * 8
    assert step_flops(network, batch=2, crop=64) == 2 * first + 3 * second


def test_network_keeps_its_weights_and_mode() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    step_flops(network, batch=2, crop=8)
    assert not network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_cost_of_the_network_grows_with_batch_and_area() -> None:
    network = DeepLabV3Plus(21, pretrained=False)
    voc = step_flops(network, batch=2, crop=64)
    assert step_flops(network, batch=4, crop=64) == pytest.approx(2 * voc)
    assert step_flops(network, batch=2, crop=128) == pytest.approx(4 * voc, rel=0.01)
