"""Engine for GPUs: S = W y, the energy and the gradient in one pass of a Triton kernel, exact and deterministic.

A program computes ``ROWS`` rows by ``LANES`` pixels by up to 32 classes. It walks over the window and uses each loaded
neighbor for all of its rows. The sums stay in registers. It writes S and one number. There are no atomics, so two runs
give the same bits. Half precision is read and written, and computed in float32.

The definition needs C + D multiply-adds and an exponential per ordered pair of pixels. The kernel computes
(2r + ROWS) / (2r + 1) times as many, with C rounded up to a power of two: 65 % more at C = 21 and r = 5.

The kernel is for GPUs of NVIDIA and AMD. With TRITON_INTERPRET=1 it runs slowly on a CPU.
"""

from contextlib import nullcontext
from itertools import accumulate

import torch
import triton
import triton.language as tl
from torch import Tensor

from losses.errors import ArgumentError
from losses.kernels import Neighborhood

ROWS = 2  # with more rows, the sums of 32 classes do not fit into the registers
LANES = 128  # pixels of a row: one per thread of 4 warps


def gated_filter(probs: Tensor, values: Tensor, neighborhood: Neighborhood, constant: int) -> tuple[Tensor, Tensor]:
    """Return S and the energy; see :func:`losses.engines.shifted.gated_filter` for arguments and results.

    With features in float32, ``probs`` and ``values`` may be half precision; S has their dtype, the energy is float32.

    Raises:
        ArgumentError: If the tensors are on a CPU, or an image has 2^31 elements or more.
    """
    features, source, destination, mixture, radius, sign = neighborhood
    if not probs.is_cuda and isinstance(_filter_kernel, triton.JITFunction):
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
    lanes_x = min(LANES, triton.next_power_of_2(width))
    lanes_y = LANES // lanes_x
    block_size = min(32, triton.next_power_of_2(classes))
    tiles = triton.cdiv(height, lanes_y * ROWS), triton.cdiv(width, lanes_x)
    programs = n * tiles[0] * tiles[1] * triton.cdiv(classes, block_size)
    wide = torch.promote_types(probs.dtype, torch.float32)
    energies = torch.empty(programs, dtype=wide, device=probs.device)
    with torch.cuda.device(probs.device) if probs.is_cuda else nullcontext():
        _filter_kernel[(programs,)](
            *(probs, values, features, source.contiguous(), destination.contiguous(), filtered, energies),
            *(height, width, *tiles),
            classes=classes,
            weights=tuple(mixture.weights),
            spatial=tuple(mixture.spatial),
            precisions=tuple(mixture.precisions),
            starts=tuple(accumulate(mixture.widths, initial=0)),
            radius=radius,
            sign=sign,
            constant=constant,
            block_size=block_size,
            rows=ROWS,
            lanes_x=lanes_x,
            lanes_y=lanes_y,
            num_warps=LANES // 32,
        )
    return filtered, energies.sum()


