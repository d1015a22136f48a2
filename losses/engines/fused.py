"""GPU engine: the filter as one Triton kernel, S, energy and gradient in a single pass, exact and deterministic.

A program computes ``ROWS`` rows by ``LANES`` pixels by up to 32 classes. It walks over the window, and what it loads
of a neighbor serves all of its rows. The sums stay in registers, and nothing of the size of the window is stored: it
reads the predictions, the features and the gates, and writes S and one number per program. No atomics: two runs give
the same bits.

Per ordered pair of pixels the definition needs C multiply-adds, and for the weight D more and an exponential. The
kernel makes (2r + ROWS) / (2r + 1) times as many, with C rounded up to a power of two: at C = 21 and r = 5, 65 % more.
It loads (2r + ROWS) / (2r + 1) / ROWS times as many values as the definition, from the cache. Counted in the machine
code for an H100, that is five to six times the floor of multiply-adds; it has not been measured.

Half precision is read and written as such and computed with in float32. It runs on NVIDIA's and AMD's GPUs and without
one, slowly, under TRITON_INTERPRET=1.
"""

from contextlib import nullcontext
from itertools import accumulate

import torch
import triton
import triton.language as tl
from torch import Tensor

from losses.kernels import Mixture

ROWS = 2  # more would spill the sums of 32 classes from the registers
LANES = 128  # pixels side by side: one per thread of 4 warps


def gated_filter(
    probs: Tensor,
    values: Tensor,
    features: Tensor,
    source: Tensor,
    destination: Tensor,
    mixture: Mixture,
    radius: int,
    sign: int,
    constant: int,
) -> tuple[Tensor, Tensor]:
    """Return S and an energy; arguments and results as in :func:`losses.engines.shifted.gated_filter`.

    ``probs`` and ``values`` may also be float16 or bfloat16, with features in float32; S is then in their precision,
    and the energy in float32.

    Raises:
        ValueError: Tensors on a CPU, or a single image of 2^31 elements or more.
    """
    if not probs.is_cuda and isinstance(_filter_kernel, triton.JITFunction):
        raise ValueError(
            f"The engine 'fused' needs a GPU and probs is on {probs.device}; take engine='auto', or set "
            "TRITON_INTERPRET=1 before the start to run it slowly."
        )
    n, classes, height, width = probs.shape
    if max(classes, features.shape[1]) * height * width >= 2**31:
        raise ValueError(
            f"An image of shape {tuple(probs.shape[1:])} with {features.shape[1]} features has 2^31 elements or more; "
            "compute the loss of its parts."
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

    Shapes in memory: probs, values and filtered (N, C, H, W); features (N, D, H, W); source and destination (N, H, W);
    energies (programs,).
    """
    wide: tl.constexpr = energies.dtype.element_ty
    blocks: tl.constexpr = (classes + block_size - 1) // block_size  # side by side, to share the features in cache
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

    # Every tensor is (rows, channels, lanes), or 1 along an axis, and a lane is a thread: one layout and no shuffles.
    # That needs sizes that are not specialized: loads whose alignment Triton knew would get another layout.
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
