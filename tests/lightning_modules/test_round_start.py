"""A run in rounds: real trainings on the built-in dataset, with and without interruption."""

import multiprocessing
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import nn

from datamodules.annotations import Annotation, LabelMap
from datamodules.io.images import read_label_map
from datamodules.loader import LoaderOptions
from datamodules.proposals import BoxLabels, LabelGenerator, Proposals
from datamodules.shapes import ShapesDataModule
from datamodules.transforms import Image, RandomScaleCropFlip
from lightning_modules.fault_tolerance.step_guard import NonFiniteError, StepGuard
from lightning_modules.inference import Inference
from lightning_modules.weak_segmentation import WeakSegmentation
from losses import PartialCrossEntropyLoss


@dataclass(frozen=True)
class Predicted(LabelGenerator):
    """Boxes, then what the network predicts."""

    def __call__(
        self, image: Image, labels: list[Annotation], probs: NDArray[np.float32] | None, rng: np.random.Generator
    ) -> LabelMap:
        return BoxLabels()(image, labels, None, rng) if probs is None else np.asarray(probs.argmax(0), dtype=np.uint8)


@dataclass(frozen=True)
class Slow(Predicted):
    """Takes longer in process 1."""

    def __call__(
        self, image: Image, labels: list[Annotation], probs: NDArray[np.float32] | None, rng: np.random.Generator
    ) -> LabelMap:
        time.sleep(0.2 * torch.distributed.get_rank())
        return super().__call__(image, labels, probs, rng)


class Halfway(pl.Callback):
    """Saves what process 0 predicts after the third step."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "predicted.npy"

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        if trainer.global_step == 3 and trainer.is_global_zero and not self.file.exists():
            split = trainer.datamodule.train_split()  # type: ignore[attr-defined]
            images = torch.from_numpy(np.stack([split.image(index) for index in range(len(split))]))
            module.eval()
            with torch.no_grad():
                np.save(self.file, module(images.permute(0, 3, 1, 2)).argmax(1).byte().numpy())
            module.train()


def proposals(run: Path) -> NDArray[np.uint8]:
    """Return the label maps of the second round, (N, H, W)."""
    return np.stack([read_label_map(file, 6) for file in sorted((run / "proposals/2").glob("*.png"))])


def build(folder: Path, workers: int = 0) -> tuple[WeakSegmentation, ShapesDataModule]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 1))
    proposals = Proposals(Predicted(), rounds=2, cache_dir=str(folder / "cache"))
    data = ShapesDataModule(
        "boxes", 4, 2, 32, RandomScaleCropFlip(16), 1, LoaderOptions(2, workers), seed=0, proposals=proposals
    )
    return WeakSegmentation(network, PartialCrossEntropyLoss(), data.class_names, learning_rate=0.1), data


class Deadline(pl.Callback):
    """Ends a run that would wait for a round forever."""

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        timer = threading.Timer(60, trainer.datamodule.proposal_rounds().abandon)  # type: ignore[attr-defined]
        timer.daemon = True
        timer.start()


class FailAt(pl.Callback):
    """Raises an error after a step, when the loader is two batches ahead."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.workers: list[Any] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            time.sleep(1)
            self.workers = list(multiprocessing.active_children())
            raise RuntimeError("the run fails")


def trained(folder: Path, trainer: Callable[..., pl.Trainer], workers: int = 0, **options: Any) -> WeakSegmentation:
    model, data = build(folder, workers)
    data, model.inference = options.pop("data", data), options.pop("inference", model.inference)
    checkpoint = options.pop("ckpt_path", None)
    settings = {"val_check_interval": 100, "check_val_every_n_epoch": None, "num_sanity_val_steps": 0, **options}
    pl.seed_everything(0, verbose=False)
    settings["callbacks"] = [Deadline(), *settings.get("callbacks", [])]
    settings = {"max_steps": 6, "use_distributed_sampler": False, "log_every_n_steps": 1, **settings}
    run = trainer(settings.pop("name", "run"), **settings)
    run.fit(model, datamodule=data, ckpt_path=checkpoint)
    return model


@pytest.mark.parametrize(("workers", "steps", "per_step"), [(0, 6, 1), (1, 6, 1), (0, 5, 3)])
def test_second_round_is_trained_on_the_predictions_after_the_first(
    workers: int, steps: int, per_step: int, tmp_path: Path, trainer: Callable[..., pl.Trainer]
) -> None:
    options = {"max_steps": steps, "accumulate_grad_batches": per_step, "callbacks": [Halfway(tmp_path)]}
    model = trained(tmp_path, trainer, workers, **options)
    np.testing.assert_array_equal(proposals(tmp_path / "run"), np.load(tmp_path / "predicted.npy"))
    assert all(child.training for child in model.network.modules())


