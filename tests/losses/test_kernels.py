"""Kernels, their mixture, its picture, and the radius for a tolerated loss of signal."""

import numpy as np
import pytest
import torch

from losses import GatedCRFLoss, GaussianKernel, radius_for
from losses.kernels import Mixture, mix


def test_default_is_the_kernel_of_the_paper() -> None:
    kernel = GaussianKernel()
    assert (kernel.sigma, kernel.weight) == ({"rgb": 0.1, "xy": 6.0}, 1.0)
    assert kernel.modalities == ["rgb"]


def test_distance_is_half_the_square_in_bandwidths() -> None:
    assert GaussianKernel({"xy": 5.0}).at_distance(3, -4) == pytest.approx(0.5)
    assert GaussianKernel({"rgb": 5.0}).at_distance(3, -4) == 0


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_bandwidth_that_is_not_positive_is_refused(sigma: float) -> None:
    with pytest.raises(ValueError, match=rf"sigma\['xy'\] is {sigma}.*must be positive"):
        GaussianKernel({"rgb": 0.1, "xy": sigma})


def test_kernel_without_a_bandwidth_is_refused() -> None:
    with pytest.raises(ValueError, match=r"give a bandwidth, for example sigma=\{'rgb'"):
        GaussianKernel({})


def test_mixture_holds_half_the_inverse_squares_of_the_bandwidths() -> None:
    kernels = [GaussianKernel({"xy": 2.0, "depth": 0.5, "rgb": 0.1}), GaussianKernel({"depth": 1.0}, -0.5)]
    mixture = mix(kernels, {"rgb": 3, "depth": 1, "lidar": 2})
    assert mixture.weights == [1.0, -0.5]
    assert mixture.spatial == pytest.approx([1 / 8, 0])
    assert mixture.precisions == pytest.approx([50, 2, 0, 0, 0.5, 0])
    assert mixture.widths == [3, 1, 2]


def test_mixture_of_position_alone_has_no_modality() -> None:
    mixture = mix([GaussianKernel({"xy": 1.0}, 2.0), GaussianKernel({"xy": 0.5})], {})
    assert mixture == Mixture([2.0, 1.0], [0.5, 2.0], [], [])
    assert list(mixture.terms()) == [(2.0, 0.5, []), (1.0, 2.0, [])]


@pytest.mark.parametrize(
    ("second", "channels"),
    [
        ({"depth": 1.0}, [(3, 0.5)]),
        ({"rgb": 1.0, "depth": 0.5}, [(0, 0.5), (1, 0.5), (2, 0.5), (3, 2.0)]),
        ({"lidar": 1.0, "xy": 1.0}, [(4, 0.5), (5, 0.5)]),
        ({"xy": 1.0}, []),
    ],
    ids=["other modality", "shared modality", "last modality", "position"],
)
def test_terms_name_the_channels_that_a_kernel_reads(
    second: dict[str, float], channels: list[tuple[int, float]]
) -> None:
    kernels = [GaussianKernel({"rgb": 0.5, "xy": 2.0}, 0.7), GaussianKernel(second)]
    first, other = mix(kernels, {"rgb": 3, "depth": 1, "lidar": 2}).terms()
    assert first == (0.7, 1 / 8, [(0, 2.0), (1, 2.0), (2, 2.0)])
    assert other == (1.0, 0.5 if "xy" in second else 0.0, channels)


def lost(kernels: list[GaussianKernel], radius: int) -> float:
    """Return the share of sum_b |K_ab| outside of the window, on a grid of 241 x 241 pixels."""
    at = torch.arange(-120, 121).double()
    squares = at[:, None] ** 2 + at**2
    signal = sum(abs(k.weight) * torch.exp(-squares / (2 * k.sigma["xy"] ** 2)) for k in kernels)
    outside = torch.maximum(at[:, None].abs(), at.abs()) > radius
    return (signal[outside].sum() / signal[squares > 0].sum()).item()


@pytest.mark.parametrize("epsilon", [0.9, 0.59, 0.3, 0.05, 0.01, 1e-6])
@pytest.mark.parametrize(
    "kernels",
    [
        [GaussianKernel()],
        [GaussianKernel({"xy": 0.3})],
        [GaussianKernel({"xy": 10.0}, -2.0)],
        [GaussianKernel({"xy": 8.0, "rgb": 1.0}, 0.2), GaussianKernel({"xy": 1.0, "depth": 1.0}, -3.0)],
    ],
    ids=["paper", "narrow", "wide", "two"],
)
def test_radius_is_the_smallest_that_loses_at_most_epsilon(kernels: list[GaussianKernel], epsilon: float) -> None:
    radius = radius_for(kernels, epsilon)
    assert lost(kernels, radius) <= epsilon
    assert radius == 1 or lost(kernels, radius - 1) > epsilon


