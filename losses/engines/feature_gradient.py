"""The gradient of the energy with respect to the features, for learned features, by shifted slices on any device."""

from torch import Tensor

from losses.engines.shifted import kernels_between, pairs
from losses.kernels import Mixture


def feature_gradient(
    probs: Tensor,
    values: Tensor,
    transposed: Tensor,
    features: Tensor,
    source: Tensor,
    destination: Tensor,
    mixture: Mixture,
    radius: int,
    constant: int,
) -> Tensor:
    """Return dPsi/df for Psi = sum_ab G_ab K_ab e_ab with e_ab = probs_a . values_b + constant.

    Each pair moves its two ends in opposite directions: dPsi/df_a = -sum over p and b of
    2 precision (f_a - f_b) w_p k_p(f_a, f_b) (G_ab e_ab + G_ba e_ba).

    Args:
        probs: Float (N, C, H, W).
        values: mu y, (N, C, H, W).
        transposed: mu^T y, (N, C, H, W), so that e_ba = probs_b . values_a = probs_a . transposed_b + constant.
        features: (N, D, H, W).
        source: m^src, bool (N, H, W).
        destination: m^dst, likewise.
        mixture: The kernels K.
        radius: r, pixels.
        constant: 1 for the Potts model, where values are -y.

    Returns:
        (N, D, H, W).
    """
    src, dst = (gate.unsqueeze(1).to(probs.dtype) for gate in (source, destination))
    gradient = features.new_zeros(features.shape)
    for dy, dx, a, b in pairs(radius, *probs.shape[-2:]):
        forward = (probs[a] * values[b]).sum(1, keepdim=True).add_(constant).mul_(dst[a]).mul_(src[b])
        backward = (probs[a] * transposed[b]).sum(1, keepdim=True).add_(constant).mul_(dst[b]).mul_(src[a])
        energy = forward.add_(backward)
        for kernel, channels in kernels_between(features, mixture, dy, dx, a, b):
            pull = kernel * energy
            for channel, precision in channels:
                f, g = features[:, channel : channel + 1], gradient[:, channel : channel + 1]
                step = (f[a] - f[b]).mul_(pull).mul_(2 * precision)
                g[a].sub_(step)
                g[b].add_(step)
    return gradient
