"""The label maps of all rounds of a run.

::

    CACHE_DIR/KEY/NAME.png    first round; KEY is :func:`~datamodules.proposals.cache_key.cache_key`
    RUN/proposals/K/NAME.png  round K = 2, 3, ...
    FOLDER/complete           appears when all label maps of a folder are written
"""

import io
import shutil
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import Event, parent_process
from multiprocessing.synchronize import Event as EventType
from pathlib import Path
from typing import Self

from PIL import Image as PILImage
from pytorch_lightning import Trainer

from datamodules.annotations import LabelMap
from datamodules.dataset import SegmentationDataset
from datamodules.io.atomic import atomic_write
from datamodules.io.errors import InputError
from datamodules.io.images import in_threads, read_label_map
from datamodules.proposals.cache_key import cache_key
from datamodules.proposals.generator import LabelGenerator
from datamodules.proposals.options import Proposals
from datamodules.proposals.propose import Predict, propose

POLL_S = 0.1


@dataclass(frozen=True)
class ProposalRounds:
    """Makes and reads the label maps of a run.

    Args:
        dataset: Training images with weak labels.
        generator: Makes a label map.
        cache_dir: See :class:`~datamodules.proposals.Proposals`.
        run: Folder of the run.
        rounds: Number of rounds.
        steps: Number of optimizer steps of the run.
        num_classes: C.
        batches_per_step: Number of batches that are accumulated into a step.
    """

    dataset: SegmentationDataset
    generator: LabelGenerator
    cache_dir: Path
    run: Path
    rounds: int
    steps: int
    num_classes: int
    batches_per_step: int = 1
    _abandoned: EventType = field(default_factory=Event, compare=False)

    @classmethod
    def of_run(
        cls,
        trainer: Trainer,
        dataset: SegmentationDataset,
        generator: LabelGenerator,
        options: Proposals,
        num_classes: int,
    ) -> Self:
        """Return the label maps of the run of a trainer."""
        folders = Path(options.cache_dir), Path(trainer.default_root_dir)
        steps = trainer.max_steps, num_classes, trainer.accumulate_grad_batches
        return cls(dataset, generator, *folders, options.rounds, *steps)

    def round_of(self, step: int) -> int:
        """Return the round, 1 or more, of an optimizer step. All batches of a step are in the same round."""
        return min(step * self.rounds // self.steps, self.rounds - 1) + 1

    def folder(self, number: int) -> Path:
        """Return the folder of the label maps of a round."""
        return self.cache_dir / self._key if number == 1 else self.run / "proposals" / str(number)

    def is_complete(self, number: int) -> bool:
        """Return whether all label maps of a round are written."""
        return (self.folder(number) / "complete").is_file()

    def mark_complete(self, number: int) -> None:
        """Let the loader processes read the label maps of a round."""
        (self.folder(number) / "complete").touch()

    def discard_later(self, step: int) -> None:
        """Remove label maps of rounds after that of a step, which an earlier run or attempt has left."""
        for number in range(self.round_of(step) + 1, self.rounds + 1):
            shutil.rmtree(self.folder(number), ignore_errors=True)

    def abandon(self) -> None:
        """Release the loader processes that wait for a round, since the run ends before it."""
        self._abandoned.set()

    @property
    def is_abandoned(self) -> bool:
        """Whether the run has ended before its last round."""
        return self._abandoned.is_set()

    def read(self, index: int, batch: int) -> LabelMap:
        """Return the label map of an image in the round of a batch, uint8 (H, W).

        Loader processes are ahead of the training. They wait here until the round has begun.

        Raises:
            RuntimeError: The run has ended before the round began.
        """
        number = self.round_of(batch // self.batches_per_step)
        parent = parent_process()  # None if the training process itself reads
        while not self.is_complete(number):
            if self._abandoned.wait(POLL_S) or not (parent is None or parent.is_alive()):  # it may have been killed
                raise RuntimeError(f"The run ended before round {number} began.")
        return read_label_map(self._path(index, number), self.num_classes)

    def make_first(self) -> None:
        """Make the label maps of the first round, unless they are there.

        Raises:
            InputError: The folder cannot be written, or an image has a label map instead of annotations.
        """
        if self.is_complete(1):
            return
        try:
            self.make(1, range(len(self.dataset)), None)
            self.mark_complete(1)
        except OSError as error:
            remedy = "name a different folder with --data.proposals.cache_dir"
            raise InputError(f"{self.cache_dir} cannot hold proposals ({error}); {remedy}.") from error

    def make(self, number: int, indices: range, predict: Predict | None) -> None:
        """Make the label maps of some images, unless they are there.

        Args:
            number: The round.
            indices: Indices of the images.
            predict: Returns the predictions of the network; ``None`` in the first round.
        """
        self.folder(number).mkdir(parents=True, exist_ok=True)

        def make_one(place: int) -> None:
            path = self._path(indices[place], number)
            if not path.is_file():
                _write(path, propose(self.generator, self.dataset, indices[place], predict))

        text = f"Proposals of round {number}"
        for _ in in_threads(make_one, len(indices), text):
            pass

    def _path(self, index: int, number: int) -> Path:
        return self.folder(number) / f"{self.dataset.name(index)}.png"

    @cached_property
    def _key(self) -> str:
        return cache_key(self.generator, self.dataset)


def _write(path: Path, labels: LabelMap) -> None:
    content = io.BytesIO()
    PILImage.fromarray(labels).save(content, format="PNG")
    atomic_write(path, content.getbuffer())
