"""The base class of all datamodules."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from pytorch_lightning import LightningDataModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch.utils.data import DataLoader

from datamodules.annotations import check_stroke_width
from datamodules.batches import ImageBatches, batches_of_equal_size
from datamodules.dataset import AugmentedCrops, SegmentationDataset, WholeImages
from datamodules.extra_inputs import ExtraInputs
from datamodules.image_cache import CachedImages, build_cache
from datamodules.io.errors import InputError, distinct, refuse
from datamodules.io.images import in_threads
from datamodules.label_counts import count_labels
from datamodules.loader import LoaderOptions
from datamodules.proposals import Proposals
from datamodules.proposals.rounds import ProposalRounds
from datamodules.sample import Sample
from datamodules.sampler import StreamBatchSampler
from datamodules.transforms import RandomScaleCropFlip
from datamodules.validation import CheckReport, check_splits


class SegmentationDataModule(LightningDataModule, ABC):
    """Loaders of augmented crops for training and of whole images for evaluation.

    A subclass sets ``class_names`` and ``supervisions``, and returns a
    :class:`~datamodules.dataset.SegmentationDataset` from ``train_split`` and ``val_split``.

    Args:
        supervision: Training labels, one of ``supervisions``.
        augmentation: Makes training crops.
        stroke_width: Width of clicks and scribbles, pixels of the crop, odd.
        loader: Batch size, loader processes and cache.
        seed: Seed of the order of the images and of the augmentation.
        proposals: Label maps made from boxes, clicks or scribbles, and objectness maps.

    Raises:
        InputError: The supervision is unknown, the generator of proposals cannot read it, or the stroke width is even.
    """

    supervisions: ClassVar[tuple[str, ...]]
    class_names: list[str]
    label_ids: Sequence[int] | None = None
    """Values that a benchmark server expects instead of class indices."""

    def __init__(
        self,
        supervision: str,
        augmentation: RandomScaleCropFlip,
        stroke_width: int,
        loader: LoaderOptions,
        seed: int,
        proposals: Proposals = Proposals(),
    ) -> None:
        super().__init__()
        if supervision not in self.supervisions:
            raise InputError(f"supervision is {supervision!r}; this dataset has {', '.join(self.supervisions)}.")
        check_stroke_width(stroke_width)
        self.supervision = supervision
        self.augmentation = augmentation
        self.stroke_width = stroke_width
        self.loader = loader
        self.seed = seed
        self.proposals = proposals
        self.label_generator = proposals.generator_for(supervision, stroke_width)
        self._rounds: tuple[Trainer, ProposalRounds] | None = None
        self._inputs: tuple[str, ...] = ()  # optional fields of a sample
        self._shapes: dict[str, list[tuple[int, int]]] = {}  # (H, W) of whole images, measured once per split

    @abstractmethod
    def train_split(self) -> SegmentationDataset:
        """Return the training images with the labels of the chosen supervision."""

    @abstractmethod
    def val_split(self) -> SegmentationDataset:
        """Return the validation images with dense masks."""

    def predict_split(self) -> SegmentationDataset:
        """Return the images to predict: by default the validation images."""
        return self.val_split()

    def quick_problems(self, split: str) -> Iterator[InputError]:
        """Yield errors of "train", "val" or "predict" that are found without decoding every image."""
        yield from ()

    def split_to_check(self, split: str) -> SegmentationDataset:
        """Return "train" or "val" for :meth:`check`."""
        return self.train_split() if split == "train" else self.val_split()

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)

    def prepare_data(self) -> None:
        """Run the quick checks of the splits that this stage reads. Build the image cache for training.

        Raises:
            InputError: A check failed, the images to cache are not in files, or the disk is too small.
        """
        stage = None if self.trainer is None else self.trainer.state.fn
        evaluates = stage in (TrainerFn.VALIDATING, TrainerFn.TESTING)
        splits = ["predict"] if stage == TrainerFn.PREDICTING else ["val"] if evaluates else ["train", "val"]
        refuse(distinct(problem for split in splits for problem in self.quick_problems(split)))
        if "train" not in splits:
            return
        if self.loader.image_cache is not None:
            build_cache(self.train_split(), Path(self.loader.image_cache))
        if self.trainer is not None and (rounds := self.proposal_rounds()):
            rounds.make_first()

    def check(self) -> CheckReport:
        """Read every file of the training and validation images and collect all errors."""
        return check_splits(self)

    def label_histogram(self) -> list[int]:
        """Return the number of training labels per class: clicks, or labeled pixels if there are other labels."""
        labels = count_labels(self.train_split(), self.stroke_width).labels
        return [labels[index] for index in range(self.num_classes)]

    def request(self, inputs: Sequence[str]) -> None:
        """Add optional fields, ``tags``, ``objectness`` or ``ranks``, to the training samples.

        Raises:
            InputError: Image tags are the only labels, and ``inputs`` lacks them.
        """
        if self.supervision == "tags" and "tags" not in inputs:
            raise InputError(
                "Image tags label no pixels; choose a loss that reads them: -c losses/whats_the_point.yaml"
            )
        self._inputs = tuple(inputs)

    def proposal_rounds(self) -> ProposalRounds | None:
        """Return the label maps of this run, or ``None`` if it trains on the weak labels themselves."""
        if self.label_generator is None:
            return None
        trainer = self._trainer()
        if self._rounds is None or self._rounds[0] is not trainer or self._rounds[1].is_abandoned:  # another run
            arguments = self.label_generator, self.proposals, self.num_classes
            self._rounds = trainer, ProposalRounds.of_run(trainer, self.train_split(), *arguments)
        return self._rounds[1]

    def train_dataloader(self) -> DataLoader[Sample]:
        """Return a loader of all remaining steps of the run."""
        trainer, batch_size = self._trainer(), self.loader.batch_size
        devices, per_step = trainer.world_size, trainer.accumulate_grad_batches
        if trainer.max_steps < 1:
            raise InputError("The learning rate depends on the number of steps; pass --trainer.max_steps.")
        if batch_size % devices or batch_size < 2 * devices:
            remedy = "use a multiple of their number; BatchNorm needs at least 2 samples per device"
            raise InputError(f"batch_size {batch_size} cannot be shared by {devices} devices; {remedy}.")
        samples, share = batch_size * per_step, batch_size // devices
        rank_zero_info(f"Samples per step: {share} per device x {devices} devices x {per_step} batches = {samples}")
        if per_step > 1:
            rank_zero_warn(
                f"BatchNorm sees batches of {batch_size} samples and not the {samples} of a step, as "
                f"trainer.accumulate_grad_batches is {per_step}; for equal results, pass "
                f"--data.loader.batch_size={samples} on more devices."
            )
        split = self.train_split()
        if self.loader.image_cache is not None:
            split = CachedImages(split, Path(self.loader.image_cache))
        steps, start = trainer.max_steps * per_step, trainer.global_step * per_step
        sampler = StreamBatchSampler(
            len(split), batch_size, steps, start, self.seed, rank=trainer.global_rank, world=devices
        )
        labels = None
        if rounds := self.proposal_rounds():
            rounds.folder(1)  # computes its name once, and not in each loader process
            if trainer.is_global_zero:
                rounds.discard_later(trainer.global_step)
            labels = rounds.read
        objectness = None if self.proposals.objectness is None else Path(self.proposals.objectness)
        extra = ExtraInputs(self._inputs, self.num_classes, objectness) if self._inputs else None
        crops = AugmentedCrops(split, self.augmentation, self.seed, self.stroke_width, labels, extra)
        return DataLoader(crops, batch_sampler=sampler, **self.loader.processes(trainer.strategy.root_device))

    def val_dataloader(self) -> DataLoader[Sample]:
        """Return a loader of whole images, batched by size. Ranks share them without repetition."""
        return self._whole_images("val", self.val_split())

    def test_dataloader(self) -> DataLoader[Sample]:
        """Return the loader of the validation images."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader[Sample]:
        """Return a loader of the whole images of :meth:`predict_split`."""
        return self._whole_images("predict", self.predict_split())

    def _whole_images(self, name: str, split: SegmentationDataset) -> DataLoader[Sample]:
        trainer, length = self._trainer(), len(split)
        if length < trainer.world_size:
            raise InputError(f"{length} images cannot be shared by {trainer.world_size} devices; use fewer devices.")
        if name not in self._shapes:
            self._shapes[name] = list(in_threads(split.shape, length))
        share = range(trainer.global_rank, length, trainer.world_size)  # DistributedSampler would repeat images
        batches = batches_of_equal_size(share, self._shapes[name])
        # no batch_sampler: Lightning could not rebuild it for predictions
        return DataLoader(
            ImageBatches(WholeImages(split)),
            batch_size=None,
            sampler=batches,
            **self.loader.processes(trainer.strategy.root_device),
        )

    def _trainer(self) -> Trainer:
        if self.trainer is None:
            raise RuntimeError("Loaders depend on the run; pass this datamodule to a Trainer.")
        return self.trainer
