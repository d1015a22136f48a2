"""What the Gated CRF loss refuses, once and at its boundary, with the value and the remedy."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from losses.kernels import GaussianKernel


def settings(
    kernels: Sequence[GaussianKernel], radius: int | None, epsilon: float | None, engine: str, engines: Sequence[str]
) -> None:
    """Raise ``ValueError`` for arguments of the loss that are out of range or contradict each other."""
    if not kernels:
        raise ValueError("kernels is empty; name at least one GaussianKernel, or None for that of Sec. 4.1.")
    if radius is not None and epsilon is not None:
        raise ValueError(f"radius is {radius} and epsilon is {epsilon}; give one of them.")
    if radius is not None and (not isinstance(radius, int) or isinstance(radius, bool) or radius < 1):
        raise ValueError(f"radius is {radius!r}; the neighborhood needs a radius that is an int of at least 1 pixel.")
    if engine not in engines:
        raise ValueError(f"engine is {engine!r}; choose one of {', '.join(engines)}.")


def compatibility(matrix: Sequence[Sequence[float]] | Tensor) -> Tensor:
    """Return mu as a tensor (C, C).

    Raises:
        ValueError: It is not square, or has a negative, infinite or diagonal entry.
    """
    if isinstance(matrix, Tensor) and matrix.requires_grad:
        raise ValueError("compatibility requires a gradient, which only engine='tensor' could give; detach it.")
    mu = torch.as_tensor(matrix, dtype=torch.float64).clone()
    if mu.ndim != 2 or mu.shape[0] != mu.shape[1]:
        raise ValueError(f"compatibility has shape {tuple(mu.shape)}; pass a square (C, C) matrix.")
    if torch.compiler.is_compiling():
        return mu
    if not (mu >= 0).all() or mu.isinf().any() or mu.diagonal().any():
        raise ValueError(f"compatibility must be finite and non-negative with a zero diagonal, not {mu.tolist()}.")
    return mu


def inputs(
    probs: Tensor,
    features: Mapping[str, Tensor],
    source: Tensor | None,
    destination: Tensor | None,
    kernels: Sequence[GaussianKernel],
    mu: Tensor | None,
) -> None:
    """Raise ``ValueError`` for types and shapes that do not fit each other; reads no values."""
    if not isinstance(features, Mapping):
        raise ValueError('features is no mapping; pass maps by name: {"rgb": standardized image}.')
    for name in {name for kernel in kernels for name in kernel.modalities} - set(features):
        raise ValueError(f"A kernel has a bandwidth for {name!r} but features has only {sorted(features)}; pass it.")
    read = {name: x for name, x in features.items() if any(name in kernel.modalities for kernel in kernels)}
    for name, x in {"probs": probs, **read, "source": source, "destination": destination}.items():
        if x is not None and not isinstance(x, Tensor):
            raise ValueError(f"{name!r} is a {type(x).__name__}; pass a tensor.")
    if probs.ndim != 4 or not probs.is_floating_point() or probs.numel() == 0:
        raise ValueError(f"probs is {probs.dtype} of shape {tuple(probs.shape)}; pass floats of shape (N, C, H, W).")
    for name, feature in read.items():
        if not feature.is_floating_point():
            raise ValueError(f"features[{name!r}] is {feature.dtype}; pass floats in units of the bandwidth's scale.")
        if feature.ndim != 4:
            raise ValueError(f"features[{name!r}] has shape {tuple(feature.shape)}; pass (N, D, H, W).")
    for name, mask in {"source": source, "destination": destination}.items():
        if mask is not None and (mask.dtype != torch.bool or mask.ndim != 3):
            raise ValueError(
                f"The {name} mask is {mask.dtype} of shape {tuple(mask.shape)}; pass bool of shape (N, H, W)."
            )
    for name, x in {**read, "source": source, "destination": destination}.items():
        if x is not None and len(x) != len(probs):
            raise ValueError(
                f"{name!r} holds {len(x)} samples but probs holds {len(probs)}; they must be the same batch."
            )
        if x is not None and (x.shape[-2] < probs.shape[-2] or x.shape[-1] < probs.shape[-1]):
            raise ValueError(
                f"{name!r} is {x.shape[-2]} x {x.shape[-1]} pixels, smaller than the {probs.shape[-2]} x "
                f"{probs.shape[-1]} of probs; pass it at the resolution of probs or of the input image."
            )
        if x is not None and x.device != probs.device:
            raise ValueError(f"{name!r} is on {x.device} but probs is on {probs.device}; move it there.")
    if mu is not None and len(mu) != probs.shape[1]:
        raise ValueError(f"compatibility is for {len(mu)} classes but probs has {probs.shape[1]}.")


def values(probs: Tensor, features: Mapping[str, Tensor]) -> None:
    """Raise ``ValueError`` for predictions that are no probabilities, and for features that are not finite."""
    if not (probs.isfinite().all() and (probs >= 0).all() and (probs <= 1 + 1e-2).all()):
        raise ValueError(
            f"probs lies in [{probs.min().item():.4g}, {probs.max().item():.4g}] and holds "
            f"{(~probs.isfinite()).sum().item()} values that are not finite; pass probabilities: logits.softmax(dim=1)."
        )
    sums = probs.float().sum(1)
    if not ((sums - 1).abs() <= 1e-2).all():
        raise ValueError(
            f"probs sums to between {sums.min().item():.4g} and {sums.max().item():.4g} over its classes; pass "
            "probabilities: logits.softmax(dim=1)."
        )
    for name, feature in features.items():
        if not feature.isfinite().all():
            count = (~feature.isfinite()).sum().item()
            raise ValueError(
                f"features[{name!r}] holds {count} values that are not finite where a gate is open; close both there."
            )
