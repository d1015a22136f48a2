"""Engine for GPUs: S = W y, the energy and the gradient in one pass of a Triton kernel, exact and deterministic.

A program computes ``rows`` rows by ``lanes`` pixels of a :class:`Tile` by up to 32 classes. It walks over the window
and uses each loaded neighbor for all of its rows. The sums stay in registers. It writes S and one number. There are no
atomics, so two runs give the same bits. Half precision is read and written, and computed in float32.

The definition needs C + D multiply-adds and an exponential per ordered pair of pixels. The kernel computes
(2r + rows) / (2r + 1) times as many, with C rounded up to the sum of two powers of two: 25 % more at C = 21 and r = 5.

The kernel is for GPUs of NVIDIA and AMD. With TRITON_INTERPRET=1 it runs slowly on a CPU.
"""

from contextlib import nullcontext
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from losses.engines.fused_kernel import filter_kernel, split_classes, split_features
from losses.errors import ArgumentError
from losses.kernels import Neighborhood


class Tile(NamedTuple):
    """Pixels of a program: ``rows`` of each thread, and ``lanes``, a multiple of the 32 threads of a warp."""

    rows: int = 2  # with more rows, the sums of 32 classes do not fit into the registers
    lanes: int = 128


TILE = Tile()


def gated_filter(
    probs: Tensor, values: Tensor, neighborhood: Neighborhood, constant: int, tile: Tile = TILE
) -> tuple[Tensor, Tensor]:
    """Return S and the energy; see :func:`losses.engines.shifted.gated_filter` for arguments and results.

    With features in float32, ``probs`` and ``values`` may be half precision; S has their dtype, the energy is float32.
    ``tile`` affects speed only.

    Raises:
        ArgumentError: If the tensors are on a CPU, or an image has 2^31 elements or more.
    """
    features, source, destination, mixture, radius, sign = neighborhood
    if not probs.is_cuda and isinstance(filter_kernel, triton.JITFunction):
        raise ArgumentError(
            f"The engine 'fused' needs a GPU and probs is on {probs.device}; use engine='auto', or "
            "interpret it slowly: set TRITON_INTERPRET=1 before starting Python."
        )
    n, classes, height, width = probs.shape
    if max(classes, features.shape[1]) * height * width >= 2**31:
        raise ArgumentError(
            f"An image of shape {tuple(probs.shape[1:])} with {features.shape[1]} features has 2^31 elements or more; "
            "compute the loss of smaller crops."
        )
    same = values is probs
    probs, features = probs.contiguous(), features.contiguous()
    values = probs if same else values.contiguous()
    filtered = values.new_empty(values.shape)
    lanes_x = min(tile.lanes, triton.next_power_of_2(width))
    lanes_y = tile.lanes // lanes_x
    parts = split_classes(classes)
    tiles = triton.cdiv(height, lanes_y * tile.rows), triton.cdiv(width, lanes_x)
    programs = n * tiles[0] * tiles[1] * triton.cdiv(classes, parts["block_size"])
    wide = torch.promote_types(probs.dtype, torch.float32)
    energies = torch.empty(programs, dtype=wide, device=probs.device)
    with torch.cuda.device(probs.device) if probs.is_cuda else nullcontext():
        filter_kernel[(programs,)](
            *(probs, values, features, source.contiguous(), destination.contiguous(), filtered, energies),
            *(height, width, *tiles),
            classes=classes,
            weights=tuple(mixture.weights),
            spatial=tuple(mixture.spatial),
            precisions=tuple(mixture.precisions),
            **split_features(mixture.widths),
            radius=radius,
            sign=sign,
            constant=constant,
            **parts,
            rows=tile.rows,
            lanes_x=lanes_x,
            lanes_y=lanes_y,
            num_warps=tile.lanes // 32,
        )
    return filtered, energies.sum()
