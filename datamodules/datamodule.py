"""The LightningDataModule that every dataset shares."""

import signal
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pytorch_lightning import LightningDataModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch.utils.data import DataLoader

from datamodules.annotations import check_stroke_width
from datamodules.dataset import AugmentedCrops, SegmentationDataset, WholeImages
from datamodules.image_cache import CachedImages, build_cache
from datamodules.io.errors import InputError, distinct, refuse
from datamodules.sample import Sample
from datamodules.sampler import ShardSampler, StreamBatchSampler
from datamodules.transforms import RandomScaleCropFlip
from datamodules.validation import CheckReport, count_labels, find_problems


@dataclass(frozen=True)
class LoaderOptions:
    """How samples reach the device.

    Args:
        batch_size: Samples per batch, over all devices together.
        num_workers: Loader processes per device. Affects speed only.
        image_cache: Folder for the decoded training images, 3 bytes per pixel, so that no epoch decodes them again. It
            is built before the first step, and again when a file has changed. All loader processes, devices and runs
            on a machine share it. ``None`` decodes every time. Affects speed only.
    """

    batch_size: int = 16
    num_workers: int = 4
    image_cache: str | None = None


class SegmentationDataModule(LightningDataModule, ABC):
    """Loaders of augmented crops for training and of whole images for evaluation.

    Subclasses set ``class_names`` and ``supervisions``, and make the splits.

    Args:
        supervision: What training may see, one of ``supervisions``.
        augmentation: Makes a training crop of an image.
        stroke_width: Width of clicks and strokes, pixels of the crop, odd.
        loader: Batch size, loader processes and cache.
        seed: Base of the order of the images and of the augmentation.

    Raises:
        InputError: An unknown supervision or an even stroke width.
    """

    supervisions: ClassVar[tuple[str, ...]]
    class_names: list[str]
    label_ids: Sequence[int] | None = None
    """What a benchmark server wants instead of class indices."""

    def __init__(
        self, supervision: str, augmentation: RandomScaleCropFlip, stroke_width: int, loader: LoaderOptions, seed: int
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

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)

    def prepare_data(self) -> None:
        """Refuse what is seen at once to be wrong, and decode the training images of a run that trains, if cached.

        Raises:
            InputError: Something is wrong, or the images to cache are in no files or take more than the disk has; the
                message names the remedy.
        """
        stage = None if self.trainer is None else self.trainer.state.fn
        evaluated = {TrainerFn.PREDICTING: ["predict"], TrainerFn.VALIDATING: ["val"], TrainerFn.TESTING: ["val"]}
        splits = evaluated.get(stage, ["train", "val"]) if stage else ["train", "val"]
        refuse(distinct(problem for split in splits for problem in self.quick_problems(split)))
        if self.loader.image_cache is not None and "train" in splits:
            build_cache(self.train_split(), Path(self.loader.image_cache))

    @abstractmethod
    def train_split(self) -> SegmentationDataset:
        """Images with the labels that training may see."""

    @abstractmethod
    def val_split(self) -> SegmentationDataset:
        """Images with dense truth."""

    def quick_problems(self, split: str) -> Iterator[InputError]:
        """Yield what is wrong with a split as far as it can be seen without decoding all of it.

        Args:
            split: "train", "val" or "predict".
        """
        yield from ()

    def split_to_check(self, split: str) -> SegmentationDataset:
        """Return "train" or "val" with its files as they are."""
        return self.train_split() if split == "train" else self.val_split()

    def check(self) -> CheckReport:
        """Read every file of both splits, and go on after what is wrong."""
        images, problems = dict[str, int](), list[InputError]()
        for split in ("train", "val"):
            try:
                for problem in self.quick_problems(split):
                    problems.append(problem)  # kept if the next one cannot be looked for
                opened = self.split_to_check(split)
            except ValueError as error:
                problems.append(InputError(str(error), "cannot be opened", split))
            else:
                images[split] = len(opened)
                problems += find_problems(opened, training=split == "train")
        return CheckReport(images, distinct(problems))

    def label_histogram(self) -> list[int]:
        """Return the number of labels of each class in the training images: clicks, or pixels of other labels."""
        labels = count_labels(self.train_split(), self.stroke_width).labels
        return [labels[index] for index in range(self.num_classes)]

    def train_dataloader(self) -> DataLoader[Sample]:
        """All steps that are left of the run as one pass."""
        trainer = self._trainer()
        if trainer.max_steps < 1:
            raise InputError(
                "The length of a run is set in steps, as the learning rate needs it: pass --trainer.max_steps."
            )
        batch_size, devices = self.loader.batch_size, trainer.world_size
        if batch_size % devices or batch_size < 2 * devices:
            raise InputError(
                f"batch_size {batch_size} cannot be shared by {devices} devices; use a multiple of "
                "their number with at least 2 samples each, which BatchNorm needs."
            )
        per_step = trainer.accumulate_grad_batches
        self._announce_batch(trainer.world_size, per_step)
        split = self.train_split()
        if self.loader.image_cache is not None:
            split = CachedImages(split, Path(self.loader.image_cache))
        sampler = StreamBatchSampler(
            length=len(split),
            batch_size=self.loader.batch_size,
            steps=trainer.max_steps * per_step,
            start=trainer.global_step * per_step,
            seed=self.seed,
            rank=trainer.global_rank,
            world=trainer.world_size,
        )
        crops = AugmentedCrops(split, self.augmentation, self.seed, self.stroke_width)
        return DataLoader(crops, batch_sampler=sampler, **self._workers())

    def _announce_batch(self, devices: int, batches: int) -> None:
        """Say how many samples make a step, and how many of them BatchNorm sees together."""
        share, samples = self.loader.batch_size // devices, self.loader.batch_size * batches
        rank_zero_info(f"Samples per step: {share} per device x {devices} devices x {batches} batches = {samples}")
        if batches > 1:
            rank_zero_warn(
                f"BatchNorm sees batches of {self.loader.batch_size} samples and not the {samples} of a step, as "
                f"trainer.accumulate_grad_batches is {batches}; --data.loader.batch_size={samples} on more devices is "
                "exact."
            )

    def predict_split(self) -> SegmentationDataset:
        """Images to predict; the validation images unless a dataset has others."""
        return self.val_split()

    def val_dataloader(self) -> DataLoader[Sample]:
        """Whole images one by one, since they differ in size; each rank has its share and none twice."""
        return self._whole_images(self.val_split())

    def test_dataloader(self) -> DataLoader[Sample]:
        """Return the validation images."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader[Sample]:
        """Whole images of :meth:`predict_split`."""
        return self._whole_images(self.predict_split())

    def _whole_images(self, split: SegmentationDataset) -> DataLoader[Sample]:
        trainer = self._trainer()
        images = WholeImages(split)
        if len(images) < trainer.world_size:
            raise InputError(
                f"{len(images)} images cannot be shared by {trainer.world_size} devices; use fewer devices."
            )
        sampler = ShardSampler(len(images), trainer.global_rank, trainer.world_size)
        return DataLoader(images, batch_size=1, sampler=sampler, **self._workers())

    def _trainer(self) -> Trainer:
        if self.trainer is None:
            raise RuntimeError("The loaders depend on the run: pass this datamodule to a Trainer.")
        return self.trainer

    def _workers(self) -> dict[str, Any]:
        return {
            "num_workers": self.loader.num_workers,
            "worker_init_fn": _leave_signals_to_the_run,
            "persistent_workers": self.loader.num_workers > 0,
            "pin_memory": self._trainer().strategy.root_device.type == "cuda",
        }


def _leave_signals_to_the_run(worker: int) -> None:
    """Ignore in a loader process what stops a run: sent to a whole group, it would break the run amid a step."""
    for signum in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(signum, signal.SIG_IGN)
