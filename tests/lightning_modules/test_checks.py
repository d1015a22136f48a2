"""Outputs of a network that are no logits are named in the first batch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from datamodules.io.errors import InputError
from datamodules.sample import Sample
from lightning_modules.checks import as_logits, late_start
from lightning_modules.weak_segmentation import WeakSegmentation
from losses import GatedCRFLoss

IMAGE = torch.zeros(2, 3, 48, 64)
Module = Callable[..., WeakSegmentation]


class Wrong(nn.Module):
    """Changes the output of a network."""

    def __init__(self, network: nn.Module, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network, self.change = network, change

    def forward(self, image: Tensor) -> Any:
        return self.change(self.network(image))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"out": torch.zeros(2, 4, 12, 16), "aux": None}, "returns a dict with out, aux; return only the logits"),
        ((torch.zeros(2, 4, 12, 16),), "returns a tuple; return only the logits, a tensor"),
        (torch.zeros(2, 4), r"returns torch.float32 of shape \(2, 4\) .*; return logits, floats of shape \(N, 4, h, w"),
        (torch.zeros(2, 12, 16), r"returns torch.float32 of shape \(2, 12, 16\)"),
        (torch.zeros(2, 4, 12, 16).long(), r"returns torch.int64 of shape \(2, 4, 12, 16\)"),
        (torch.zeros(2, 21, 12, 16), "returns 21 channels, but the dataset has 4 classes; construct"),
        (torch.zeros(2, 4, 96, 128), r"logits of shape \(2, 4, 96, 128\) for images of \(2, 3, 48, 64\)"),
        (torch.zeros(2, 4, 49, 64), "not larger"),
        (torch.zeros(2, 4, 48, 65), "not larger"),
        (torch.zeros(2, 4, 16, 12), r"logits of shape \(2, 4, 16, 12\) .* same orientation"),
        (torch.zeros(1, 4, 12, 16), r"logits of shape \(1, 4, 12, 16\) .* one map per image"),
    ],
)
def test_output_that_is_no_logits_is_named(output: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_logits(output, IMAGE, 4)


@pytest.mark.parametrize("size", [(48, 64), (12, 16), (1, 1), (2, 2), (7, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_logits_of_any_size_and_precision_become_float32(size: tuple[int, int], dtype: torch.dtype) -> None:
    logits = torch.randn(2, 4, *size).to(dtype)
    result = as_logits(logits, IMAGE, 4)
    assert result.dtype == torch.float32
    assert torch.equal(result, logits.float())


@pytest.mark.parametrize("stage", ["fit", "validate", "predict"])
def test_wrong_network_ends_the_first_batch(
    stage: str, trainer: Callable[..., Any], module: Module, loader: Callable[..., DataLoader[Sample]]
) -> None:
    model = module()
    model.network = Wrong(model.network, lambda logits: {"out": logits})
    run = getattr(trainer(max_steps=1), stage)
    with pytest.raises(InputError, match="a dict with out"):
        run(model, loader((12, 16)))


@pytest.mark.parametrize(
    ("regularizer", "start", "warns"),
    [(GatedCRFLoss(), 1, False), (GatedCRFLoss(), 2, True), (GatedCRFLoss(), 100, True), (None, 2, False)],
)
def test_regularizer_that_never_starts_is_said_before_the_first_step(
    regularizer: nn.Module | None,
    start: int,
    warns: bool,
    trainer: Callable[..., Any],
    module: Module,
    loader: Callable[..., DataLoader[Sample]],
    recwarn: pytest.WarningsRecorder,
) -> None:
    model = module(regularizer=regularizer, regularizer_start_step=start)
    trainer(max_steps=2).fit(model, loader((12, 16), (12, 16)))
    found = [str(warning.message) for warning in recwarn if "regularizer" in str(warning.message)]
    assert found == [late_start(start, 2)] * warns
    assert not warns or f"starts at step {start}, but training ends at 2" in found[0]