@triton.jit(do_not_specialize=["height", "width", "tiles_y", "tiles_x"])  # type: ignore[untyped-decorator]
def _filter_kernel(
    probs: tl.tensor,
    values: tl.tensor,
    features: tl.tensor,
    source: tl.tensor,
    destination: tl.tensor,
    filtered: tl.tensor,
    energies: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    tiles_y: tl.tensor,
    tiles_x: tl.tensor,
    classes: tl.constexpr,
    weights: tl.constexpr,
    spatial: tl.constexpr,
    precisions: tl.constexpr,
    starts: tl.constexpr,
    radius: tl.constexpr,
    sign: tl.constexpr,
    constant: tl.constexpr,
    block_size: tl.constexpr,
    rows: tl.constexpr,
    lanes_x: tl.constexpr,
    lanes_y: tl.constexpr,
) -> None:
    """Compute ``rows`` x ``lanes_y`` by ``lanes_x`` pixels of one image and up to ``block_size`` of its classes.

    probs, values and filtered are (N, C, H, W), features (N, D, H, W), the gates (N, H, W), and energies (programs,).
    """
    wide: tl.constexpr = energies.dtype.element_ty
    blocks: tl.constexpr = (classes + block_size - 1) // block_size  # adjacent programs share the features in the cache
    depth: tl.constexpr = starts[len(starts) - 1]
    program = tl.program_id(0)
    block = program % blocks
    tile_x = program // blocks % tiles_x
    tile_y = program // blocks // tiles_x % tiles_y
    image = tl.cast(program // blocks // tiles_x // tiles_y, tl.int64)  # a batch may exceed 2^31 elements
    pixels = height * width
    probs += image * classes * pixels
    values += image * classes * pixels
    filtered += image * classes * pixels
    features += image * depth * pixels
    source += image * pixels
    destination += image * pixels

    # All tensors have, or broadcast to, the shape (rows, channels, lanes), with one thread per lane. They share one
    # layout, so threads exchange no data. Sizes are not specialized, because Triton would choose a different layout
    # for loads of known alignment.
    row = tl.arange(0, rows)[:, None, None]
    channel = block * block_size + tl.arange(0, block_size)[None, :, None]
    lane = tl.arange(0, lanes_x * lanes_y)[None, None, :]
    x = tile_x * lanes_x + lane % lanes_x
    top = (tile_y * lanes_y + lane // lanes_x) * rows
    y = top + row
    here = y * width + x
    exists = (y < height) & (x < width)
    src_a = tl.load(source + here, mask=exists, other=0).to(wide)
    dst_a = tl.load(destination + here, mask=exists, other=0).to(wide)

    total = tl.zeros((rows, 1, lanes_x * lanes_y), wide)
    sums = tl.zeros((rows, block_size, lanes_x * lanes_y), wide)
    for below in range(-radius, radius + rows):  # rows below the topmost of a lane
        for dx in range(-radius, radius + 1):
            y_b = top + below
            x_b = x + dx
            there = y_b * width + x_b
            inside = (y_b >= 0) & (y_b < height) & (x_b >= 0) & (x_b < width)
            src_b = tl.load(source + there, mask=inside, other=0).to(wide)
            dst_b = tl.load(destination + there, mask=inside, other=0).to(wide)
            dy = below - row
            near = (dy >= -radius) & (dy <= radius) & ((dy != 0) | (dx != 0))  # a window for each row
            gate = tl.where(near, dst_a * src_b + sign * (dst_b * src_a), 0.0)
            distance = (dy * dy + dx * dx).to(wide)
            mixture = tl.zeros_like(total)
            for p in tl.static_range(len(weights)):
                exponent = spatial[p] * distance + tl.zeros_like(total)
                for m in tl.static_range(len(starts) - 1):
                    if precisions[p * (len(starts) - 1) + m] > 0:
                        squares = tl.zeros_like(total)
                        for d in range(starts[m], starts[m + 1]):
                            f_a = tl.load(features + d * pixels + here, mask=exists, other=0)
                            f_b = tl.load(features + d * pixels + there, mask=inside, other=0)
                            squares += (f_a - f_b) * (f_a - f_b)
                        exponent += precisions[p * (len(starts) - 1) + m] * squares
                mixture += weights[p] * tl.exp(-exponent)
            weight = mixture * gate
            total += weight
            neighbor = tl.load(values + channel * pixels + there, mask=inside & (channel < classes), other=0).to(wide)
            sums += weight * neighbor

    at = channel * pixels + here
    mask = exists & (channel < classes)
    tl.store(filtered + at, sums.to(filtered.dtype.element_ty), mask=mask)
    energy = tl.sum(sums * tl.load(probs + at, mask=mask, other=0).to(wide), axis=1, keep_dims=True)
    if block == 0:
        energy -= constant * total
    tl.store(energies + program, 0.5 * tl.sum(energy))
