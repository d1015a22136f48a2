"""The model as it is exported: standardization, network and probabilities at the size of the image."""

from copy import deepcopy

import torch.nn.functional as F
from timm.layers.pool2d_same import AvgPool2dSame
from torch import Tensor, nn

from lightning_modules.inference import resize
from lightning_modules.weak_segmentation import WeakSegmentation


class ExportedModel(nn.Module):
    """Maps RGB images, uint8 (N, 3, H, W), to class probabilities, float32 (N, C, H, W), in one pass.

    Args:
        model: A trained model. Its inference of several passes is not exported.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: WeakSegmentation) -> None:
        super().__init__()
        self.network = _with_any_size(model.network)
        self.register_buffer("mean", model.get_buffer("mean"))
        self.register_buffer("std", model.get_buffer("std"))
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """Return the probabilities."""
        logits = self.network((image.float() - self.mean) / self.std)
        return resize(logits.float(), image.shape[-2:]).softmax(dim=1)


class _StridedPool(nn.Module):
    """A pooling layer with a stride, as one without a stride and a convolution that drops the outputs between.

    torch.export fixes whether the input of a strided pooling layer has an odd size, and cannot save strided slices.
    """

    def __init__(self, pool: nn.MaxPool2d | nn.AvgPool2d) -> None:
        super().__init__()
        self.stride, self.start = pool.stride, 0
        self.pool = deepcopy(pool)
        self.pool.stride = 1
        if pool.ceil_mode:  # an incomplete window of two rows at the end has one row of the padding
            self.pool.padding, self.pool.ceil_mode, self.start = 1, False, 1

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H', W')."""
        pooled = self.pool(x)[..., self.start :, self.start :]
        channels = pooled.shape[1]
        return F.conv2d(pooled, pooled.new_ones(channels, 1, 1, 1), stride=self.stride, groups=channels)


def _with_any_size(network: nn.Module) -> nn.Module:
    """Return a copy of a network without pooling layers that torch.export cannot trace or save for any size."""
    network = deepcopy(network)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, AvgPool2dSame) and child.stride == (1, 1):
                setattr(module, name, _padded(child))
            elif isinstance(child, (nn.MaxPool2d, nn.AvgPool2d)) and _is_strided(child):
                setattr(module, name, _StridedPool(child))
    return network


def _padded(pool: nn.AvgPool2d) -> nn.Sequential:
    """Return timm's pooling to the same size, which rounds symbols to float, with a constant padding."""
    height, width = (side - 1 for side in pool.kernel_size)  # type: ignore[union-attr]
    padding = nn.ZeroPad2d((width // 2, width - width // 2, height // 2, height - height // 2))
    return nn.Sequential(padding, nn.AvgPool2d(pool.kernel_size, 1))


def _is_strided(pool: nn.MaxPool2d | nn.AvgPool2d) -> bool:
    halves = isinstance(pool, nn.AvgPool2d) and not pool.count_include_pad
    halves &= (pool.kernel_size, pool.stride, pool.padding) == (2, 2, 0)
    return isinstance(pool.stride, int) and pool.stride > 1 and (not pool.ceil_mode or halves)
