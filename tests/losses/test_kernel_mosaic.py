"""Pictures of the kernels."""

import numpy as np
import pytest
import torch

from losses import GatedCRFLoss, GaussianKernel

KERNELS = [
    GaussianKernel({"rgb": 0.7, "xy": 3.0}, weight=2.0),
    GaussianKernel({"xy": 1.5}, weight=0.5),
    GaussianKernel({"depth": 1.1}),
]


def test_mosaic_is_the_mixture_around_each_anchor() -> None:
    """Eqs. 1 and 2 as loops, relative to the sum of the weights. The last rows and columns fill no window."""
    torch.manual_seed(0)
    rgb, depth = torch.rand(2, 3, 8, 11), torch.rand(2, 1, 8, 11)
    drawn = GatedCRFLoss(KERNELS, radius=1).draw_kernels({"rgb": rgb, "depth": depth}, (8, 11))
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
