"""The first call of a loss warns about values in other units; correct values and later calls are silent."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch._dynamo.testing
from torch import Tensor, nn

from losses import (
    DenseCRFLoss,
    GatedCRFLoss,
    GaussianKernel,
    NormalizedCutLoss,
    PartialCrossEntropyLoss,
    gated_crf,
    gated_crf_loss,
)
from losses.first_call import FirstCall

Warnings = list[warnings.WarningMessage]
TARGET = torch.ones(2, 8, 8, dtype=torch.uint8)
each_loss = pytest.mark.parametrize("loss", [GatedCRFLoss, DenseCRFLoss, NormalizedCutLoss])


@pytest.fixture
def heard() -> Iterator[Warnings]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield found


def standardized(generator: int = 0) -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(generator))


def photograph() -> Tensor:
    return (60 * standardized() + 120).clamp(0, 255).round()


@each_loss
def test_logits_are_named_once(loss: Callable[[], nn.Module], heard: Warnings) -> None:
    module, logits = loss(), 4 * standardized(1)
    for _ in range(3):
        module(logits, {"rgb": standardized()})
    (warning,) = heard
    assert str(warning.message).startswith(f"probs lies in [{logits.min():.4g}, {logits.max():.4g}]")
    assert str(warning.message).endswith("pass logits.softmax(dim=1).")


@each_loss
def test_image_in_gray_levels_is_named_once(loss: Callable[[], nn.Module], heard: Warnings) -> None:
    module = loss()
    for _ in range(3):
        module(standardized(1).softmax(1), {"rgb": photograph()})
    (warning,) = heard
    assert "features['rgb'] lies in [0, 255], but its bandwidth is 0." in str(warning.message)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("classes", [1, 2, 21, 150])
def test_correct_values_are_silent(classes: int, dtype: torch.dtype, heard: Warnings) -> None:
    logits = 3 * torch.randn(2, classes, 8, 8, generator=torch.Generator().manual_seed(0))
    for module in (GatedCRFLoss(), DenseCRFLoss(), NormalizedCutLoss()):
        module(logits.softmax(1).to(dtype), {"rgb": standardized().to(dtype)})
    PartialCrossEntropyLoss()(logits.to(dtype), TARGET - 1)
    assert not heard


@pytest.mark.parametrize(
    ("rgb", "sigma"),
    [
        (photograph(), {"rgb": 15.0, "xy": 6.0}),  # a bandwidth in gray levels
        (photograph() / 255, {"rgb": 0.1, "xy": 6.0}),
        (photograph(), {"xy": 6.0}),  # not read
        (photograph()[:, :1], {"rgb": 0.1, "xy": 6.0}),  # depth, in units of its own
    ],
)
def test_features_in_the_units_of_their_bandwidth_are_silent(
    rgb: Tensor, sigma: dict[str, float], heard: Warnings
) -> None:
    GatedCRFLoss([GaussianKernel(sigma)])(standardized().softmax(1), {"rgb": rgb})
    assert not heard


def test_values_behind_closed_gates_are_silent(heard: Warnings) -> None:
    probs, gate = standardized().softmax(1), torch.ones(2, 8, 8, dtype=torch.bool)
    gate[:, :2] = False
    probs[:, :, :2] = 7.0
    GatedCRFLoss()(probs, {"rgb": standardized()}, gate, gate)
    assert not heard
    GatedCRFLoss()(probs, {"rgb": standardized()}, gate)
    assert len(heard) == 1


def test_probabilities_instead_of_logits_are_named_once(heard: Warnings) -> None:
    loss = PartialCrossEntropyLoss()
    for _ in range(2):
        loss(standardized().softmax(1), TARGET)
    assert [str(warning.message) for warning in heard] == [
        "logits sum to 1 over classes; pass logits, without a softmax."
    ]


def test_function_warns_once_for_all_calls(heard: Warnings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gated_crf, "_FUNCTION_FIRST_CALL", FirstCall())
    for _ in range(3):
        gated_crf_loss(4 * standardized(), {"rgb": standardized()})
    assert len(heard) == 1


@pytest.mark.parametrize("eager_first", [False, True])
def test_compiled_loss_is_one_graph_and_compiled_once(eager_first: bool, heard: Warnings) -> None:
    """A compiled call reads no values, so it does not warn."""
    given: dict[str, Any] = {"probs": 4 * standardized(), "features": {"rgb": standardized()}}
    loss = GatedCRFLoss(engine="shifted")
    torch.compiler.reset()
    graphs = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(loss, fullgraph=True, backend=graphs)
    if eager_first:
        loss(**given)
    compiled(**given)
    loss(**given)
    compiled(**given)
    assert graphs.frame_count == 1
    assert sum("pass logits.softmax" in str(warning.message) for warning in heard) == 1  # compilers warn too
