"""The training sampler: a batch depends on the seed and the step, not on workers, devices or resuming."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler


class Draw(NamedTuple):
    """One training item: index of the image, epoch and position in it, which seed the augmentation, and batch."""

    image: int
    epoch: int
    position: int
    batch: int = 0


@dataclass(eq=False)
class StreamBatchSampler(Sampler[list[Draw]]):
    """All batches of a run. Each epoch is a permutation of the images; batches may cross epochs.

    Batch k holds draws k B to (k + 1) B - 1 of the stream. Ranks share each batch, so batches do not depend on the
    number of devices.

    Args:
        length: Number of images.
        batch_size: B, samples over all ranks, a multiple of ``world``.
        steps: Number of batches of the run.
        start: Number of batches to skip when a run is resumed.
        seed: Seed of the permutations.
        rank: Index of this process.
        world: Number of processes.
    """

    length: int
    batch_size: int
    steps: int
    start: int = 0
    seed: int = 0
    rank: int = 0
    world: int = 1

    def __len__(self) -> int:
        return self.steps  # of the whole run: Lightning's loop counts from ``start`` after a resume

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
                batch.append(Draw(int(order[position]), epoch, position, step))
            yield batch
