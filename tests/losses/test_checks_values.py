"""Values that ``debug`` refuses; without it, only the first call may warn."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nan

from losses import GatedCRFLoss, GaussianKernel, gated_crf_loss

KERNELS = [GaussianKernel({"rgb": 2.0, "xy": 3.0})]


def logits(given: dict[str, Any]) -> None:
    given["probs"] = given["probs"].log()


def large(given: dict[str, Any]) -> None:
    given["probs"][0, :, 1, 1] = torch.tensor([1.5, 0.0, 0.0])


def negative(given: dict[str, Any]) -> None:
    given["probs"][0, :, 1, 1] = torch.tensor([1.25, -0.25, 0.0])


def missing(given: dict[str, Any]) -> None:
    given["probs"][1, 2, 3, 4] = nan


def unnormalized(given: dict[str, Any]) -> None:
    given["probs"] = given["probs"] * 0.9


def sigmoids(given: dict[str, Any]) -> None:
    given["probs"][0, :, 1, 1] = 0.75


def hole_where_energy_arrives(given: dict[str, Any]) -> None:
    given["features"]["rgb"][0, 1, 2, 3] = nan
    given["source"][0, 2, 3], given["destination"][0, 2, 3] = False, True


def hole_where_energy_departs(given: dict[str, Any]) -> None:
    given["features"]["rgb"][0, 1, 2, 3] = nan
    given["source"][0, 2, 3], given["destination"][0, 2, 3] = True, False


AT_OPEN_GATES = r"features\['rgb'\] has 1 values that are not finite at open gates; close both gates there"
BAD_VALUES = [
    (logits, r"probs lies in \[-\d.*\] and sums to .* over classes; pass logits.softmax\(dim=1\)"),
    (large, r"probs lies in \[0, 1.5\] .*; pass logits.softmax"),
    (negative, r"probs lies in \[-0.25, 1.25\] .*; pass logits.softmax"),
    (missing, r"probs has 1 values that are not finite; pass logits.softmax"),
    (unnormalized, "probs .* sums to between 0.9 and 0.9 over classes; pass logits.softmax"),
    (sigmoids, "probs .* sums to between 1 and 2.25 over classes; pass logits.softmax"),
    (hole_where_energy_arrives, AT_OPEN_GATES),
    (hole_where_energy_departs, AT_OPEN_GATES),
]


@pytest.mark.parametrize(("spoil", "message"), BAD_VALUES)
def test_debug_refuses_bad_values(
    spoil: Callable[[dict[str, Any]], None], message: str, scene: Callable[..., dict[str, Any]]
) -> None:
    given = scene()
    spoil(given)
    with pytest.raises(ValueError, match=message):
        GatedCRFLoss(KERNELS, debug=True)(**given)
    with pytest.raises(ValueError, match=message):
        gated_crf_loss(**given, kernels=KERNELS, debug=True)


@pytest.mark.parametrize("spoil", [spoil for spoil, _ in BAD_VALUES])
def test_without_debug_no_value_is_refused(
    spoil: Callable[[dict[str, Any]], None], scene: Callable[..., dict[str, Any]]
) -> None:
    """NaN in the input gives NaN."""
    given = scene()
    spoil(given)
    inputs = (given["probs"], given["features"]["rgb"])
    assert GatedCRFLoss(KERNELS)(**given).isfinite() == all(x.isfinite().all() for x in inputs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("classes", [1, 21])
def test_debug_accepts_probabilities_of_any_precision(
    classes: int, dtype: torch.dtype, scene: Callable[..., dict[str, Any]]
) -> None:
    given = scene(c=classes, h=20, w=20)
    given["probs"] = given["probs"].to(dtype)
    assert GatedCRFLoss(KERNELS, debug=True)(**given) == GatedCRFLoss(KERNELS)(**given)


def test_debug_accepts_missing_features_behind_closed_gates(scene: Callable[..., dict[str, Any]]) -> None:
    given, loss = scene(), GatedCRFLoss(KERNELS, debug=True)
    expected = loss(**given)
    hidden = ~(given["source"] | given["destination"]).unsqueeze(1)
    given["features"]["rgb"] = given["features"]["rgb"].masked_fill(hidden, nan)
    given["features"]["unused"] = torch.full((2, 1, 4, 5), nan)
    assert loss(**given) == expected
    with pytest.raises(ValueError, match="at open gates"):
        loss(given["probs"], given["features"], given["source"])
