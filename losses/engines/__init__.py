"""Engines: interchangeable implementations of the filter S = W y.

An engine has the arguments and results of :func:`losses.engines.shifted.gated_filter`. Only the reference engine
"tensor" differs: it returns the energy alone and leaves the gradient to autograd.
"""

import os
from collections.abc import Callable
from importlib.util import find_spec
from shutil import which

import torch
from torch import Tensor

from losses.engines import banded, shifted
from losses.kernels import Neighborhood

# Triton needs a C compiler to build the launchers of its kernels.
TRITON = find_spec("triton") is not None and any(map(which, (os.environ.get("CC", "cc"), "gcc", "clang")))


def _fused(probs: Tensor, values: Tensor, neighborhood: Neighborhood, constant: int) -> tuple[Tensor, Tensor]:
    from losses.engines.fused import gated_filter  # Triton is optional

    return gated_filter(probs, values, neighborhood, constant)


FILTERS: dict[str, Callable[[Tensor, Tensor, Neighborhood, int], tuple[Tensor, Tensor]]] = {
    "shifted": shifted.gated_filter,
    "banded": banded.gated_filter,
    "fused": _fused,
}
ENGINES = ("auto", *FILTERS, "tensor")


def choose_engine(device: torch.device) -> str:
    """Return the fastest engine for tensors on ``device``."""
    if device.type == "cpu":
        return "banded"
    return "fused" if device.type == "cuda" and TRITON else "shifted"
