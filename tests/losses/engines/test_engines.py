"""Properties of all engines, and the choice of an engine."""

import runpy
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import losses.engines
from losses import GatedCRFLoss, GaussianKernel
from losses.engines import FILTERS, TRITON, choose_engine
from losses.kernels import Neighborhood, mix

KERNELS = [
    GaussianKernel({"rgb": 1.5, "xy": 3.0}),
    GaussianKernel({"depth": 0.8, "rgb": 3.0, "xy": 2.0}, -0.5),
    GaussianKernel({"xy": 1.5}, 0.3),
]
WIDTHS = {"rgb": 3, "depth": 1}
Filter = Callable[..., tuple[Tensor, Tensor]]
Input = Callable[..., tuple[Tensor, Tensor, Neighborhood]]
cpu_engines = pytest.mark.parametrize("engine", ["shifted", "banded"])


@cpu_engines
@pytest.mark.parametrize("kernels", [KERNELS[:1], KERNELS], ids=["one kernel", "three kernels"])
@pytest.mark.parametrize(
    ("size", "radius"),
    [
        ((1, 1, 1, 1), 1),
        ((2, 3, 3, 4), 5),
        ((1, 2, 1, 40), 15),
        ((2, 2, 40, 1), 15),
        ((1, 2, 1, 7), 3),
        ((2, 3, 7, 1), 2),
        ((2, 21, 9, 11), 5),
    ],
)
def test_filter_and_energy_equal_the_dense_matrix(
    size: tuple[int, int, int, int],
    radius: int,
    kernels: list[GaussianKernel],
    engine: str,
    filter_input: Input,
    dense_filter: Filter,
) -> None:
    for sign, constant in product((1, -1), (0, 1)):
        arguments = filter_input(size, mix(kernels, WIDTHS), radius, sign)
        for result, expected in zip(
            FILTERS[engine](*arguments, constant), dense_filter(*arguments, constant), strict=True
        ):
            atol = 1e-10 * max(1.0, expected.abs().max().item())
            torch.testing.assert_close(result, expected, rtol=1e-10, atol=atol)


@cpu_engines
@pytest.mark.parametrize("size", [(2, 3, 5, 6), (1, 1, 1, 20)])
def test_kernel_of_position_alone_needs_no_features(
    size: tuple[int, int, int, int], engine: str, filter_input: Input, dense_filter: Filter
) -> None:
    arguments = filter_input(size, mix([GaussianKernel({"xy": 2.0})], {}), 3)
    for result, expected in zip(FILTERS[engine](*arguments, 1), dense_filter(*arguments, 1), strict=True):
        torch.testing.assert_close(result, expected, rtol=1e-10, atol=1e-10)


@cpu_engines
def test_filter_is_symmetric_or_antisymmetric(engine: str, filter_input: Input) -> None:
    """<x, W y> = sign <W x, y>, so one sweep serves both ends of a pair."""
    for sign in (1, -1):
        x, y, neighborhood = filter_input((2, 1, 4, 5), mix(KERNELS, WIDTHS), 2, sign)
        of_y, energy = FILTERS[engine](x, y, neighborhood, 0)
        of_x, _ = FILTERS[engine](y, x, neighborhood, 0)
        left, right = (x * of_y).sum(), (of_x * y).sum()
        torch.testing.assert_close(left, sign * right, rtol=1e-12, atol=0)
        torch.testing.assert_close(energy, left / 2, rtol=1e-12, atol=0)
        assert left.abs() > 1e-3


@cpu_engines
def test_faint_weights_are_not_denormal_numbers(engine: str, filter_input: Input, dense_filter: Filter) -> None:
    """exp(-95) is denormal in float32, and processors take a hundred times longer for such numbers."""
    mixture = mix([GaussianKernel({"f": 0.5**0.5})], {"f": 4})
    probs, _, neighborhood = filter_input((1, 3, 6, 7), mixture, 2, dtype=torch.float32)
    signs = neighborhood.features.sign() * 95**0.5 / 2  # each channel adds 95 or 0 to the exponent
    arguments = (probs, probs, neighborhood._replace(features=signs), 1)
    filtered, energy = FILTERS[engine](*arguments)
    expected, expected_energy = dense_filter(*arguments)
    torch.testing.assert_close(filtered.double(), expected, rtol=1e-5, atol=1e-15)
    torch.testing.assert_close(energy.double(), expected_energy, rtol=1e-5, atol=1e-15)
    assert filtered[filtered > 0].min() >= torch.finfo(torch.float32).tiny


@cpu_engines
@pytest.mark.parametrize("distance", [1e3, 1e15, 1e25])
def test_features_far_apart_have_no_affinity(distance: float, engine: str) -> None:
    """The square of 1e25 is infinite in float32."""
    probs, color = torch.eye(2).view(1, 2, 1, 2), torch.tensor([0, distance]).view(1, 1, 1, 2)
    loss = GatedCRFLoss([GaussianKernel({"rgb": 0.1, "xy": 6.0})], engine=engine)(probs, {"rgb": color})
    assert 0 <= loss.item() < 1e-15


def test_engine_for_a_device() -> None:
    assert choose_engine(torch.device("cpu")) == "banded"
    assert choose_engine(torch.device("cuda", 0)) == ("fused" if TRITON else "shifted")
    assert choose_engine(torch.device("mps")) == "shifted"


def test_auto_is_the_engine_for_the_device(scene: Callable[..., dict[str, Any]]) -> None:
    given = scene()
    kernels = [GaussianKernel({"rgb": 1.5, "xy": 2.0})]
    assert GatedCRFLoss(kernels, 2)(**given) == GatedCRFLoss(kernels, 2, engine="banded")(**given)


def test_engine_is_chosen_inside_a_compiled_function() -> None:
    chosen = torch.compile(
        lambda x: x + (choose_engine(torch.device("cuda")) == "fused"), fullgraph=True, backend="eager"
    )
    assert chosen(torch.zeros(())) == TRITON


def test_without_triton_only_the_fused_engine_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)  # neither found nor imported
    for module in ("fused", "fused_kernel"):
        monkeypatch.delitem(sys.modules, f"losses.engines.{module}", raising=False)
    package = Path(losses.engines.__file__)
    assert runpy.run_path(str(package))["choose_engine"](torch.device("cuda")) == "shifted"
    with pytest.raises(ImportError, match="triton"):
        GatedCRFLoss(engine="fused")(torch.full((1, 2, 4, 4), 0.5), {"rgb": torch.zeros(1, 3, 4, 4)})
    users = {path.name for path in package.parents[1].rglob("*.py") if "import triton" in path.read_text()}
    assert users == {"fused.py", "fused_kernel.py"}
