"""Losses for weakly supervised segmentation: tensors in, a scalar out.

Pairwise losses share one operator. With symmetric weights w_ab, S_a = sum_b w_ab y_b gives the energy and its gradient:
the Potts model has L = 1/2 (sum_ab w_ab - sum_a y_a . S_a) and dL/dy_a = -S_a. The Gated CRF restricts b to a window
around a; the dense CRF and the normalized cut sum over all pairs.

:mod:`losses.engines` computes S = W y, :mod:`losses.autograd` turns it into energies (Eqs. 9 and 11), and
:mod:`losses.gated_crf` is the module for training. Eqs. 6 to 9 and 11 are written out in :mod:`losses.engines.tensor`,
the reference.
"""

from losses.dense_crf import DenseCRFLoss
from losses.gated_crf import GatedCRFLoss, gated_crf_loss
from losses.kernels import GaussianKernel, radius_for
from losses.normalized_cut import NormalizedCutLoss
from losses.partial_cross_entropy import PartialCrossEntropyLoss
from losses.whats_the_point import WhatsThePointLoss

__all__ = [
    "DenseCRFLoss",
    "GatedCRFLoss",
    "GaussianKernel",
    "NormalizedCutLoss",
    "PartialCrossEntropyLoss",
    "WhatsThePointLoss",
    "gated_crf_loss",
    "radius_for",
]
