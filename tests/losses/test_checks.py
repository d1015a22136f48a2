"""Refused options, types and shapes: each message names the value and the remedy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, inf, nan

from losses import GatedCRFLoss, GaussianKernel, gated_crf_loss

KERNELS = [GaussianKernel({"rgb": 2.0, "xy": 3.0})]
OPEN = torch.ones(2, 4, 5, dtype=torch.bool)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernels": []}, "kernels is empty; name at least one GaussianKernel, or None"),
        ({"radius": 5, "epsilon": 0.1}, "radius is 5 and epsilon is 0.1; give one of them"),
        ({"radius": 0}, "radius is 0; .* an int of at least 1 pixel"),
        ({"radius": -3}, "radius is -3; .* an int of at least 1 pixel"),
        ({"radius": 2.5}, "radius is 2.5; .* an int of at least 1 pixel"),
        ({"radius": True}, "radius is True; .* an int of at least 1 pixel"),
        ({"radius": "5"}, "radius is '5'; .* an int of at least 1 pixel"),
        ({"compatibility": torch.eye(3).logical_not().float().requires_grad_()}, "requires a gradient, .* detach it"),
        ({"engine": "fast"}, "engine is 'fast'; choose one of auto, shifted, banded, fused, tensor"),
        ({"compatibility": [[0.0, 1.0]]}, r"compatibility has shape \(1, 2\); pass a square \(C, C\) matrix"),
        ({"compatibility": torch.zeros(2, 2, 2)}, r"compatibility has shape \(2, 2, 2\); pass a square"),
        ({"compatibility": [[0.0, -1.0], [1.0, 0.0]]}, r"non-negative with a zero diagonal, not \[\[0.0, -1.0\]"),
        ({"compatibility": [[0.5, 1.0], [1.0, 0.0]]}, r"zero diagonal, not \[\[0.5, 1.0\]"),
        ({"compatibility": [[0.0, inf], [1.0, 0.0]]}, r"must be finite .* not \[\[0.0, inf\]"),
        ({"compatibility": [[0.0, nan], [1.0, 0.0]]}, r"must be finite .* not \[\[0.0, nan\]"),
    ],
)
def test_bad_option_is_refused(arguments: dict[str, Any], message: str, scene: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match=message):
        GatedCRFLoss(**arguments)
    with pytest.raises(ValueError, match=message):
        gated_crf_loss(**scene(), **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"probs": torch.rand(2, 4, 5)},
            r"probs is torch.float32 of shape \(2, 4, 5\); pass floats of .*\(N, C, H, W\)",
        ),
        ({"probs": torch.ones(2, 3, 4, 5).long()}, r"probs is torch.int64 of shape \(2, 3, 4, 5\); pass floats"),
        ({"probs": torch.ones(2, 3, 0, 5)}, r"probs is torch.float32 of shape \(2, 3, 0, 5\); pass floats"),
        ({"features": torch.zeros(2, 3, 4, 5)}, 'features is not a mapping; pass maps by name: {"rgb"'),
        ({"features": {"depth": torch.zeros(2, 1, 4, 5)}}, r"bandwidth for 'rgb' .* only \['depth'\]; pass it"),
        ({"features": {"rgb": np.zeros((2, 3, 4, 5))}}, r"features\['rgb'\] is a ndarray; pass a tensor"),
        ({"source": "all"}, "source is a str; pass a tensor"),
        (
            {"features": {"rgb": OPEN.byte()[:, None]}},
            "'rgb'.* is torch.uint8 of .*; pass floats .* in the units of",
        ),
        (
            {"features": {"rgb": torch.zeros(2, 4, 5)}},
            r"is torch.float32 of shape \(2, 4, 5\); pass .*\(N, D, H, W\)",
        ),
        ({"source": OPEN.float()}, r"source is torch.float32 of shape \(2, 4, 5\); pass bool of .*\(N, H, W\)"),
        ({"destination": OPEN[:, None]}, r"destination is torch.bool of shape \(2, 1, 4, 5\); pass bool"),
        ({"source": OPEN[:1]}, "source has 1 samples but probs has 2; pass the same batch"),
        ({"destination": OPEN[[0, 1, 1]]}, "destination has 3 samples but probs has 2"),
        ({"features": {"rgb": torch.zeros(1, 3, 4, 5)}}, r"features\['rgb'\] has 1 samples but probs has 2"),
        (
            {"features": {"rgb": torch.zeros(2, 3, 3, 9)}},
            r"features\['rgb'\] is 3 x 9 pixels, smaller than the 4 x 5 of probs; pass",
        ),
        (
            {"features": {"rgb": torch.zeros(2, 3, 9, 4)}},
            r"features\['rgb'\] is 9 x 4 pixels, smaller than the 4 x 5 of probs; pass",
        ),
        (
            {"source": OPEN[:, :3]},
            "source is 3 x 5 pixels, smaller than .* resolution of probs or of the input image",
        ),
        ({"destination": OPEN.to("meta")}, "destination is on meta but probs is on cpu; move it there"),
        (
            {"features": {"rgb": torch.zeros(2, 3, 4, 5, device="meta")}},
            "'rgb'.* is on meta but probs is on cpu; move",
        ),
        ({"probs": torch.rand(2, 4, 4, 5).softmax(1)}, "compatibility is for 3 classes but probs has 4"),
    ],
)
def test_bad_input_is_refused(arguments: dict[str, Any], message: str, scene: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match=message):
        GatedCRFLoss(compatibility=1 - torch.eye(3))(**{**scene(), **arguments})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kernels": KERNELS, "radius": 2, "compatibility": [[0, 0.25, 1], [0.5, 0, 0.75], [2, 0.125, 0]]},
        {"kernels": KERNELS, "epsilon": 0.3, "engine": "tensor", "debug": True},
        {"kernels": KERNELS, "authors_denominator": True, "engine": "shifted"},
    ],
)
def test_function_equals_the_module(options: dict[str, Any], scene: Callable[..., dict[str, Any]]) -> None:
    given = scene()
    del given["destination"]
    values: list[Tensor] = [gated_crf_loss(**given, **options), GatedCRFLoss(**options)(**given)]
    assert values[0] == values[1] > 0
    with pytest.raises(TypeError):
        gated_crf_loss(*given.values(), None, KERNELS)


def test_features_that_no_kernel_reads_are_not_looked_at(scene: Callable[..., dict[str, Any]]) -> None:
    given = scene()
    loss = GatedCRFLoss(KERNELS, 2)
    assert loss(**{**given, "features": {"rgb": given["features"]["rgb"], "names": ["a", "b"]}}) == loss(**given)


def test_compatibility_is_copied(scene: Callable[..., dict[str, Any]]) -> None:
    given, mu = scene(), 1 - torch.eye(3)
    loss = GatedCRFLoss(KERNELS, 2, mu)
    before = loss(**given)
    mu *= 2
    assert loss(**given) == before
