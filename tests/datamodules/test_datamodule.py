"""Loaders of a datamodule that is attached to a Trainer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn

from datamodules.io.errors import InputError
from datamodules.loader import LoaderOptions, init_worker
from datamodules.proposals import (
    BoxInnerLabels,
    BoxLabels,
    GrabCutConsensusLabels,
    GrabCutLabels,
    LabelGenerator,
    Proposals,
    RecursiveBoxes,
    ScribbleSupLabels,
)
from datamodules.sample import Sample
from datamodules.shapes.datamodule import ShapesDataModule
from datamodules.transforms import RandomScaleCropFlip

CROPS = RandomScaleCropFlip(32, (0.8, 1.25))


def make_trainer(**options: Any) -> Trainer:
    settings = {"max_steps": 3, "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(**{**settings, "accelerator": "cpu", "enable_checkpointing": False, **options})


def make_data(
    trainer: Trainer | None = None, batch_size: int = 4, num_workers: int = 0, **options: Any
) -> ShapesDataModule:
    loader = LoaderOptions(batch_size, num_workers)
    data = ShapesDataModule(num_train=5, num_val=3, size=48, augmentation=CROPS, loader=loader, **options)
    data.trainer = trainer or make_trainer()
    return data


def train_batches(**options: Any) -> list[Sample]:
    return list(make_data(**options).train_dataloader())


def same(a: Sample, b: Sample) -> bool:
    return a["name"] == b["name"] and all(torch.equal(a[key], b[key]) for key in ("image", "target", "valid"))


class Recorder(LightningModule):
    """A network of one layer that records its training batches."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 1, 1)
        self.seen: list[Sample] = []

    def training_step(self, batch: Sample, _: int) -> Tensor:
        self.seen.append(batch)
        return self.layer(batch["image"] / 255).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_workers_change_nothing() -> None:
    alone, shared = train_batches(), train_batches(num_workers=2)
    assert len(alone) == 3
    assert all(same(a, b) for a, b in zip(alone, shared, strict=True))


def test_batches_are_a_function_of_the_seed() -> None:
    first, again, other = train_batches(seed=1), train_batches(seed=1), train_batches(seed=2)
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a["image"], b["image"]) for a, b in zip(first, other, strict=True))


def test_accumulated_batches_are_all_different() -> None:
    """Two optimizer steps of three batches each see the first six batches of the stream."""
    recorder = Recorder()
    make_trainer(max_steps=2, accumulate_grad_batches=3).fit(recorder, datamodule=make_data())
    stream = list(make_data(make_trainer(max_steps=6)).train_dataloader())
    assert all(same(a, b) for a, b in zip(recorder.seen, stream, strict=True))


def test_batch_is_collated() -> None:
    batch = train_batches(supervision="full")[0]
    assert (batch["image"].dtype, batch["image"].shape) == (torch.uint8, (4, 3, 32, 32))
    assert (batch["target"].dtype, batch["target"].shape) == (torch.uint8, (4, 32, 32))
    assert (batch["valid"].dtype, batch["valid"].shape) == (torch.bool, (4, 32, 32))
    assert len(batch["name"]) == 4


def test_resumed_run_sees_the_batches_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, first, second = Recorder(), Recorder(), Recorder()
    make_trainer(max_steps=5).fit(whole, datamodule=make_data())
    interrupted = make_trainer(max_steps=2)
    interrupted.fit(first, datamodule=make_data())
    interrupted.save_checkpoint(tmp_path / "last.ckpt")
    make_trainer(max_steps=5).fit(second, datamodule=make_data(), ckpt_path=tmp_path / "last.ckpt")
    assert len(whole.seen) == 5
    assert len(second.seen) == 3
    assert all(same(a, b) for a, b in zip(whole.seen, first.seen + second.seen, strict=True))


def test_rank_takes_its_share_of_each_batch() -> None:
    pair = make_trainer(devices=2, strategy="ddp")
    for whole, half in zip(train_batches(), make_data(pair).train_dataloader(), strict=True):
        assert half["name"] == whole["name"][:2]
        assert torch.equal(half["image"], whole["image"][:2])


def test_ranks_share_the_images_without_repetition() -> None:
    names = []
    for rank in range(2):
        pair = make_trainer(devices=2, strategy="ddp")
        pair.strategy.cluster_environment.set_global_rank(rank)
        names.append([batch["name"] for batch in make_data(pair).val_dataloader()])
    assert names == [[["shapes_1_0000", "shapes_1_0002"]], [["shapes_1_0001"]]]


@pytest.mark.parametrize(("devices", "batch_size"), [(1, 1), (2, 5), (2, 2), (4, 4)])
def test_batch_size_that_devices_cannot_share_is_refused(devices: int, batch_size: int) -> None:
    trainer = make_trainer(devices=devices, strategy="ddp" if devices > 1 else "auto")
    with pytest.raises(ValueError, match=f"batch_size {batch_size} cannot be shared by {devices} devices; use"):
        make_data(trainer, batch_size=batch_size).train_dataloader()


def test_fewer_images_than_devices_are_refused() -> None:
    with pytest.raises(ValueError, match="3 images cannot be shared by 4 devices; use fewer"):
        make_data(make_trainer(devices=4, strategy="ddp")).val_dataloader()


def test_run_without_a_number_of_steps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"pass --trainer\.max_steps"):
        make_data(make_trainer(max_steps=-1, max_epochs=1)).train_dataloader()


def test_loaders_without_a_trainer_are_refused() -> None:
    with pytest.raises(RuntimeError, match="to a Trainer"):
        ShapesDataModule(num_train=2, num_val=2, size=48).val_dataloader()


def test_evaluation_reads_every_image_whole_and_in_order() -> None:
    data = make_data()
    for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        (batch,) = loader
        assert batch["name"] == [f"shapes_1_000{index}" for index in range(3)]
        for index in range(3):
            assert torch.equal(batch["target"][index], torch.from_numpy(data.val_split().dense_mask(index)))
        assert batch["valid"].all()
    assert data.num_classes == len(data.class_names) == 6


def test_all_loaders_set_up_their_processes() -> None:
    data = make_data(num_workers=1)
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader(), data.predict_dataloader())
    assert all(loader.worker_init_fn is init_worker for loader in loaders)


def test_accumulated_batches_warn_of_batch_norm(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    pair = make_trainer(devices=2, strategy="ddp", max_steps=2, accumulate_grad_batches=3)
    with pytest.warns(UserWarning, match="batches of 4 samples and not the 12 of a step"):
        make_data(pair).train_dataloader()
    assert "Samples per step: 2 per device x 2 devices x 3 batches = 12" in caplog.text


@pytest.mark.parametrize(
    ("supervision", "generator"),
    [
        *(("clicks", each) for each in (BoxLabels(), BoxInnerLabels(), GrabCutLabels(), GrabCutConsensusLabels())),
        ("scribbles", RecursiveBoxes(BoxLabels())),
        ("boxes", ScribbleSupLabels()),
        ("tags", ScribbleSupLabels()),
    ],
)
def test_generator_of_other_labels_is_refused(supervision: str, generator: LabelGenerator) -> None:
    """It would label images with the wrong class or not at all."""
    message = f"{type(generator).__name__} makes label maps from .*, and supervision is '{supervision}'; choose"
    with pytest.raises(InputError, match=message):
        make_data(supervision=supervision, proposals=Proposals(generator))
