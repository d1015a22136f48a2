"""Samplers that know the step they are at: order and augmentation survive a resume and any number of workers."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler


class Draw(NamedTuple):
    """One training item: which image, and the coordinates of its random numbers."""

    image: int
    epoch: int
    position: int  # in the epoch


class StreamBatchSampler(Sampler[list[Draw]]):
    """All batches of a run, epoch after epoch, each a permutation of the images.

    Batch k holds draws k B to (k + 1) B - 1 of the stream, of which a rank takes its share, so the batches do not
    depend on the number of devices.

    Args:
        length: Number of images.
        batch_size: B, samples over all ranks, a multiple of ``world``.
        steps: Length of the run, batches.
        start: Batches already taken; a resumed run goes on there.
        seed: Base of the permutations.
        rank: This process.
        world: Number of processes.
    """

    def __init__(
        self, length: int, batch_size: int, steps: int, start: int = 0, seed: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.steps = steps
        self.start = start
        self.seed = seed
        self.rank = rank
        self.world = world

    def __len__(self) -> int:
        return self.steps  # of the whole run: a resumed Lightning loop goes on counting from ``start``

    def __iter__(self) -> Iterator[list[Draw]]:
        share = self.batch_size // self.world
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for step in range(self.start, self.steps):
            batch = []
            first = step * self.batch_size + self.rank * share
            for place in range(first, first + share):
                if place // self.length != epoch:
                    epoch = place // self.length
                    order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
                position = place % self.length
                batch.append(Draw(int(order[position]), epoch, position))
            yield batch


class ShardSampler(Sampler[int]):
    """Every ``world``-th image from ``rank`` on: none twice, unlike torch's DistributedSampler, which pads.

    Args:
        length: Number of images.
        rank: This process.
        world: Number of processes.
    """

    def __init__(self, length: int, rank: int = 0, world: int = 1) -> None:
        self.indices = range(rank, length, world)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)