@pytest.mark.parametrize("kernel", [GaussianKernel({"xy": 0.01}), GaussianKernel(weight=0.0)])
def test_kernel_without_a_signal_has_radius_1(kernel: GaussianKernel) -> None:
    assert radius_for([kernel], 0.05) == 1


def test_signal_lost_by_the_paper_is_as_documented() -> None:
    assert lost([GaussianKernel()], 5) == pytest.approx(0.59, abs=0.005)
    assert lost([GaussianKernel()], 16) == pytest.approx(0.01, abs=0.005)


def test_less_loss_needs_no_smaller_radius() -> None:
    radii = [radius_for([GaussianKernel()], epsilon / 100) for epsilon in range(1, 100)]
    assert radii == sorted(radii, reverse=True)
    assert len(set(radii)) > 10


@pytest.mark.parametrize("epsilon", [0.0, 1.0, -0.1, 5.0, float("nan")])
def test_epsilon_outside_of_0_to_1_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match=rf"epsilon is {epsilon}.*between 0 and 1"):
        radius_for([GaussianKernel()], epsilon)
    with pytest.raises(ValueError, match=rf"epsilon is {epsilon}.*between 0 and 1"):
        GatedCRFLoss(epsilon=epsilon)


def test_kernel_that_does_not_decay_has_no_radius() -> None:
    kernels = [GaussianKernel(), GaussianKernel({"depth": 0.5})]
    with pytest.raises(ValueError, match=r"'depth': 0\.5.*no bandwidth for 'xy'.*pass radius"):
        radius_for(kernels, 0.05)


@pytest.mark.parametrize("epsilon", [0.5, 0.05])
def test_loss_takes_the_radius_of_epsilon(epsilon: float) -> None:
    kernels = [GaussianKernel({"rgb": 0.1, "xy": 3.0})]
    assert GatedCRFLoss(kernels, epsilon=epsilon).radius == radius_for(kernels, epsilon)
    assert (GatedCRFLoss(kernels).radius, GatedCRFLoss(kernels, 7).radius) == (5, 7)


@pytest.mark.parametrize(
    ("sigma", "weight", "message"),
    [
        (1e200, 1.0, r"sigma\['rgb'\] is 1e\+200; .* finite"),
        (1e-25, 1.0, r"sigma\['rgb'\] is 1e-25; .* positive"),
        (0.1, float("nan"), "weight is nan; .* finite"),
        (0.1, float("inf"), "weight is inf; .* finite"),
    ],
)
def test_numbers_beyond_float32_are_refused(sigma: float, weight: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GaussianKernel({"rgb": sigma}, weight)


MOSAIC = [
    GaussianKernel({"rgb": 0.7, "xy": 3.0}, weight=2.0),
    GaussianKernel({"xy": 1.5}, weight=0.5),
    GaussianKernel({"depth": 1.1}),
]


def test_mosaic_is_the_mixture_around_each_anchor() -> None:
    """Eqs. 1 and 2 as loops, relative to the sum of the weights. Incomplete windows at the border are dropped."""
    torch.manual_seed(0)
    rgb, depth = torch.rand(2, 3, 8, 11), torch.rand(2, 1, 8, 11)
    drawn = GatedCRFLoss(MOSAIC, radius=1).draw_kernels({"rgb": rgb, "depth": depth}, (8, 11))
    assert drawn.shape == (2, 6, 9)
    for n, y, x in np.ndindex(2, 6, 9):
        v, u = y // 3 * 3 + 1, x // 3 * 3 + 1
        space = (y - v) ** 2 + (x - u) ** 2
        color = ((rgb[n, :, y, x] - rgb[n, :, v, u]) ** 2).sum().item()
        deep = ((depth[n, :, y, x] - depth[n, :, v, u]) ** 2).sum().item()
        value = 2 * np.exp(-color / (2 * 0.7**2) - space / (2 * 3**2))
        value += 0.5 * np.exp(-space / (2 * 1.5**2)) + np.exp(-deep / (2 * 1.1**2))
        assert drawn[n, y, x].item() == pytest.approx(value / 3.5, rel=1e-5)


def test_features_are_pooled_to_the_grid() -> None:
    image = torch.rand(1, 3, 24, 36)
    loss, pooled = GatedCRFLoss(radius=1), torch.nn.functional.avg_pool2d(image, 4)
    small = loss.draw_kernels({"rgb": pooled}, (6, 9))
    torch.testing.assert_close(loss.draw_kernels({"rgb": image}, (6, 9)), small)


def test_kernel_of_space_alone_needs_a_map_for_its_size() -> None:
    drawn = GatedCRFLoss([GaussianKernel({"xy": 1.0})], radius=1).draw_kernels({"rgb": torch.rand(1, 3, 3, 3)}, (3, 3))
    assert drawn[0, 1].tolist() == pytest.approx([np.exp(-0.5), 1, np.exp(-0.5)])