def test_two_processes_share_the_images_of_a_round(tmp_path: Path, trainer: Callable[..., pl.Trainer]) -> None:
    """Each has its own BatchNorm statistics, and predicts with those of process 0. No one reads an unfinished round."""
    if torch.cuda.is_initialized():  # by an earlier test
        pytest.skip("processes that use a GPU cannot be forked")
    data = build(tmp_path)[1]
    slow = replace(data.proposals, generator=Slow())
    data = ShapesDataModule("boxes", 4, 2, 32, RandomScaleCropFlip(16), 1, LoaderOptions(4, 0), proposals=slow)
    options = {"strategy": "ddp_fork", "devices": 2, "callbacks": [Halfway(tmp_path)]}
    trained(tmp_path, trainer, data=data, **options)
    np.testing.assert_array_equal(proposals(tmp_path / "run"), np.load(tmp_path / "predicted.npy"))
    *made, complete = sorted((tmp_path / "run/proposals/2").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert (len(made), complete.name) == (4, "complete")


def test_label_maps_are_predicted_on_whole_images(tmp_path: Path, trainer: Callable[..., pl.Trainer]) -> None:
    """An evaluation of the center only changes no label map."""
    trained(tmp_path, trainer, name="whole")
    trained(tmp_path, trainer, name="center", inference=Inference(crop=8))
    whole, center = (proposals(tmp_path / name) for name in ("whole", "center"))
    assert len(np.unique(whole[:, :8])) > 1
    np.testing.assert_array_equal(whole, center)


def test_weights_that_are_not_finite_make_no_label_maps(tmp_path: Path, trainer: Callable[..., pl.Trainer]) -> None:
    class Poison(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
            if trainer.global_step == 2:
                torch.nn.init.constant_(module.network[0].weight, torch.nan)

    with pytest.raises(NonFiniteError, match="step 3"):
        trained(tmp_path, trainer, callbacks=[StepGuard(), Poison()])
    assert not (tmp_path / "run/proposals/2").exists()


def test_label_maps_of_an_earlier_run_in_the_folder_are_not_used(
    tmp_path: Path, trainer: Callable[..., pl.Trainer]
) -> None:
    stale = tmp_path / "run/proposals/2"
    stale.mkdir(parents=True)
    (stale / "complete").touch()
    trained(tmp_path, trainer, 1)
    assert len(list(stale.glob("*.png"))) == 4


def test_run_stopped_at_the_end_of_a_round_continues_exactly(
    tmp_path: Path, trainer: Callable[..., pl.Trainer]
) -> None:
    """The checkpoint is from before the label maps of the second round were made."""

    class Save(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 3:
                trainer.save_checkpoint(tmp_path / "half.ckpt")

    whole = trained(tmp_path, trainer, callbacks=[Save()])
    for file in (tmp_path / "run/proposals/2").iterdir():
        file.unlink()
    resumed = trained(tmp_path, trainer, ckpt_path=tmp_path / "half.ckpt")
    for before, after in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(before, after)


def test_loader_processes_end_with_a_run_that_stops_before_the_next_round(
    tmp_path: Path, trainer: Callable[..., pl.Trainer]
) -> None:
    """They ignore the signal that torch sends them, and wait for the label maps of the second round."""
    fail = FailAt(2)
    with pytest.raises(RuntimeError, match="the run fails"):
        trained(tmp_path, trainer, 1, callbacks=[fail])
    assert fail.workers
    for worker in fail.workers:
        worker.join(timeout=20)
        assert not worker.is_alive()


def test_a_second_run_of_a_datamodule_has_its_own_label_maps(
    tmp_path: Path, trainer: Callable[..., pl.Trainer]
) -> None:
    """Also after a run that has failed, whose loader processes were released."""
    data = build(tmp_path, workers=1)[1]
    with pytest.raises(RuntimeError, match="the run fails"):
        trained(tmp_path, trainer, data=data, name="failed", callbacks=[FailAt(2)])
    trained(tmp_path, trainer, data=data, name="first")
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "first/proposals/2").iterdir()}
    trained(tmp_path, trainer, data=data, name="second")
    assert len(list((tmp_path / "second/proposals/2").glob("*.png"))) == 4
    assert made == {path: path.stat().st_mtime_ns for path in (tmp_path / "first/proposals/2").iterdir()}


def test_a_run_that_failed_is_repeated_with_the_same_trainer(
    tmp_path: Path, trainer: Callable[..., pl.Trainer]
) -> None:
    model, data = build(tmp_path, workers=1)
    fail = FailAt(2)
    settings = {"val_check_interval": 100, "check_val_every_n_epoch": None, "num_sanity_val_steps": 0}
    run = trainer("run", max_steps=6, use_distributed_sampler=False, callbacks=[Deadline(), fail], **settings)
    with pytest.raises(RuntimeError, match="the run fails"):
        run.fit(model, datamodule=data)
    fail.step = -1
    run.fit(model, datamodule=data)
    assert run.global_step == 6
