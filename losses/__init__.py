"""Losses of weakly supervised segmentation: tensors in, a scalar out."""

from losses.gated_crf import GatedCRFLoss, gated_crf_loss
from losses.kernels import GaussianKernel, radius_for
from losses.partial_cross_entropy import PartialCrossEntropyLoss

__all__ = ["GatedCRFLoss", "GaussianKernel", "PartialCrossEntropyLoss", "gated_crf_loss", "radius_for"]
