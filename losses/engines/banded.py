"""Engine for CPUs: S = W y as products of small banded matrices.

The images are flattened into one row of pixels, with r masked pixels between image rows. For a distance dy between
rows, a banded (T + 2r, T) matrix of weights connects a tile of T pixels to the T + 2r pixels dy rows away. S = W y is
then a batch of matrix products that read the predictions once per dy. The weights for dy are reused for -dy.

A pixel costs (2r + 1) (T + 2r) C multiply-adds instead of (2r + 1)^2 C: 2.4 times as many at r = 5 and T = 16, but at
the speed of matrix products. They take a third of the time; computing the weights takes the rest.
"""

from collections.abc import Iterator, Sequence
from math import log

import torch
from torch import Tensor

from losses.engines.shifted import pair_energy
from losses.kernels import Neighborhood

TILE = 16  # pixels; at r = 5 as fast as 32, faster than 64, and with less memory
BLOCK = 2**15  # pixels computed at a time; bounds the memory and keeps the work in cache


def gated_filter(probs: Tensor, values: Tensor, neighborhood: Neighborhood, constant: int) -> tuple[Tensor, Tensor]:
    """Return S and the energy; see :func:`losses.engines.shifted.gated_filter` for arguments and results."""
    features, source, destination, _, radius, _ = neighborhood
    count, _, height, width = values.shape
    src, dst = (gate.unsqueeze(1).to(values.dtype) for gate in (source, destination))
    filtered, energies = values.new_empty(values.shape), []
    buffers: dict[str, Tensor] = {}  # shared by the blocks: allocating takes longer than computing a block
    for images, rows in _blocks(count, height, width, radius):
        halo = slice(max(0, rows.start - radius), min(height, rows.stop + radius))
        top = radius - rows.start + halo.start
        inputs = [x[images, :, halo] for x in (values, features, src, dst)]
        part, total = _filter_block(inputs, top, rows.stop - rows.start, neighborhood, buffers)
        filtered[images, :, rows] = part
        energies.append(pair_energy(probs[images, :, rows], part, total, constant))
    return filtered, torch.stack(energies).sum()


def _blocks(count: int, height: int, width: int, radius: int) -> Iterator[tuple[slice, slice]]:
    """Yield the images and rows of blocks of about ``BLOCK`` pixels with padding: several images, or rows of one."""
    rows = min(height, max(BLOCK // (width + radius) - 2 * radius, 4 * radius))  # 2r rows are computed and discarded
    images = max(1, BLOCK // ((height + 2 * radius) * (width + radius)))
    for first in range(0, count, images):
        for top in range(0, height, rows):
            yield slice(first, min(first + images, count)), slice(top, min(top + rows, height))


def _filter_block(
    inputs: Sequence[Tensor], top: int, height: int, neighborhood: Neighborhood, buffers: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return S, (n, C, height, w), of some rows of images, and the sums of their weights, (n, 1, height, w).

    ``inputs`` are the values, the features and the two gates, each (n, D, h, w). They include the rows of the image
    that the windows reach; ``top`` more rows would lie above the image.
    """
    radius, sign = neighborhood.radius, neighborhood.sign
    n, classes, given, width = inputs[0].shape
    stride, side, edge = width + radius, 2 * radius + 1, radius * (width + radius)
    image = (height + 2 * radius) * stride
    tiles = -(-(n * image - 2 * edge) // TILE)
    last = tiles * TILE  # number of computed pixels

    def buffer(name: str, *shape: int) -> Tensor:
        if name not in buffers or buffers[name].shape != shape:
            buffers[name] = inputs[0].new_empty(shape)
        return buffers[name]

    def row(name: str, x: Tensor) -> Tensor:  # (n, D, h, w) -> (D, pixels), starting r pixels before the first image
        pixels = buffer(name, x.shape[1], last + 2 * (edge + radius)).zero_()
        inner = pixels[:, radius : radius + n * image].view(-1, n, image // stride, stride)
        inner[:, :, top : top + given, :width] = x.transpose(0, 1)
        return pixels

    y, f, src, dst = (row(str(index), x) for index, x in enumerate(inputs))
    in_row = neighborhood._replace(features=f, source=src, destination=dst)
    filtered = buffer("filtered", tiles, classes, TILE).zero_()
    total = buffer("total", last).zero_()
    band = buffer("band", tiles, TILE + 2 * radius, TILE).zero_()
    diagonals = band.as_strided((side, tiles, TILE), (TILE, band.stride(0), TILE + 1))
    scratch = buffer("scratch", 3, side * (last + edge + radius))
    reverse = torch.arange(2 * radius, -1, -1)

    def accumulate(weights: Tensor, shift: int, sign: int) -> None:  # (side, last), to the neighbors ``shift`` away
        diagonals.copy_(weights.view(side, tiles, TILE))
        total.add_(weights.sum(0), alpha=sign)
        neighbors = y.as_strided((tiles, classes, band.shape[1]), (TILE, y.stride(0), 1), edge + shift)
        filtered.baddbmm_(neighbors, band, alpha=sign)

    for dy in range(radius + 1):
        before = dy * stride + radius if dy > 0 else 0  # pixels before the first target that -dy needs as well
        free = scratch[:, : side * (last + before)].view(3, side, -1)
        weights = _weights(in_row, dy, edge + radius - before, dy * stride, free)
        accumulate(weights[:, before:], dy * stride, 1)
        if dy > 0:  # the other end of each pair: the diagonals in reverse, each starting one pixel later
            mirror = torch.index_select(weights, 0, reverse, out=free[1])
            accumulate(mirror.as_strided((side, last), (mirror.stride(0) + 1, 1)), -dy * stride, sign)

    def images(x: Tensor) -> Tensor:  # (D, last) -> (n, D, height, w)
        return x.as_strided((n, len(x), height, width), (image, last, stride, 1))

    return images(filtered.transpose(0, 1).flatten(1)), images(total.unsqueeze(0))


def _weights(in_row: Neighborhood, dy: int, start: int, shift: int, scratch: Tensor) -> Tensor:
    """Return w_ab, (2r + 1, P), for P pixels a from ``start`` on and b = a + ``shift`` - r ... a + ``shift`` + r.

    The features of ``in_row`` are (D, L). Its gates are (1, L), 0 or 1 in the same dtype. ``scratch``, (3, 2r + 1, P),
    holds the result in its first map.
    """
    features, source, destination, mixture, radius, sign = in_row
    weights: Tensor
    weights, kernel, difference = scratch
    length = weights.shape[1]

    def neighbors(x: Tensor) -> Tensor:  # (L,) -> (2r + 1, length)
        return x.as_strided(weights.shape, (1, 1), x.storage_offset() + start + shift - radius)

    here = slice(start, start + length)
    floor = 0.5 * log(torch.finfo(weights.dtype).tiny)  # negligible, yet not denormal: denormal numbers are slow
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
