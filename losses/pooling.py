"""Feature maps and masks at the size of the predictions."""

import torch
import torch.nn.functional as F
from torch import Tensor


def pool(feature: Tensor, size: torch.Size) -> Tensor:
    """Average a feature map, (N, D, H', W'), over the cells of a grid of ``size`` (H, W)."""
    return feature if feature.shape[-2:] == size else F.adaptive_avg_pool2d(feature, (size[0], size[1]))


def pool_gate(mask: Tensor | None, probs: Tensor) -> Tensor:
    """Pool a bool mask, (N, H', W'), to the grid of ``probs``: a cell is set if all its pixels are."""
    n, _, height, width = probs.shape
    if mask is None:
        return torch.ones(n, height, width, dtype=torch.bool, device=probs.device)
    if mask.shape[-2:] == probs.shape[-2:]:
        return mask.clone()  # the caller may change the mask before the backward pass
    if mask.shape[-2] % height == 0 and mask.shape[-1] % width == 0:  # needs no float copy of the mask
        return mask.reshape(n, height, mask.shape[-2] // height, width, -1).all(-1).all(2)
    return F.adaptive_max_pool2d((~mask).unsqueeze(1).float(), (height, width)).squeeze(1) == 0
