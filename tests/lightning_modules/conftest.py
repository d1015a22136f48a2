"""A real trainer on the CPU, a network with one layer, and images in memory."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from datamodules.batches import ImageBatches, batches_of_equal_size
from datamodules.sample import Sample
from lightning_modules.weak_segmentation import WeakSegmentation
from losses import PartialCrossEntropyLoss

Trainer = Callable[..., pl.Trainer]
Module = Callable[..., WeakSegmentation]
Loader = Callable[..., DataLoader[Sample]]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread, because the tensors are tiny."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    def build(folder: str = "", **options: Any) -> pl.Trainer:
        quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
        options = {**dict.fromkeys(quiet, False), **options}
        return pl.Trainer(accelerator="cpu", default_root_dir=tmp_path / folder, **options)

    return build


@pytest.fixture
def module() -> Module:
    """Four classes at a quarter of the resolution; "d" is never predicted."""

    def build(**options: Any) -> WeakSegmentation:
        torch.manual_seed(0)
        network = nn.Conv2d(3, 4, 3, stride=4, padding=1)
        nn.init.constant_(network.bias[3:], -1e3)
        nn.init.normal_(network.weight)
        options = {"class_names": "abcd", "mean": [120.0, 110, 100], "std": [60.0, 50, 40], **options}
        return WeakSegmentation(network, PartialCrossEntropyLoss(), **options)

    return build


@pytest.fixture
def loader() -> Loader:
    """Images of the given sizes with labels 0 to 2; a fifth of the pixels is unlabeled and the left column padded.

    Batch size ``None`` makes the batches of an evaluation.
    """

    def build(*sizes: tuple[int, int], batch_size: int | None = 1) -> DataLoader[Sample]:
        generator = torch.Generator().manual_seed(0)
        samples = []
        for index, (h, w) in enumerate(sizes):
            labels = torch.randint(3, (h, w), generator=generator)
            labels[torch.rand(h, w, generator=generator) < 0.2] = 255
            image = torch.randint(256, (3, h, w), generator=generator).to(torch.uint8)
            valid = torch.ones(h, w, dtype=torch.bool)
            valid[:, 0] = False
            samples.append(Sample(image=image, target=labels.to(torch.uint8), valid=valid, name=f"image{index}"))
        if batch_size is None:
            batches = batches_of_equal_size(range(len(sizes)), sizes)
            return DataLoader(ImageBatches(samples), batch_size=None, sampler=batches)
        return DataLoader(samples, batch_size=batch_size)

    return build
