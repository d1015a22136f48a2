"""The kernel mixture and the window."""

import pytest
import torch

from losses import GaussianKernel
from losses.affinity import half_window


@pytest.mark.parametrize("radius", [1, 2, 5])
def test_half_window_and_its_mirror_image_are_the_window_without_its_center(radius: int) -> None:
    half = list(half_window(radius))
    mirror = [(-dy, -dx) for dy, dx in half]
    side = range(-radius, radius + 1)
    assert sorted(half + mirror) == sorted((dy, dx) for dy in side for dx in side if (dy, dx) != (0, 0))


def test_default_is_the_kernel_of_the_paper() -> None:
    kernel = GaussianKernel()
    assert (kernel.sigma, kernel.weight) == ({"rgb": 0.1, "xy": 6.0}, 1.0)
    assert kernel.modalities == ["rgb"]


def test_scale_divides_each_modality_by_its_bandwidth() -> None:
    rgb, depth = torch.rand(2, 3, 4, 5), torch.rand(2, 1, 4, 5)
    scaled = GaussianKernel({"depth": 0.5, "xy": 6.0, "rgb": 0.1}).scale({"rgb": rgb, "depth": depth})
    torch.testing.assert_close(scaled, torch.cat([2 * depth, 10 * rgb], dim=1))
    assert GaussianKernel({"xy": 6.0}).scale({}) is None


def test_distance_is_half_the_square_in_bandwidths() -> None:
    assert GaussianKernel({"xy": 5.0}).at_distance(3, -4) == pytest.approx(0.5)
    assert GaussianKernel({"rgb": 5.0}).at_distance(3, -4) == 0


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_bandwidth_that_is_not_positive_is_refused(sigma: float) -> None:
    with pytest.raises(ValueError, match=rf"sigma\['xy'\] is {sigma}"):
        GaussianKernel({"rgb": 0.1, "xy": sigma})


def test_kernel_without_a_bandwidth_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one bandwidth"):
        GaussianKernel({})
