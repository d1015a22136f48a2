"""The product over all pairs of pixels against a dense matrix in float64."""

import pytest
import torch
from torch import Tensor

import losses.all_pairs
from losses import GaussianKernel
from losses.all_pairs import all_pairs_product, pairwise_energies, scaled_features

KERNEL = GaussianKernel({"rgb": 0.8, "xy": 3.0})


def features(n: int = 2, height: int = 9, width: int = 7, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Return scaled features and a mask in which a fifth of the pixels is closed."""
    generator = torch.Generator().manual_seed(1)
    rgb = torch.randn(n, 3, height, width, generator=generator, dtype=torch.float64)
    mask = torch.rand(n, height, width, generator=generator) > 0.2
    return scaled_features({"rgb": rgb.to(dtype)}, KERNEL, mask), mask.flatten(1)


def dense_kernel(scaled: Tensor, mask: Tensor) -> Tensor:
    """Return K, (N, P, P), float64, with 0 for pairs outside the mask."""
    squares = (scaled[..., None] - scaled[..., None, :]).double().square().sum(1)
    return torch.exp(-squares / 2) * mask[:, :, None] * mask[:, None, :]


def test_features_are_in_units_of_the_bandwidths_with_rows_and_columns() -> None:
    rgb = torch.randn(1, 3, 4, 5, dtype=torch.float64)
    scaled = scaled_features({"rgb": rgb}, KERNEL, torch.ones(1, 4, 5, dtype=torch.bool))
    a, b = 1 * 5 + 2, 3 * 5 + 4  # (row, column) = (1, 2) and (3, 4)
    expected = ((rgb[0, :, 1, 2] - rgb[0, :, 3, 4]) / 0.8).square().sum() + (2**2 + 2**2) / 3.0**2
    torch.testing.assert_close((scaled[0, :, a] - scaled[0, :, b]).square().sum(), expected)


@pytest.mark.parametrize("block", [1, 40, 2**20], ids=["single rows", "parts of an image", "all at once"])
def test_product_equals_the_dense_matrix(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(losses.all_pairs.BLOCK, "cpu", block * 63)
    scaled, mask = features(n=3)
    probs = torch.randn(3, 4, 63, dtype=torch.float64)
    kernel = dense_kernel(scaled, mask)
    filtered, degrees = all_pairs_product(probs, scaled, mask)
    torch.testing.assert_close(filtered, probs @ kernel, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(degrees, kernel.sum(2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("colors", [(-2.1, 2.6), (2.5, 2.6)], ids=["black and white", "bright"])
def test_float32_is_within_1e5_of_float64_at_the_ends_of_the_color_range(colors: tuple[float, float]) -> None:
    """The exponent is a difference of squared features, which cancel."""
    rgb = torch.full((1, 3, 32, 32), colors[0])
    rgb[..., 16:] = colors[1]
    rgb += 0.05 * torch.randn(rgb.shape, generator=torch.Generator().manual_seed(0))
    kernel, mask = GaussianKernel({"rgb": 0.1, "xy": 25.0}), torch.ones(1, 32, 32, dtype=torch.bool)
    probs = torch.rand(1, 5, 1024, generator=torch.Generator().manual_seed(2))
    results = []
    for dtype in (torch.float32, torch.float64):
        y = probs.to(dtype).requires_grad_()
        energies, _ = pairwise_energies(y, scaled_features({"rgb": rgb.to(dtype)}, kernel, mask), mask.flatten(1))
        (gradient,) = torch.autograd.grad(energies.sum(), y)
        results.append((energies.double(), gradient.double()))
    for single, double in zip(*results, strict=True):
        assert (single - double).norm() / double.norm() < 1e-6


def test_gradient_is_twice_the_product() -> None:
    scaled, mask = features(n=1, height=3, width=4)
    probs = torch.rand(1, 2, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: pairwise_energies(y, scaled, mask)[0], (probs,))


def test_second_backward_repeats_the_first() -> None:
    scaled, mask = features(n=1, height=3, width=4)
    probs = torch.rand(1, 2, 12, dtype=torch.float64, requires_grad=True)
    energy = pairwise_energies(probs, scaled, mask)[0].sum()
    first = torch.autograd.grad(energy, probs, retain_graph=True)[0]
    copy = first.clone()
    second = torch.autograd.grad(energy, probs)[0]
    assert torch.equal(first, copy)
    torch.testing.assert_close(second, copy)


def test_second_derivatives_are_refused() -> None:
    scaled, mask = features(n=1, height=2, width=2)
    probs = torch.rand(1, 2, 4, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(pairwise_energies(probs, scaled, mask)[0].sum(), probs, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        gradient.sum().backward()


def test_no_matrix_of_all_pairs_is_in_memory() -> None:
    """64 MiB for K of one image of 64 x 64 pixels; the exponents of a block have 4 MiB."""
    probs, features_ = torch.rand(1, 2, 4096), torch.rand(1, 5, 4096)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True, acc_events=True) as profile:
        all_pairs_product(probs, features_, torch.ones(1, 4096, dtype=torch.bool))
    events = profile.profiler.kineto_results.events()  # type: ignore[union-attr]
    assert 0 < max(event.nbytes() for event in events if event.name() == "[memory]") <= 2**22


def test_operator_describes_itself_to_compilers() -> None:
    scaled, mask = features(n=1, height=3, width=3)
    torch.library.opcheck(all_pairs_product, (torch.rand(1, 2, 9, dtype=torch.float64), scaled, mask))


def test_matrix_products_keep_float32() -> None:
    scaled, mask = features(dtype=torch.float32)
    probs = torch.rand(2, 3, 63)
    expected = all_pairs_product(probs, scaled, mask)[0]
    torch.set_float32_matmul_precision("medium")
    with torch.autocast("cpu", torch.bfloat16):
        actual = all_pairs_product(probs, scaled, mask)[0]
    assert torch.get_float32_matmul_precision() == "medium"
    torch.set_float32_matmul_precision("highest")
    assert torch.equal(actual, expected)
