"""The gates m^src and m^dst, the denominator, and the pooling of maps to the logits grid."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from losses import GatedCRFLoss, GaussianKernel

every_engine = pytest.mark.parametrize("engine", ["shifted", "banded", "tensor"])
SMOOTH = [GaussianKernel({"rgb": 2.0, "xy": 3.0})]


@every_engine
def test_masked_source_is_not_read(engine: str, scene: Callable[..., dict[str, Any]]) -> None:
    given, loss = scene(), GatedCRFLoss(SMOOTH, 2, engine=engine)
    closed = ~(given["source"] | given["destination"])
    other = torch.where(closed.unsqueeze(1), scene(seed=1)["probs"], given["probs"])
    assert closed.any()
    assert loss(**given) == loss(**{**given, "probs": other}) > 0


@every_engine
def test_closed_destination_receives_nothing(engine: str, scene: Callable[..., dict[str, Any]]) -> None:
    """With one open destination, only the pixels of its window receive a gradient."""
    given = scene(h=7, w=8)
    only = torch.zeros_like(given["destination"])
    only[1, 3, 2] = True
    probs = given["probs"].requires_grad_()
    GatedCRFLoss(SMOOTH, 2, engine=engine)(probs, given["features"], destination=only).backward()
    window = torch.zeros_like(only)
    window[1, 1:6, 0:5] = True
    assert torch.equal(probs.grad.ne(0).all(1), window)
    assert torch.equal(probs.grad.ne(0).any(1), window)


@every_engine
@pytest.mark.parametrize("gate", ["source", "destination"])
def test_energy_adds_up_over_a_gate(gate: str, engine: str, scene: Callable[..., dict[str, Any]]) -> None:
    given, loss = scene(), GatedCRFLoss(SMOOTH, 2, engine=engine)

    def energy(mask: torch.Tensor) -> torch.Tensor:
        arguments = {**given, gate: mask}
        return loss(**arguments) * arguments["destination"].sum()

    part = scene(seed=1)["source"]
    torch.testing.assert_close(energy(part) + energy(~part), energy(torch.ones_like(part)), rtol=1e-12, atol=0)
    assert energy(part) > 0


@every_engine
def test_swapping_the_gates_transposes_the_compatibility(engine: str, scene: Callable[..., dict[str, Any]]) -> None:
    """G_ab is not G_ba: the energy of label i at the destination and j at the source is mu(i, j)."""
    given, mu = scene(), torch.tensor([[0, 0.25, 1], [0.5, 0, 0.75], [2, 0.125, 0]])
    swapped = {**given, "source": given["destination"], "destination": given["source"]}
    count, swapped_count = given["destination"].sum(), given["source"].sum()
    forward, transposed, same = (
        GatedCRFLoss(SMOOTH, 2, m, engine=engine)(**x) * n
        for m, x, n in ((mu, given, count), (mu.T, swapped, swapped_count), (mu, swapped, swapped_count))
    )
    torch.testing.assert_close(forward, transposed, rtol=1e-12, atol=0)
    assert (forward - same).abs() > 1e-3 * forward


@every_engine
@pytest.mark.parametrize("closed", ["source", "destination"])
def test_closed_gate_gives_zero_with_zero_gradient(
    closed: str, engine: str, scene: Callable[..., dict[str, Any]]
) -> None:
    given = scene()
    given[closed] = torch.zeros_like(given[closed])
    probs = given["probs"].requires_grad_()
    loss = GatedCRFLoss(SMOOTH, engine=engine, authors_denominator=True)(**given)
    loss.backward()
    assert loss.item() == 0
    assert not probs.grad.any()


def test_denominator_is_the_number_of_destinations(scene: Callable[..., dict[str, Any]]) -> None:
    """Eq. 10; the authors' code divides by the number of sources when there is no destination mask."""
    given = scene()
    probs, features, source, destination = given.values()
    paper, authors = (GatedCRFLoss(SMOOTH, 2, authors_denominator=flag) for flag in (False, True))
    everywhere = torch.ones_like(source)
    assert paper(probs, features, source) == paper(probs, features, source, everywhere)
    ratio = source.numel() / source.sum().double()
    torch.testing.assert_close(authors(probs, features, source), ratio * paper(probs, features, source))
    assert authors(probs, features, source, destination) == paper(probs, features, source, destination)
    assert authors(probs, features) == paper(probs, features)


@every_engine
def test_features_are_averaged_and_masks_need_every_pixel(engine: str, scene: Callable[..., dict[str, Any]]) -> None:
    """Maps at four times the resolution of the logits: a cell with a closed pixel is closed."""
    given, large, loss = scene(), scene(h=16, w=20, seed=1), GatedCRFLoss(SMOOTH, 2, engine=engine)
    cells = {name: given[name].repeat_interleave(4, 1).repeat_interleave(4, 2) for name in ("source", "destination")}
    for mask in cells.values():
        mask[0, 4 * 1 + 3, 4 * 2 + 1] = False
        mask[1, 0, 19] = False
    for name in cells:
        given[name][0, 1, 2] = given[name][1, 0, 4] = False
    pooled = {name: F.avg_pool2d(x, 4) for name, x in large["features"].items()}
    expected = loss(**{**given, "features": pooled})
    torch.testing.assert_close(loss(given["probs"], large["features"], **cells), expected, rtol=1e-12, atol=0)


def test_missing_gate_is_open(scene: Callable[..., dict[str, Any]]) -> None:
    given = scene()
    probs, features, everywhere = given["probs"], given["features"], torch.ones(2, 4, 5, dtype=torch.bool)
    assert GatedCRFLoss(SMOOTH)(probs, features) == GatedCRFLoss(SMOOTH)(probs, features, everywhere, everywhere)


@every_engine
def test_features_behind_closed_gates_may_be_missing(engine: str) -> None:
    """Sec. 3 (1): m^src excludes missing data of a modality, which may be NaN."""
    generator = torch.Generator().manual_seed(0)
    probs = torch.randn(1, 3, 6, 7, generator=generator).softmax(1).requires_grad_()
    depth = torch.rand(1, 1, 6, 7, generator=generator)
    known = torch.rand(1, 6, 7, generator=generator) > 0.3
    loss = GatedCRFLoss([GaussianKernel({"depth": 0.5, "xy": 3.0})], radius=2, engine=engine)
    values = [loss(probs, {"depth": d}, known, known) for d in (depth, depth.masked_fill(~known[:, None], torch.nan))]
    assert values[0] == values[1]
    assert torch.autograd.grad(values[1], probs)[0].isfinite().all()
