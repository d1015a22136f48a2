"""What a training step costs, counted without running it."""

from copy import deepcopy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def step_flops(network: nn.Module, batch: int, crop: int) -> float:
    """Return the floating-point operations of one training step: forward and backward.

    Convolutions and matrix products are counted, a multiply-add as two operations; normalization, resizing and the
    losses are little beside them.

    Args:
        network: Maps images, (N, 3, H, W), to logits; left as it is.
        batch: N.
        crop: H and W, pixels.
    """
    shadow = deepcopy(network).to("meta").train()  # shapes without values
    with FlopCounterMode(display=False) as counter:
        shadow(torch.empty(batch, 3, crop, crop, device="meta")).sum().backward()
    return float(counter.get_total_flops())
