"""The exported model equals the model."""

import pytest
import torch
from timm.layers.pool2d_same import AvgPool2dSame
from torch import Tensor, nn

from lightning_modules.exported import ExportedModel
from lightning_modules.weak_segmentation import WeakSegmentation

POOLS = {
    "max": nn.MaxPool2d(3, 2, 1),
    "average": nn.AvgPool2d(3, 3),
    "halves": nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False),
    "same size": AvgPool2dSame(2, 1, ceil_mode=True, count_include_pad=False),
    "no stride": nn.MaxPool2d(3, 1, 1),
}


def image(*size: int) -> Tensor:
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(sum(size)))


@pytest.mark.parametrize("size", [(2, 3, 32, 48), (1, 3, 37, 50), (1, 3, 38, 51)])
@pytest.mark.parametrize("pool", POOLS)
def test_pooling_without_strides_equals_pooling(pool: str, size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), POOLS[pool], nn.Conv2d(4, 2, 1))
    model = WeakSegmentation(network, nn.Identity(), ["a", "b"], mean=[1, 2, 3], std=[4, 5, 6]).eval()
    torch.testing.assert_close(ExportedModel(model)(image(*size)), model(image(*size)))
    assert network[1] is POOLS[pool]  # the model itself is unchanged
