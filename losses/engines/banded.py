"""CPU engine: the same filter as products of small banded matrices, for which processors are built.

The images become one long row of pixels, with r closed pixels between their rows. For a distance dy between rows, a
tile of T pixels is tied to the T + 2r pixels dy rows away by a banded (T + 2r, T) matrix of weights, so that S = W y is
a batch of matrix products, which read the predictions once per dy. The weights are computed densely, once for dy and
-dy.

Per pixel this makes (2r + 1) (T + 2r) C multiply-adds where the definition needs (2r + 1)^2 C, 2.4 times as many at
r = 5 and T = 16, but at the rate of matrix products: shifted slices move three values through memory for each. A third
of the time goes into the products; the rest into some 17 passes over the 2r + 1 weights per pixel and dy, and into
writing them along the diagonals, which no operation of torch does together.
"""

from collections.abc import Iterator, Sequence
from math import log
from typing import NamedTuple

import torch
from torch import Tensor

from losses.engines.shifted import pair_energy
from losses.kernels import Mixture

TILE = 16  # pixels; as fast as 32 and faster than 64 at r = 5, with less memory
BLOCK = 2**15  # pixels in work at a time: bounds the memory, and keeps the work in cache


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
    """Return S and an energy; arguments and results as in :func:`losses.engines.shifted.gated_filter`."""
    count, _, height, width = values.shape
    src, dst = (gate.unsqueeze(1).to(values.dtype) for gate in (source, destination))
    filtered, energies = values.new_empty(values.shape), []
    workspace = _Workspace({}, values)
    for images, rows in _blocks(count, height, width, radius):
        halo = slice(max(0, rows.start - radius), min(height, rows.stop + radius))
        top = radius - rows.start + halo.start
        inputs = [x[images, :, halo] for x in (values, features, src, dst)]
        part, total = _filter_block(inputs, top, rows.stop - rows.start, mixture, radius, sign, workspace)
        filtered[images, :, rows] = part
        energies.append(pair_energy(probs[images, :, rows], part, total, constant))
    return filtered, torch.stack(energies).sum()


class _Workspace(NamedTuple):
    """Buffers that the blocks share, since the system takes longer to hand out memory than a block to use it."""

    buffers: dict[str, Tensor]
    like: Tensor

    def empty(self, name: str, *shape: int) -> Tensor:
        """Return the buffer of that name, made anew if its shape differs."""
        buffer = self.buffers.get(name)
        if buffer is None or buffer.shape != shape:
            buffer = self.buffers[name] = self.like.new_empty(shape)
        return buffer

    def zeros(self, name: str, *shape: int) -> Tensor:
        """Return the buffer of that name, set to zero."""
        return self.empty(name, *shape).zero_()


