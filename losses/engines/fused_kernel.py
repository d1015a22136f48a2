"""The Triton kernel of :mod:`losses.engines.fused`."""

from collections.abc import Sequence
from itertools import accumulate

import triton
import triton.language as tl

MAX_CLASSES = 32  # of a program
MAX_HELD = 8  # features of a pixel that are kept in registers; others are loaded again for each neighbor


def split_classes(classes: int) -> dict[str, int]:
    """Return the number of classes of a program, and its two parts: Triton computes with powers of two only."""
    block_size = triton.cdiv(classes, triton.cdiv(classes, MAX_CLASSES))
    most = max(1, triton.next_power_of_2(block_size) // 2)
    return {"block_size": block_size, "most": most, "rest": triton.next_power_of_2(max(1, block_size - most))}


def split_features(widths: Sequence[int]) -> dict[str, int | tuple[int, ...]]:
    """Return where each modality starts, the number of held features, and where the others of each modality start."""
    starts = tuple(accumulate(widths, initial=0))
    held = min(starts[-1], MAX_HELD)
    return {"starts": starts, "held": held, "late": tuple(max(start, held) for start in starts)}


@triton.jit(do_not_specialize=["height", "width", "tiles_y", "tiles_x"])  # type: ignore[untyped-decorator]
def filter_kernel(
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
    held: tl.constexpr,
    late: tl.constexpr,
    radius: tl.constexpr,
    sign: tl.constexpr,
    constant: tl.constexpr,
    block_size: tl.constexpr,
    most: tl.constexpr,
    rest: tl.constexpr,
    rows: tl.constexpr,
    lanes_x: tl.constexpr,
    lanes_y: tl.constexpr,
) -> None:
    """Compute ``rows`` x ``lanes_y`` by ``lanes_x`` pixels of one image and up to ``block_size`` of its classes.

    The first ``most`` classes and the ``rest``, padded to a power of two, have sums of their own.
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
    first = block * block_size
    end = tl.minimum(first + block_size, classes)
    channel = first + tl.arange(0, most)[None, :, None]
    last = first + most + tl.arange(0, rest)[None, :, None]
    lane = tl.arange(0, lanes_x * lanes_y)[None, None, :]
    x = tile_x * lanes_x + lane % lanes_x
    top = (tile_y * lanes_y + lane // lanes_x) * rows
    y = top + row
    here = y * width + x
    exists = (y < height) & (x < width)
    src_a = tl.load(source + here, mask=exists, other=0).to(wide)
    dst_a = tl.load(destination + here, mask=exists, other=0).to(wide)

    own = ()  # the features here
    for d in tl.static_range(held):
        own += (tl.load(features + d * pixels + here, mask=exists, other=0),)  # type: ignore[assignment]

    total = tl.zeros((rows, 1, lanes_x * lanes_y), wide)
    sums = tl.zeros((rows, most, lanes_x * lanes_y), wide)
    last_sums = tl.zeros((rows, rest, lanes_x * lanes_y), wide)
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
                        for d in tl.static_range(held):
                            if starts[m] <= d and d < starts[m + 1]:
                                f_b = tl.load(features + d * pixels + there, mask=inside, other=0)
                                squares += (own[d] - f_b) * (own[d] - f_b)
                        for e in range(late[m], late[m + 1]):
                            f_a = tl.load(features + e * pixels + here, mask=exists, other=0)
                            f_b = tl.load(features + e * pixels + there, mask=inside, other=0)
                            squares += (f_a - f_b) * (f_a - f_b)
                        exponent += precisions[p * (len(starts) - 1) + m] * squares
                mixture += weights[p] * tl.exp(-exponent)
            weight = mixture * gate
            total += weight
            sums += weight * tl.load(values + channel * pixels + there, mask=inside & (channel < end), other=0).to(wide)
            last_sums += weight * tl.load(values + last * pixels + there, mask=inside & (last < end), other=0).to(wide)

    energy = _store(sums, filtered, probs, channel * pixels + here, exists & (channel < end))
    energy += _store(last_sums, filtered, probs, last * pixels + here, exists & (last < end))
    if block == 0:
        energy -= constant * total
    tl.store(energies + program, 0.5 * tl.sum(energy))


@triton.jit  # type: ignore[untyped-decorator]
def _store(sums: tl.tensor, filtered: tl.tensor, probs: tl.tensor, at: tl.tensor, mask: tl.tensor) -> tl.tensor:
    """Store sums at offsets ``at``, and return their product with the predictions there, (rows, 1, lanes)."""
    tl.store(filtered + at, sums.to(filtered.dtype.element_ty), mask=mask)
    return tl.sum(sums * tl.load(probs + at, mask=mask, other=0).to(sums.dtype), axis=1, keep_dims=True)
