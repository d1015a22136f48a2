"""The energy as one differentiable operator of torch, whichever engine computes it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from shutil import which
from typing import Any

import torch
from torch import Tensor

from losses.engines import banded as banded_products
from losses.engines import shifted as shifted_slices
from losses.engines.feature_gradient import feature_gradient
from losses.kernels import Mixture

TRITON = find_spec("triton") is not None and any(map(which, (os.environ.get("CC", "cc"), "gcc", "clang")))
"""Whether Triton is there, and a C compiler, with which it builds what launches its kernels."""

Filter = Callable[..., tuple[Tensor, Tensor]]


def _fused(*arguments: Any) -> tuple[Tensor, Tensor]:
    from losses.engines.fused import gated_filter  # not everybody has Triton

    return gated_filter(*arguments)


FILTERS: dict[str, Filter] = {
    "shifted": shifted_slices.gated_filter,
    "banded": banded_products.gated_filter,
    "fused": _fused,
}


def choose_engine(device: torch.device) -> str:
    """Return the fastest engine for tensors on ``device``."""
    if device.type == "cpu":
        return "banded"
    return "fused" if device.type == "cuda" and TRITON else "shifted"


def pairwise_energy(
    probs: Tensor,
    features: Tensor,
    source: Tensor,
    destination: Tensor,
    compatibility: Tensor | None,
    symmetric: bool,
    mixture: Mixture,
    radius: int,
    engine: str,
) -> Tensor:
    """Return Psi of Eq. 5, a scalar, differentiable once in ``probs`` and ``features``.

    Args:
        probs: Float (N, C, H, W); half precision is for the engine "fused" to read, and others compute in float32.
        features: Float (N, D, H, W), the modalities of ``mixture`` side by side, float32 or wider.
        source: m^src, bool (N, H, W).
        destination: m^dst, likewise.
        compatibility: mu, (C, C), float32 or wider; ``None`` is the Potts model.
        symmetric: Whether mu is.
        mixture: The kernels K.
        radius: r, pixels.
        engine: A key of ``FILTERS``.
    """
    if engine != "fused":
        probs = probs.to(torch.promote_types(probs.dtype, torch.float32))
    energy: Tensor = _PairwiseEnergy.apply(  # type: ignore[no-untyped-call]
        probs, features, source, destination, compatibility, symmetric, *mixture, radius, engine
    )
    return energy


@torch.library.custom_op("gated_crf::energy_and_gradient", mutates_args=())
def energy_and_gradient(
    probs: Tensor,
    features: Tensor,
    source: Tensor,
    destination: Tensor,
    compatibility: Tensor | None,
    symmetric: bool,
    weights: list[float],
    spatial: list[float],
    precisions: list[float],
    widths: list[int],
    radius: int,
    engine: str,
) -> tuple[Tensor, Tensor]:
    """Return Psi of Eq. 5 and its gradient with respect to ``probs``, which one sweep of W = K (G_ab + G_ba) yields."""
    mixture = Mixture(weights, spatial, precisions, widths)
    gates, gated_filter = (features, source, destination), FILTERS[engine]
    radius = min(radius, max(1, *probs.shape[-2:]))  # what lies beyond the image costs time and memory
    if compatibility is None:  # Eq. 11: 1/2 sum of w (1 - y y), hence -S
        repelling = mixture._replace(weights=[-weight for weight in weights])
        gradient, energy = gated_filter(probs, probs, *gates, repelling, radius, 1, 1)
        return energy, gradient
    even = compatibility if symmetric else (compatibility + compatibility.T) / 2  # Eq. 9
    gradient, energy = gated_filter(probs, _product(even, probs), *gates, mixture, radius, 1, 0)
    if not symmetric:  # the rest meets the antisymmetric part of the gate
        more, rest = gated_filter(probs, _product(compatibility - even, probs), *gates, mixture, radius, -1, 0)
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
    mixture, constant = Mixture(weights, spatial, precisions, widths), int(compatibility is None)
    return feature_gradient(probs, values, transposed, features, source, destination, mixture, radius, constant)


@energy_and_gradient.register_fake
def _(probs: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(probs.dtype, torch.float32)
    return probs.new_empty((), dtype=dtype), probs.new_empty(probs.shape)


@energy_feature_gradient.register_fake
def _(_: Tensor, features: Tensor, *__: Any) -> Tensor:
    return features.new_empty(features.shape)


def _product(matrix: Tensor, probs: Tensor) -> Tensor:
    with _full_precision(probs.device):
        return torch.einsum("ij,njhw->nihw", matrix, probs.to(matrix.dtype))


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Multiply matrices in float32, whatever autocast and TF32 would make of it."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


class _PairwiseEnergy(torch.autograd.Function):
    """The energy with the gradient that came with it."""

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
                _, *numbers, _ = ctx.numbers
                gradients[1] = energy_feature_gradient(*ctx.saved_tensors, *numbers).mul_(grad_output)
        if twice:
            inputs = ctx.saved_tensors[:2]
            gradients = [None if g is None else _Once.apply(g, *inputs) for g in gradients]  # type: ignore[no-untyped-call]
        return *gradients, *[None] * (3 + len(ctx.numbers))


def _scaled_gradient(ctx: Any, grad_output: Tensor) -> Tensor:
    """Scale the gradient in place and give it away: a copy would double the memory. A second call computes it anew."""
    gradient: Tensor | None = ctx.gradient
    if gradient is None:
        _, gradient = energy_and_gradient(*ctx.saved_tensors, *ctx.numbers)
    if torch.compiler.is_compiling():  # which plans the memory itself
        return gradient.mul(grad_output)
    ctx.gradient = None
    return gradient.mul_(grad_output)


class _Once(torch.autograd.Function):
    """A gradient that cannot be differentiated; without it, second derivatives would silently lack a term."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *inputs: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, ...]:
        raise RuntimeError("The Gated CRF loss is differentiable once; for more, take GatedCRFLoss(engine='tensor').")
