"""IoU from a confusion matrix."""

import torch
from torch import Tensor


def iou_per_class(confusion: Tensor) -> Tensor:
    """Return TP / (TP + FP + FN) of each class over everything counted.

    Args:
        confusion: Integer (C, C), rows are the truth.

    Returns:
        Float (C,); NaN for a class that is neither in the truth nor predicted.
    """
    hits = confusion.diagonal().double()
    union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    return torch.where(union > 0, hits / union, torch.nan).float()
