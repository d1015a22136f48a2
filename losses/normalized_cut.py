"""Normalized cut and kernel cut, Tang et al., "Normalized Cut Loss for Weakly-supervised CNN Segmentation", CVPR 2018.

With S_k = K y_k and the degrees d = K 1, the normalized cut of class k is 1 - (y_k . S_k) / (d . y_k).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from losses.all_pairs_loss import AllPairsLoss
from losses.dense_crf import crf_energies
from losses.global_batch import global_mean, sum_over_processes
from losses.kernels import GaussianKernel


class NormalizedCutLoss(AllPairsLoss):
    """Normalized cut, the sum over classes of cut(k, rest) / assoc(k, image), a number between 0 and C.

    A class whose probability is 0 everywhere, and an image without any pixel in the region of interest, contribute 0
    and get no gradient. The loss is the mean over the images of all processes. It is computed in float32 or wider, also
    under autocast, and differentiable once, in the predictions. With S_k and d as in the module's docstring, the
    gradient of class k is (y_k . S_k) d / (d . y_k)^2 - 2 S_k / (d . y_k).

    Args:
        kernel: See :class:`AllPairsLoss`, also for ``scale``.
        crf_weight: Weight of the dense CRF energy of :class:`DenseCRFLoss`, which is added: the kernel cut.
    """

    def __init__(self, kernel: GaussianKernel | None = None, scale: float = 1.0, crf_weight: float = 0.0) -> None:
        super().__init__(kernel, scale)
        self.crf_weight = crf_weight

    def forward(
        self,
        probs: Tensor,
        features: Mapping[str, Tensor],
        source: Tensor | None = None,
        destination: Tensor | None = None,
        count: Tensor | None = None,
    ) -> Tensor:
        """Return the scalar loss. The arguments are those of :meth:`DenseCRFLoss.forward`."""
        with torch.autocast(probs.device.type, enabled=False):
            energies, degrees, y, mask = self.energies(probs, features, source)
            volumes = torch.einsum("ncp,np->nc", y, degrees)  # degrees are 0 outside the mask
            present = volumes > 0
            shares = energies / torch.where(present, volumes, 1)
            cuts = torch.where(present, 1 - shares, 0).sum(1)
            if self.crf_weight:
                cuts = cuts + self.crf_weight * crf_energies(energies, degrees, mask)
            if count is None:
                count = sum_over_processes(self.count(probs, features))
            return global_mean(cuts.sum(), count.sum())
