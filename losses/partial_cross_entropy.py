"""Partial cross-entropy, Sec. 3."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PartialCrossEntropyLoss(nn.Module):
    """Mean cross-entropy over the labeled pixels of a batch, L_CE of Sec. 3.

    A batch, or a distributed shard, without a label gives 0 with zero gradients, never NaN. With several devices the
    mean is over the labels of each device, and DDP averages the devices.

    Args:
        class_weights: (C,), non-negative; the mean is then the weighted mean. ``None`` is uniform.
        ignore_index: Target value of pixels without a label.

    Raises:
        ValueError: A negative weight.
    """

    class_weights: Tensor | None

    def __init__(self, class_weights: Sequence[float] | Tensor | None = None, ignore_index: int = 255) -> None:
        super().__init__()
        weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.get_default_dtype())
        if weights is not None and (weights < 0).any():
            raise ValueError(f"class_weights are {weights.tolist()}; a weight must not be negative.")
        self.register_buffer("class_weights", weights)
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss.

        Args:
            logits: Float (N, C, H, W).
            target: Integer (N, H, W), class index or ``ignore_index``.
        """
        target = target.long()
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # half precision cannot count the pixels
        weight = None if self.class_weights is None else self.class_weights.to(logits)
        total = F.cross_entropy(logits, target, weight, ignore_index=self.ignore_index, reduction="sum")
        labeled = target[target != self.ignore_index]
        count = total.new_tensor(labeled.numel()) if weight is None else weight[labeled].sum()
        return total / torch.where(count > 0, count, 1)
