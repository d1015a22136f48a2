"""Validation of the arguments and inputs of pairwise losses."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from losses.engines import ENGINES
from losses.errors import ArgumentError
from losses.kernels import GaussianKernel

MASK = "bool of shape (N, H, W)"
FORMATS = {"probs": "floats of shape (N, C, H, W)", "source": MASK, "destination": MASK}
FEATURES = "floats of shape (N, D, H, W) in the units of the bandwidth"


def settings(kernels: Sequence[GaussianKernel], radius: int | None, epsilon: float | None, engine: str) -> None:
    """Raise :class:`ArgumentError` if an argument of the loss is out of range or contradicts another one."""
    if not kernels:
        raise ArgumentError("kernels is empty; name at least one GaussianKernel, or None for the kernel of Sec. 4.1.")
    if radius is not None and epsilon is not None:
        raise ArgumentError(f"radius is {radius} and epsilon is {epsilon}; give one of them.")
    if radius is not None and (not isinstance(radius, int) or isinstance(radius, bool) or radius < 1):
        raise ArgumentError(f"radius is {radius!r}; the radius must be an int of at least 1 pixel.")
    if engine not in ENGINES:
        raise ArgumentError(f"engine is {engine!r}; choose one of {', '.join(ENGINES)}.")


def compatibility(matrix: Sequence[Sequence[float]] | Tensor) -> Tensor:
    """Return mu as a new tensor, float64 (C, C).

    Raises:
        ArgumentError: If mu is not square, or has an entry that is negative, not finite, or non-zero on the diagonal.
    """
    if isinstance(matrix, Tensor) and matrix.requires_grad:
        raise ArgumentError("compatibility requires a gradient, but the loss gives it none; detach it.")
    mu = torch.as_tensor(matrix, dtype=torch.float64).clone()
    if mu.ndim != 2 or mu.shape[0] != mu.shape[1]:
        raise ArgumentError(f"compatibility has shape {tuple(mu.shape)}; pass a square (C, C) matrix.")
    if torch.compiler.is_compiling():  # reading values breaks the graph
        return mu
    if not (mu >= 0).all() or mu.isinf().any() or mu.diagonal().any():
        raise ArgumentError(f"compatibility must be finite and non-negative with a zero diagonal, not {mu.tolist()}.")
    return mu


def inputs(
    probs: Tensor,
    features: Mapping[str, Tensor],
    source: Tensor | None,
    destination: Tensor | None,
    kernels: Sequence[GaussianKernel],
    mu: Tensor | None,
) -> None:
    """Raise :class:`ArgumentError` if types, shapes or devices are wrong. Reads no values."""
    if not isinstance(features, Mapping):
        raise ArgumentError('features is not a mapping; pass maps by name: {"rgb": standardized image}.')
    read = {name for kernel in kernels for name in kernel.modalities}
    for name in read - set(features):
        raise ArgumentError(f"A kernel has a bandwidth for {name!r} but features has only {sorted(features)}; pass it.")
    tensors = {"probs": probs, "source": source, "destination": destination}
    tensors |= {f"features[{name!r}]": x for name, x in features.items() if name in read}
    for name, x in tensors.items():
        gate = FORMATS.get(name) == MASK
        if gate and x is None:
            continue
        if not isinstance(x, Tensor):
            raise ArgumentError(f"{name} is a {type(x).__name__}; pass a tensor.")
        valid = x.ndim == 3 and x.dtype == torch.bool if gate else x.ndim == 4 and x.is_floating_point()
        if not valid or x.numel() == 0:
            raise ArgumentError(f"{name} is {x.dtype} of shape {tuple(x.shape)}; pass {FORMATS.get(name, FEATURES)}.")
        if len(x) != len(probs):
            raise ArgumentError(f"{name} has {len(x)} samples but probs has {len(probs)}; pass the same batch.")
        if x.shape[-2] < probs.shape[-2] or x.shape[-1] < probs.shape[-1]:
            raise ArgumentError(
                f"{name} is {x.shape[-2]} x {x.shape[-1]} pixels, smaller than the {probs.shape[-2]} x "
                f"{probs.shape[-1]} of probs; pass it at the resolution of probs or of the input image."
            )
        if x.device != probs.device:
            raise ArgumentError(f"{name} is on {x.device} but probs is on {probs.device}; move it there.")
    if mu is not None and len(mu) != probs.shape[1]:
        raise ArgumentError(f"compatibility is for {len(mu)} classes but probs has {probs.shape[1]}.")


def values(probs: Tensor, features: Mapping[str, Tensor]) -> None:
    """Raise :class:`ArgumentError` if predictions are not probabilities or features are not finite."""
    for name, x in {"probs": probs, **{f"features[{name!r}]": x for name, x in features.items()}}.items():
        if not x.isfinite().all():
            remedy = "; pass logits.softmax(dim=1)" if name == "probs" else " at open gates; close both gates there"
            raise ArgumentError(f"{name} has {(~x.isfinite()).sum().item()} values that are not finite{remedy}.")
    sums = probs.float().sum(1)
    if not ((probs >= 0).all() and ((sums - 1).abs() <= 1e-2).all()):
        raise ArgumentError(describe_probs(probs))


def describe_probs(probs: Tensor) -> str:
    """Return the message for predictions, float (N, C, H, W), that are not probabilities."""
    sums = probs.float().sum(1)
    return (
        f"probs lies in [{probs.min().item():.4g}, {probs.max().item():.4g}] and sums to between "
        f"{sums.min().item():.4g} and {sums.max().item():.4g} over classes; pass logits.softmax(dim=1)."
    )
