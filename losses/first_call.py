"""A warning at the first call of a loss about values in other units than expected."""

import warnings
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from losses.checks import describe_probs
from losses.kernels import GaussianKernel

TOLERANCE = 0.05  # of sums over classes; half precision rounds 21 of them to within 0.02
GRAY_LEVELS, BANDWIDTHS = 255, 200  # an 8-bit image whose range is this many bandwidths was not standardized


class FirstCall:
    """Looks at the values of the first call of a loss. Looking at later ones would wait for the GPU in every step.

    Nothing is looked at while the loss is compiled or captured in a CUDA graph.
    """

    def __init__(self) -> None:
        self._pending = True

    def check_pairwise(
        self,
        probs: Tensor,
        maps: Mapping[str, Tensor],
        kernels: Sequence[GaussianKernel],
        source: Tensor,
        destination: Tensor,
    ) -> None:
        """Warn if predictions are not probabilities at open gates, or if an image is not in units of its bandwidth.

        Args:
            probs: Float (N, C, H, W).
            maps: Feature maps, float (N, D, H, W).
            kernels: The mixture K.
            source: m^src, bool (N, H, W).
            destination: m^dst, bool (N, H, W).
        """
        if self._looks(probs):
            sums, lowest = probs.detach().float().sum(1), probs.detach().amin(1)
            if (((sums - 1).abs().gt(TOLERANCE) | lowest.lt(-TOLERANCE)) & (source | destination)).any():
                warnings.warn(describe_probs(probs.detach()), stacklevel=2)
            for message in _unstandardized(maps, kernels):
                warnings.warn(message, stacklevel=2)

    def check_logits(self, logits: Tensor) -> None:
        """Warn if logits, float (N, C, H, W), are probabilities."""
        if self._looks(logits) and logits.shape[1] > 1 and logits.numel():
            values = logits.detach().float()
            if values.amin() >= 0 and (values.sum(1) - 1).abs().amax() <= TOLERANCE:
                warnings.warn("logits sum to 1 over classes; pass logits, without a softmax.", stacklevel=2)

    def _looks(self, x: Tensor) -> bool:
        if torch.compiler.is_compiling() or not self._pending:
            return False
        if x.is_cuda and torch.cuda.is_current_stream_capturing():
            return False
        self._pending = False
        return True


def _unstandardized(maps: Mapping[str, Tensor], kernels: Sequence[GaussianKernel]) -> Iterator[str]:
    for name, x in maps.items():
        sigma = min((kernel.sigma[name] for kernel in kernels if name in kernel.sigma), default=None)
        if sigma is not None and x.shape[1] == 3:
            low, high = (value.item() for value in x.detach().aminmax())
            if low >= 0 and high <= GRAY_LEVELS and high - low > BANDWIDTHS * sigma:
                yield (
                    f"features[{name!r}] lies in [{low:.4g}, {high:.4g}], but its bandwidth is {sigma:g}; standardize "
                    f"the image as for the network, or give the bandwidth in gray levels."
                )
