"""Counted operations, bytes and memory of the loss against the definition and a measurement."""

from itertools import product

import pytest
import torch

from experiments.benchmarks.measure import peak_memory
from experiments.benchmarks.settings import LossSize
from losses import GatedCRFLoss


def test_multiply_adds_are_those_of_the_definition() -> None:
    size = LossSize((2, 5, 4, 6), radius=3)
    pixels = list(product(range(4), range(6)))
    near = [(a, b) for a, b in product(pixels, pixels) if a != b and max(abs(a[0] - b[0]), abs(a[1] - b[1])) <= 3]
    assert size.multiply_adds() == 2 * (len(near) * 5 + len(near) // 2 * 3)
    assert size.traffic() == 4 * (2 * 2 * 5 * 24) + 4 * (2 * 3 * 24) + 2 * (2 * 24)


def test_estimated_memory_of_the_tensor_form_is_its_measured_peak() -> None:
    size = LossSize((1, 21, 32, 32), radius=5)
    probs, image = torch.rand(size.shape).requires_grad_(), torch.rand(1, 3, 32, 32)
    mib = peak_memory(lambda: GatedCRFLoss(engine="tensor")(probs, {"rgb": image}).backward(), torch.device("cpu"))
    assert size.tensor_form_bytes() / 2**20 == pytest.approx(mib, rel=0.05)
