"""The dense CRF loss, Tang et al., "On Regularized Losses for Weakly-supervised CNN Segmentation", ECCV 2018."""

from collections.abc import Mapping

import torch
from torch import Tensor

from losses.all_pairs_loss import AllPairsLoss
from losses.global_batch import global_mean, sum_over_processes
from losses.kernels import GaussianKernel


class DenseCRFLoss(AllPairsLoss):
    """Potts energy sum_ab K_ab (1 - y_a . y_b) over all pairs of pixels of an image, divided by their number.

    It is at least 0, and 0 for a constant one-hot prediction. Dividing by the number of pairs makes it independent of
    the resolution. The published loss, -w sum_ab K_ab y_a . y_b, differs by a factor and by a constant, as the
    probabilities sum to 1. Its weight becomes the ``regularizer_weight`` w P^2 for P pixels: the w = 2e-9 of the
    authors' PyTorch code, on 257 x 257 pixels, becomes 8.7. There, the cross-entropy is divided by the batch size once
    more, which multiplies the weight relative to a mean cross-entropy by 12. A weight counts more on smaller crops, of
    which the same bandwidth covers more.

    The loss is the mean over the images of all processes. It is computed in float32 or wider, also under autocast, and
    differentiable once, in the predictions. In float32 its rounding error is 1e-7 of the mean of K, and so may exceed
    the loss of nearly constant one-hot predictions; that of the gradient is 1e-6 of the gradient.

    Args:
        kernel: See :class:`AllPairsLoss`, also for ``scale``.
        constant: Add the constant sum_ab K_ab. Without it, the loss is negative, as published.
    """

    def __init__(self, kernel: GaussianKernel | None = None, scale: float = 1.0, constant: bool = True) -> None:
        super().__init__(kernel, scale)
        self.constant = constant

    def forward(
        self,
        probs: Tensor,
        features: Mapping[str, Tensor],
        source: Tensor | None = None,
        destination: Tensor | None = None,
        count: Tensor | None = None,
    ) -> Tensor:
        """Return the scalar loss.

        Args:
            probs: y, class probabilities, float (N, C, h, w).
            features: Feature maps by modality, float (N, D, H, W), {"rgb": standardized image}. Larger maps are
                average-pooled to the size of ``probs``.
            source: Region of interest, bool (N, H, W): pairs with a pixel outside do not count. ``None`` is the whole
                image. An image without any pixel inside has the energy 0.
            destination: Not used.
            count: The sum of :meth:`count` over all processes. ``None`` computes it here.
        """
        with torch.autocast(probs.device.type, enabled=False):
            energies, degrees, _, mask = self.energies(probs, features, source)
            if count is None:
                count = sum_over_processes(self.count(probs, features))
            return global_mean(crf_energies(energies, degrees, mask, self.constant).sum(), count.sum())


def crf_energies(energies: Tensor, degrees: Tensor, mask: Tensor, constant: bool = True) -> Tensor:
    """Return the energy of each image, (N,), from those of its classes, (N, C), its degrees and its mask, (N, P)."""
    total = degrees.sum(1) if constant else torch.zeros_like(energies[:, 0])
    return (total - energies.sum(1)) / mask.sum(1).clamp(min=1) ** 2