def _blocks(count: int, height: int, width: int, radius: int) -> Iterator[tuple[slice, slice]]:
    """Cut (N, H, W) into blocks of about ``BLOCK`` pixels with their padding: several images, or rows of one."""
    rows = min(height, max(BLOCK // (width + radius) - 2 * radius, 4 * radius))  # 2 r rows are computed in vain
    images = max(1, BLOCK // ((height + 2 * radius) * (width + radius)))
    for first in range(0, count, images):
        for top in range(0, height, rows):
            yield slice(first, min(first + images, count)), slice(top, min(top + rows, height))


def _filter_block(
    inputs: Sequence[Tensor], top: int, height: int, mixture: Mixture, radius: int, sign: int, workspace: _Workspace
) -> tuple[Tensor, Tensor]:
    """Return S, (n, C, height, w), of some rows of images, and the sums of their weights, (n, 1, height, w).

    ``inputs`` are the values, the features and the two gates, each (n, D, h, w), with the rows that the windows reach
    into, of which ``top`` are missing above, where the image ends.
    """
    n, classes, given, width = inputs[0].shape
    stride, side, edge = width + radius, 2 * radius + 1, radius * (width + radius)
    image = (height + 2 * radius) * stride
    tiles = -(-(n * image - 2 * edge) // TILE)
    last = tiles * TILE  # pixels that are computed

    def row(name: str, x: Tensor) -> Tensor:  # (n, D, h, w) -> (D, pixels), from r pixels before the first image on
        buffer = workspace.zeros(name, x.shape[1], last + 2 * (edge + radius))
        inner = buffer[:, radius : radius + n * image].view(-1, n, image // stride, stride)
        inner[:, :, top : top + given, :width] = x.transpose(0, 1)
        return buffer

    y, f, src, dst = (row(str(index), x) for index, x in enumerate(inputs))
    filtered, total = workspace.zeros("filtered", tiles, classes, TILE), workspace.zeros("total", last)
    band = workspace.zeros("band", tiles, TILE + 2 * radius, TILE)
    diagonals = band.as_strided((side, tiles, TILE), (TILE, band.stride(0), TILE + 1))
    scratch = workspace.empty("scratch", 3, side * (last + edge + radius))
    reverse = torch.arange(2 * radius, -1, -1)

    def accumulate(weights: Tensor, shift: int, sign: int) -> None:  # (side, last), of the neighbors ``shift`` away
        diagonals.copy_(weights.view(side, tiles, TILE))
        total.add_(weights.sum(0), alpha=sign)
        neighbors = y.as_strided((tiles, classes, band.shape[1]), (TILE, y.stride(0), 1), edge + shift)
        filtered.baddbmm_(neighbors, band, alpha=sign)

    for dy in range(radius + 1):
        before = dy * stride + radius if dy > 0 else 0  # pixels before the first target that -dy needs as well
        maps = scratch[:, : side * (last + before)].view(3, side, -1)
        weights = _weights(f, src, dst, mixture, radius, sign, dy, edge + radius - before, dy * stride, maps)
        accumulate(weights[:, before:], dy * stride, 1)
        if dy > 0:  # from the other end of a pair: the diagonals in reverse, each beginning one pixel later
            mirror = torch.index_select(weights, 0, reverse, out=maps[1])
            accumulate(mirror.as_strided((side, last), (mirror.stride(0) + 1, 1)), -dy * stride, sign)

    def images(x: Tensor) -> Tensor:  # (D, last) -> (n, D, height, w)
        return x.as_strided((n, len(x), height, width), (image, last, stride, 1))

    return images(filtered.transpose(0, 1).flatten(1)), images(total.unsqueeze(0))


def _weights(
    features: Tensor,
    source: Tensor,
    destination: Tensor,
    mixture: Mixture,
    radius: int,
    sign: int,
    dy: int,
    start: int,
    shift: int,
    maps: Tensor,
) -> Tensor:
    """Return w_ab of the pixels a from ``start`` on and their neighbors ``shift`` - r ... ``shift`` + r further.

    ``features`` is (D, L) and the gates are (1, L). ``maps`` is scratch, (3, 2r + 1, number of pixels), the first of
    which becomes the result.
    """
    weights: Tensor = maps[0]
    kernel, difference = maps[1], maps[2]
    length = weights.shape[1]

    def neighbors(x: Tensor) -> Tensor:  # (L,) -> (2r + 1, length)
        return x.as_strided(weights.shape, (1, 1), x.storage_offset() + start + shift - radius)

    here = slice(start, start + length)
    floor = 0.5 * log(torch.finfo(weights.dtype).tiny)  # far below rounding; denormal numbers are slow
    squares = torch.arange(-radius, radius + 1, dtype=weights.dtype).square_().add_(dy**2).unsqueeze(1)
    for index, (weight, spatial, channels) in enumerate(mixture.terms()):
        term = (weights if index == 0 else kernel).zero_()
        for channel, precision in channels:
            torch.sub(neighbors(features[channel]), features[channel, here], out=difference)
            term.addcmul_(difference, difference, value=-precision)
        term.clamp_(min=floor).exp_().mul_(weight * torch.exp(-spatial * squares))
        if index > 0:
            weights.add_(term)
    gate = torch.mul(neighbors(source[0]), destination[0, here], out=difference)
    weights.mul_(gate.addcmul_(neighbors(destination[0]), source[0, here], value=sign))
    if dy == 0:
        weights[radius].zero_()  # b != a
    return weights
