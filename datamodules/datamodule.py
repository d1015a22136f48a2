"""The LightningDataModule that every dataset shares."""

import signal
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningDataModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch.utils.data import DataLoader

from datamodules.dataset import AugmentedCrops, SegmentationDataset, WholeImages
from datamodules.image_cache import CachedImages, build_cache
from datamodules.io.errors import DataError, distinct, refuse
from datamodules.sample import Sample
from datamodules.sampler import ShardSampler, StreamBatchSampler
from datamodules.transforms import RandomScaleCropFlip
from datamodules.validation import Findings, count_labels, find_problems

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class SegmentationDataModule(LightningDataModule, ABC):
    """Loaders of augmented crops for training and of whole images for evaluation.

    Subclasses set ``class_names`` and make the splits.

    Args:
        crop: Side of the training crops, pixels.
        scale: Bounds of the random zoom.
        flip: Probability of the horizontal flip.
        width: Width of clicks and strokes, 1 or 3 pixels of the crop.
        batch_size: Samples per batch, over all devices together.
        num_workers: Loader processes per device; changes nothing but speed.
        mean: Per RGB channel on the scale 0 to 255, for standardization. The defaults are ImageNet's, as in the
            authors' code, so that a pretrained backbone sees what it was trained on.
        std: Likewise.
        seed: Base of the order of the images and of the augmentation.
        image_cache: Folder to keep the decoded training images in, 3 bytes per pixel, which spares decoding them in
            every epoch: built before the first step and again when a file has changed, read by the loader processes of
            all devices and runs. ``None`` decodes every time. It changes nothing but speed.
        window_scale: Draw the size of the window instead of the zoom, see :class:`RandomScaleCropFlip`.

    Raises:
        ValueError: A batch size that the devices cannot share equally, or that leaves a device one sample.
    """

    class_names: list[str]
    label_ids: Sequence[int] | None = None
    """What a benchmark server wants instead of class indices."""

    def __init__(
        self,
        crop: int,
        scale: tuple[float, float],
        flip: float,
        width: int,
        batch_size: int,
        num_workers: int,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int,
        image_cache: str | None = None,
        window_scale: bool = False,
    ) -> None:
        super().__init__()
        self.transform = RandomScaleCropFlip(crop, scale, flip, width, window_scale)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.mean = list(mean)
        self.std = list(std)
        self.seed = seed
        self.image_cache = None if image_cache is None else Path(image_cache)

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)

    def prepare_data(self) -> None:
        """Refuse what is seen at once to be wrong, and decode the training images of a run that trains, if cached.

        Raises:
            ValueError: Something is wrong, or the images to cache are in no files or take more than the disk has; the
                message names the remedy.
        """
        stage = None if self.trainer is None else self.trainer.state.fn
        evaluated = {TrainerFn.PREDICTING: ["predict"], TrainerFn.VALIDATING: ["val"], TrainerFn.TESTING: ["val"]}
        splits = evaluated.get(stage, ["train", "val"]) if stage else ["train", "val"]
        refuse(distinct(problem for split in splits for problem in self.quick_problems(split)))
        if self.image_cache is not None and "train" in splits:
            build_cache(self.train_split(), self.image_cache)

    @abstractmethod
    def train_split(self) -> SegmentationDataset:
        """Images with the labels that training may see."""

    @abstractmethod
    def val_split(self) -> SegmentationDataset:
        """Images with dense truth."""

    def quick_problems(self, split: str) -> Iterator[DataError]:
        """Yield what is wrong with a split as far as it can be seen without decoding all of it.

        Args:
            split: "train", "val" or "predict".
        """
        yield from ()

    def split_to_check(self, split: str) -> SegmentationDataset:
        """Return "train" or "val" with its files as they are."""
        return self.train_split() if split == "train" else self.val_split()

    def check(self) -> Findings:
        """Read every file of both splits, and go on after what is wrong."""
        images, problems = dict[str, int](), list[DataError]()
        for split in ("train", "val"):
            try:
                for problem in self.quick_problems(split):
                    problems.append(problem)  # kept if the next one cannot be looked for
                opened = self.split_to_check(split)
            except ValueError as error:
                problems.append(DataError(str(error), "cannot be opened", split))
            else:
                images[split] = len(opened)
                problems += find_problems(opened, training=split == "train")
        return Findings(images, distinct(problems))

    def label_histogram(self) -> list[int]:
        """Return the number of labels of each class in the training images: clicks, or pixels of other labels."""
        labels = count_labels(self.train_split(), self.transform.width).labels
        return [labels[index] for index in range(self.num_classes)]

    def train_dataloader(self) -> DataLoader[Sample]:
        """All steps that are left of the run as one pass."""
        trainer = self._trainer()
        if trainer.max_steps < 1:
            raise ValueError(
                "The length of a run is set in steps, as the learning rate needs it: pass --trainer.max_steps."
            )
        if self.batch_size % trainer.world_size or self.batch_size < 2 * trainer.world_size:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be shared by {trainer.world_size} devices; use a multiple of "
                "their number with at least 2 samples each, which BatchNorm needs."
            )
        per_step = trainer.accumulate_grad_batches
        self._announce_batch(trainer.world_size, per_step)
        split = self.train_split()
        if self.image_cache is not None:
            split = CachedImages(split, self.image_cache)
        sampler = StreamBatchSampler(
            length=len(split),
            batch_size=self.batch_size,
            steps=trainer.max_steps * per_step,
            start=trainer.global_step * per_step,
            seed=self.seed,
            rank=trainer.global_rank,
            world=trainer.world_size,
        )
        crops = AugmentedCrops(split, self.transform, self.seed)
        return DataLoader(crops, batch_sampler=sampler, **self._workers())

    def _announce_batch(self, devices: int, batches: int) -> None:
        """Say how many samples make a step, and how many of them BatchNorm sees together."""
        share, samples = self.batch_size // devices, self.batch_size * batches
        rank_zero_info(f"Samples per step: {share} per device x {devices} devices x {batches} batches = {samples}")
        if batches > 1:
            rank_zero_warn(
                f"BatchNorm sees batches of {self.batch_size} samples and not the {samples} of a step, as "
                f"trainer.accumulate_grad_batches is {batches}; --data.batch_size={samples} on more devices is exact."
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
            raise ValueError(
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
            "num_workers": self.num_workers,
            "worker_init_fn": _leave_signals_to_the_run,
            "persistent_workers": self.num_workers > 0,
            "pin_memory": self._trainer().strategy.root_device.type == "cuda",
        }


def _leave_signals_to_the_run(worker: int) -> None:
    """Ignore in a loader process what stops a run: sent to a whole group, it would break the run amid a step."""
    for signum in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(signum, signal.SIG_IGN)
