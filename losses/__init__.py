"""Losses of weakly supervised segmentation: tensors in, a scalar out."""

from losses.affinity import GaussianKernel
from losses.gated_crf import GatedCRFLoss
from losses.partial_cross_entropy import PartialCrossEntropyLoss

__all__ = ["GatedCRFLoss", "GaussianKernel", "PartialCrossEntropyLoss"]
