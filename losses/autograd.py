"""The differentiable operator S = W y: pairwise energies and their gradients, Eqs. 5, 9 and 11."""

from typing import Any

import torch
from torch import Tensor

from losses.engines import FILTERS
from losses.engines.shifted import feature_gradient
from losses.kernels import Mixture, Neighborhood


def pairwise_energy(
    probs: Tensor, neighborhood: Neighborhood, compatibility: Tensor | None, symmetric: bool, engine: str
) -> Tensor:
    """Return Psi of Eq. 5, a scalar, differentiable once in ``probs`` and in the features of ``neighborhood``.

    Args:
        probs: y, float (N, C, H, W). Half precision is computed in float32.
        neighborhood: The pairs of pixels; features in float32 or wider.
        compatibility: mu, (C, C), float32 or wider. ``None`` is the Potts model.
        symmetric: Whether mu is symmetric.
        engine: A key of ``FILTERS``.
    """
    if engine != "fused":
        probs = probs.to(torch.promote_types(probs.dtype, torch.float32))
    features, source, destination, mixture, radius, _ = neighborhood
    energy: Tensor = _PairwiseEnergy.apply(  # type: ignore[no-untyped-call]
        probs, features, source, destination, compatibility, *mixture, radius, symmetric, engine
    )
    return energy


@torch.library.custom_op("gated_crf::energy_and_gradient", mutates_args=())
def energy_and_gradient(
    probs: Tensor,
    features: Tensor,
    source: Tensor,
    destination: Tensor,
    compatibility: Tensor | None,
    weights: list[float],
    spatial: list[float],
    precisions: list[float],
    widths: list[int],
    radius: int,
    symmetric: bool,
    engine: str,
) -> tuple[Tensor, Tensor]:
    """Return Psi of Eq. 5 and its gradient with respect to ``probs``.

    For symmetric mu, S = W mu y gives Psi = 1/2 sum_a y_a . S_a, which equals Eq. 9, and dPsi/dy = S. For an
    asymmetric mu, the contribution of its antisymmetric part is computed in the same way, with weights
    K_ab (G_ab - G_ba), and added.
    """
    radius = min(radius, max(1, *probs.shape[-2:]))  # a window beyond the image costs time and memory
    mixture = Mixture(weights, spatial, precisions, widths)
    pairs, gated_filter = Neighborhood(features, source, destination, mixture, radius), FILTERS[engine]
    if compatibility is None:  # Eq. 11: with S = W y, Psi = 1/2 sum_ab w_ab (1 - y_a . y_b) and dPsi/dy = -S
        repelling = pairs._replace(mixture=mixture._replace(weights=[-weight for weight in weights]))
        gradient, energy = gated_filter(probs, probs, repelling, 1)
        return energy, gradient
    even = compatibility if symmetric else (compatibility + compatibility.T) / 2
    gradient, energy = gated_filter(probs, _product(even, probs), pairs, 0)  # Eq. 9
    if not symmetric:
        odd = _product(compatibility - even, probs)
        more, rest = gated_filter(probs, odd, pairs._replace(sign=-1), 0)
        gradient, energy = gradient.add_(more), energy + rest
    return energy, gradient.to(probs.dtype)


@torch.library.custom_op("gated_crf::feature_gradient", mutates_args=())
def energy_feature_gradient(
    probs: Tensor,
    features: Tensor,
    source: Tensor,
    destination: Tensor,
    compatibility: Tensor | None,
    weights: list[float],
    spatial: list[float],
    precisions: list[float],
    widths: list[int],
    radius: int,
) -> Tensor:
    """Return the gradient of Psi with respect to ``features``."""
    probs = probs.to(features.dtype)
    if compatibility is None:
        values, transposed = -probs, -probs
    else:
        values, transposed = _product(compatibility, probs), _product(compatibility.T, probs)
    mixture = Mixture(weights, spatial, precisions, widths)
    pairs = Neighborhood(features, source, destination, mixture, radius)
    return feature_gradient(probs, values, transposed, pairs, int(compatibility is None))


@energy_and_gradient.register_fake
def _(probs: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(probs.dtype, torch.float32)
    return probs.new_empty((), dtype=dtype), probs.new_empty(probs.shape)


@energy_feature_gradient.register_fake
def _(_: Tensor, features: Tensor, *__: Any) -> Tensor:
    return features.new_empty(features.shape)


def _product(matrix: Tensor, probs: Tensor) -> Tensor:
    """Return the (C, C) matrix times ``probs``, computed in float32 or wider, without autocast and TF32."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(probs.device.type, enabled=False):
            return torch.einsum("ij,njhw->nihw", matrix, probs.to(matrix.dtype))
    finally:
        torch.set_float32_matmul_precision(precision)


class _PairwiseEnergy(torch.autograd.Function):
    """The energy, with its gradient computed in the forward pass."""

    @staticmethod
    def forward(ctx: Any, probs: Tensor, features: Tensor, *rest: Any) -> Tensor:
        energy: Tensor
        energy, ctx.gradient = energy_and_gradient(probs, features, *rest)
        source, destination, compatibility, *ctx.numbers = rest
        ctx.save_for_backward(probs, features, source, destination, compatibility)
        return energy

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        twice = torch.is_grad_enabled() and not torch.compiler.is_compiling()  # create_graph=True
        gradients: list[Tensor | None] = [None, None]
        with torch.no_grad():
            if ctx.needs_input_grad[0]:
                gradients[0] = _scaled_gradient(ctx, grad_output)
            if ctx.needs_input_grad[1]:
                *numbers, _, _ = ctx.numbers  # without symmetric and engine
                gradients[1] = energy_feature_gradient(*ctx.saved_tensors, *numbers).mul_(grad_output)
        if twice:
            inputs = ctx.saved_tensors[:2]
            gradients = [None if g is None else Once.apply(g, *inputs) for g in gradients]  # type: ignore[no-untyped-call]
        return *gradients, *[None] * (3 + len(ctx.numbers))


def _scaled_gradient(ctx: Any, grad_output: Tensor) -> Tensor:
    """Scale the gradient in place to avoid a copy. A second call recomputes it."""
    gradient: Tensor | None = ctx.gradient
    if gradient is None:
        _, gradient = energy_and_gradient(*ctx.saved_tensors, *ctx.numbers)
    if torch.compiler.is_compiling():  # the compiler plans the memory
        return gradient.mul(grad_output)
    ctx.gradient = None
    return gradient.mul_(grad_output)


class Once(torch.autograd.Function):
    """Raises an error on double backward, whose result would lack a term."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *inputs: Tensor) -> Tensor:
        """Return ``gradient``, which depends on ``inputs``."""
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, ...]:
        """Raise the error."""
        raise RuntimeError("The loss is differentiable once. GatedCRFLoss(engine='tensor') has second derivatives.")
