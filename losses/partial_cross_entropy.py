"""Partial cross-entropy, Sec. 3, and its class weights."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from losses.errors import ArgumentError
from losses.first_call import FirstCall
from losses.global_batch import global_mean, sum_over_processes


class PartialCrossEntropyLoss(nn.Module):
    """Mean cross-entropy over the labeled pixels of a batch, L_CE of Sec. 3.

    The batch is that of all processes, see :func:`losses.global_batch.global_mean`. A batch without labels gives 0 with
    zero gradients, never NaN.

    Args:
        class_weights: Weights of the weighted mean, (C,), non-negative. ``None`` is uniform. "batch" gives a class with
            a fraction p of the labels in the batch the weight 1 / ln(1.1 + p), as the paper does for clicks on
            Cityscapes. "dataset" takes p from all training labels, as the authors' code can.
        ignore_index: Target value of unlabeled pixels.

    Raises:
        ArgumentError: If a weight is negative, or ``class_weights`` is a different string.
    """

    class_weights: Tensor | None

    def __init__(self, class_weights: Sequence[float] | Tensor | str | None = None, ignore_index: int = 255) -> None:
        super().__init__()
        if isinstance(class_weights, str) and class_weights not in ("batch", "dataset"):
            raise ArgumentError(f"class_weights is {class_weights!r}; give numbers, or one of batch, dataset.")
        self.balance, weights = class_weights if isinstance(class_weights, str) else None, None
        if class_weights is not None and self.balance is None:
            weights = torch.as_tensor(class_weights, dtype=torch.get_default_dtype())
            if (weights < 0).any():
                raise ArgumentError(f"class_weights are {weights.tolist()}; a weight must not be negative.")
        self.register_buffer("class_weights", weights, persistent=self.balance is None)
        self.needs_histogram = self.balance == "dataset"  # set_histogram must be called before the first step
        self.ignore_index = ignore_index
        self.first_call = FirstCall()

    def set_histogram(self, counts: Sequence[int]) -> None:
        """Set the class weights from the number of labels of each class in the dataset, (C,)."""
        self.class_weights = frequency_weights(torch.as_tensor(counts))

    def forward(self, logits: Tensor, target: Tensor, count: Tensor | None = None) -> Tensor:
        """Return the scalar loss.

        Args:
            logits: Float (N, C, H, W).
            target: Integer (N, H, W), class index or ``ignore_index``.
            count: The sum of :meth:`count` over all processes. ``None`` computes it here.

        Raises:
            ArgumentError: If :attr:`needs_histogram` and :meth:`set_histogram` was not called.
        """
        self.first_call.check_logits(logits)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # sums overflow half precision
        count = sum_over_processes(self.count(logits, target)) if count is None else count
        weight = self._weight(count, logits)
        total = F.cross_entropy(logits, target.long(), weight, ignore_index=self.ignore_index, reduction="sum")
        return global_mean(total, count.sum() if weight is None else (weight * count).sum())

    def count(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the number of labels in ``target``, int64 (1,), or with class weights that of each class, (C,)."""
        if self.balance is None and self.class_weights is None:
            return (target != self.ignore_index).sum().view(1)
        classes = torch.arange(logits.shape[1], device=target.device).view(-1, 1, 1, 1)
        return (target == classes).flatten(1).sum(1)  # torch.bincount would wait for the GPU

    def _weight(self, count: Tensor, logits: Tensor) -> Tensor | None:
        if self.balance == "batch":
            return frequency_weights(count).to(logits)
        if self.needs_histogram and self.class_weights is None:
            raise ArgumentError("class_weights='dataset' needs the labels of the dataset; call set_histogram first.")
        return None if self.class_weights is None else self.class_weights.to(logits)


def frequency_weights(counts: Tensor) -> Tensor:
    """Return 1 / ln(1.1 + p) for each class, Sec. 6.4, where p is its fraction of all labels.

    Args:
        counts: Number of labels of each class, (C,). Without any label, the weights are uniform.
    """
    return 1 / torch.log(1.1 + counts / counts.sum().clamp(min=1))
