"""The image cache has the same pixels, is built once or not at all, and is rebuilt when a file changes."""

import errno
import fcntl
import multiprocessing
import os
import pickle
import shutil
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from pytorch_lightning import Trainer
from pytorch_lightning.trainer.states import TrainerFn
from torch.utils.data import DataLoader

from datamodules.dataset import AugmentedCrops, SegmentationDataset
from datamodules.folder.datamodule import FolderDataModule
from datamodules.folder.dataset import FolderDataset
from datamodules.image_cache import CachedImages, build_cache
from datamodules.io.images import read_image
from datamodules.loader import LoaderOptions
from datamodules.sample import Sample
from datamodules.sampler import StreamBatchSampler
from datamodules.shapes.datamodule import ShapesDataModule
from datamodules.transforms import Image, RandomScaleCropFlip

Folder = Callable[..., FolderDataModule]


class Logging(FolderDataset):
    """Log every decoded image to a file, and take ``delay`` seconds for each."""

    log: Path
    delay = 0.0

    def image(self, index: int) -> Image:
        with self.log.open("a") as file:
            file.write(f"{index}\n")
        time.sleep(self.delay)
        return super().image(index)


def open_images(folder: Path, delay: float = 0.0, max_side: int | None = None) -> FolderDataset:
    dataset = Logging(sorted((folder / "images/train").iterdir()), None, 2, {}, max_side=max_side)
    object.__setattr__(dataset, "log", folder / "log.txt")
    object.__setattr__(dataset, "delay", delay)
    return dataset


def decoded(folder: Path) -> int:
    log = folder / "log.txt"
    return len(log.read_text().split()) if log.exists() else 0


def left(cache: Path) -> list[str]:
    """Return the suffixes of the files in a cache, without the lock."""
    return sorted(path.suffix for path in cache.glob("*") if path.suffix != ".lock")


@pytest.mark.parametrize("max_side", [None, 15])
def test_images_are_those_of_the_dataset_to_the_pixel(tree: Path, tmp_path: Path, max_side: int | None) -> None:
    dataset = open_images(tree, max_side=max_side)
    build_cache(dataset, tmp_path / "new" / "cache")
    cached = CachedImages(dataset, tmp_path / "new" / "cache")
    assert len(cached) == 3
    for index in range(3):
        image = cached.image(index)
        np.testing.assert_array_equal(image, dataset.image(index))
        if max_side is None:
            np.testing.assert_array_equal(image, read_image(dataset.images[index]))
        assert cached.shape(index) == dataset.shape(index) == image.shape[:2]
        assert cached.name(index) == dataset.name(index)
        with pytest.raises(ValueError, match="read-only"):
            image[0] = 0


def test_labels_and_masks_are_those_of_the_dataset(folder: Folder, tmp_path: Path) -> None:
    split = folder(supervision="full").train_split()
    build_cache(split, tmp_path)
    cached = CachedImages(split, tmp_path)
    for index in range(3):
        np.testing.assert_array_equal(cached.dense_mask(index), split.dense_mask(index))
        np.testing.assert_array_equal(cached.weak_labels(index), split.weak_labels(index))


def test_images_are_decoded_once(tree: Path, tmp_path: Path) -> None:
    build_cache(open_images(tree), tmp_path / "cache")
    assert decoded(tree) == 3
    build_cache(open_images(tree), tmp_path / "cache")
    cached = CachedImages(open_images(tree), tmp_path / "cache")
    assert cached.image(1).any()
    assert decoded(tree) == 3


def touch(tree: Path) -> None:
    path = tree / "images/train/train.0.jpg"
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def repaint(tree: Path) -> None:
    PILImage.new("RGB", (40, 30), (0, 200, 0)).save(tree / "images/train/train.0.jpg")


def add(tree: Path) -> None:
    PILImage.new("RGB", (9, 7), (0, 0, 200)).save(tree / "images/train/train.9.png")


def remove(tree: Path) -> None:
    (tree / "images/train/train.1.png").unlink()


@pytest.mark.parametrize("change", [touch, repaint, add, remove])
def test_changed_files_are_decoded_again_and_the_old_cache_is_removed(
    tree: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    build_cache(open_images(tree), tmp_path / "cache")
    old = CachedImages(open_images(tree), tmp_path / "cache")
    before = old.image(2).copy()
    change(tree)
    with pytest.raises(ValueError, match=r"no cache of these images as they are now; start again"):
        CachedImages(open_images(tree), tmp_path / "cache")
    dataset = open_images(tree)
    build_cache(dataset, tmp_path / "cache")
    new = CachedImages(dataset, tmp_path / "cache")
    for index in range(len(dataset)):
        np.testing.assert_array_equal(new.image(index), dataset.image(index))
    assert left(tmp_path / "cache") == [".json", ".rgb"]
    np.testing.assert_array_equal(old.image(2), before)  # a run that reads the old one is not disturbed


def test_caches_of_other_sizes_and_other_images_stay(tree: Path, tmp_path: Path) -> None:
    some = open_images(tree)
    everything = FolderDataset(sorted(tree.glob("images/*/*")), None, 2)
    for dataset in (some, open_images(tree, max_side=15), everything):
        build_cache(dataset, tmp_path / "cache")
    assert left(tmp_path / "cache") == 2 * [".json"] + 2 * [".rgb"]  # the first was a part of the last
    assert CachedImages(open_images(tree, max_side=15), tmp_path / "cache").image(0).shape == (11, 15, 3)
    assert CachedImages(everything, tmp_path / "cache").image(0).shape == everything.image(0).shape


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_disk_that_is_too_small_is_refused_before_anything_is_decoded(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 3 * (40 * 30 + 30 * 40 + 32 * 32)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - needed + 1, needed - 1))
    with pytest.raises(
        ValueError, match=r"take 0\.00 GiB but .*cache has 0\.00 GiB free; .*--data\.loader\.image_cache"
    ):
        build_cache(open_images(tree), tmp_path / "cache")
    assert decoded(tree) == 0
    assert left(tmp_path / "cache") == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - needed, needed))
    build_cache(open_images(tree), tmp_path / "cache")
    (pixels,) = (tmp_path / "cache").glob("*.rgb")
    assert pixels.stat().st_size == needed


def test_image_that_cannot_be_decoded_is_named_and_nothing_is_left(tree: Path, tmp_path: Path) -> None:
    path = tree / "images/train/train.0.jpg"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"train\.0\.jpg cannot be read as an image"):
        build_cache(open_images(tree), tmp_path / "cache")
    assert left(tmp_path / "cache") == []


def test_folder_that_cannot_be_made_is_refused(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file/cache cannot hold decoded images .*--data\.loader\.image_cache"):
        build_cache(open_images(tree), tmp_path / "file" / "cache")


def start_build(tree: Path, cache: Path, delay: float) -> BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=build_cache, args=(open_images(tree, delay), cache))
    process.start()
    return process


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_build_is_not_taken_for_a_cache(tree: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    build = start_build(tree, cache, delay=60)
    wait_until(lambda: decoded(tree) > 0)
    build.kill()
    build.join()
    assert left(cache) == [".part"]
    with pytest.raises(ValueError, match="no cache of these images"):
        CachedImages(open_images(tree), cache)
    build_cache(open_images(tree), cache)
    assert left(cache) == [".json", ".rgb"]
    np.testing.assert_array_equal(CachedImages(open_images(tree), cache).image(0), open_images(tree).image(0))


def test_build_without_locks_does_not_disturb_a_live_one(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both write all pixels. The part of another machine stays for an hour after its last write."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    cache = tmp_path / "cache"
    build = start_build(tree, cache, delay=0.5)
    wait_until(lambda: decoded(tree) > 0)
    foreign = cache / "decoded-0123456789abcdef.rgb.elsewhere.1-1.part"
    foreign.touch()
    build_cache(open_images(tree), cache)
    assert build.is_alive()
    build.join()
    assert build.exitcode == 0
    assert decoded(tree) == 6
    np.testing.assert_array_equal(CachedImages(open_images(tree), cache).image(0), open_images(tree).image(0))
    assert left(cache) == [".json", ".part", ".rgb"]
    os.utime(foreign, (0, 0))
    touch(tree)
    build_cache(open_images(tree), cache)
    assert left(cache) == [".json", ".rgb"]


def test_second_build_waits_for_the_first(tree: Path, tmp_path: Path) -> None:
    builds = [start_build(tree, tmp_path / "cache", delay=0.1) for _ in range(2)]
    for build in builds:
        build.join()
    assert [build.exitcode for build in builds] == [0, 0]
    assert decoded(tree) == 3


def test_pages_are_shared_between_processes(tree: Path, tmp_path: Path) -> None:
    """The kernel reports a read-only shared mapping."""
    if not Path("/proc/self/maps").exists():
        pytest.skip("needs /proc")
    build_cache(open_images(tree), tmp_path)
    cached = CachedImages(open_images(tree), tmp_path)
    cached.image(0)
    (line,) = [line for line in Path("/proc/self/maps").read_text().splitlines() if ".rgb" in line]
    assert line.split()[1] == "r--s"


def crops(split: SegmentationDataset, context: str | None) -> list[Sample]:
    view = AugmentedCrops(split, RandomScaleCropFlip(16, (0.5, 2.0)), seed=0)
    workers = {} if context is None else {"num_workers": 2, "multiprocessing_context": context}
    return list(DataLoader(view, batch_sampler=StreamBatchSampler(len(split), 2, 4), **workers))


@pytest.mark.parametrize("context", [None, "fork"])
def test_loader_processes_read_the_same_samples(folder: Folder, tmp_path: Path, context: str | None) -> None:
    split = folder(supervision="full").train_split()
    build_cache(split, tmp_path)
    cached = CachedImages(split, tmp_path)
    assert cached.image(0).any()
    pickled = pickle.dumps(cached)  # as for processes that are spawned
    assert len(pickled) < len(pickle.dumps(split)) + 1000  # of 10,272 bytes of pixels
    assert same(crops(split, None), crops(pickle.loads(pickled), context))


def test_loader_processes_may_start_right_after_a_build(folder: Folder, tmp_path: Path) -> None:
    """Ending threads hold a lock of OpenCV. A process forked at that moment hangs, in one of ten cases."""
    split = folder(supervision="full").train_split()
    for repeat in range(15):
        build_cache(split, tmp_path / str(repeat))
        view = AugmentedCrops(CachedImages(split, tmp_path / str(repeat)), RandomScaleCropFlip(16), seed=0)
        sampler = StreamBatchSampler(len(split), 2, 1)
        loader = DataLoader(view, batch_sampler=sampler, num_workers=1, multiprocessing_context="fork", timeout=20)
        assert len(list(loader)) == 1


def train(data: FolderDataModule) -> list[Sample]:
    """Prepare the data and read the batches of a run."""
    data.trainer = Trainer(accelerator="cpu", max_steps=4, logger=False, enable_checkpointing=False)
    data.prepare_data()
    return list(data.train_dataloader())


def same(a: list[Sample], b: list[Sample]) -> bool:
    keys = ("image", "target", "valid")
    return all(x["name"] == y["name"] and all(torch.equal(x[k], y[k]) for k in keys) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("place", ["cache", "tree", "tree/images/train"])
def test_training_reads_the_cache_wherever_it_lies(folder: Folder, tree: Path, tmp_path: Path, place: str) -> None:
    """Damaged images are not detected, and files of the cache are not mistaken for files of the dataset."""
    plain = train(folder())
    kept = sorted((tree / ".gatedcrf").iterdir())
    data = folder(loader=LoaderOptions(2, 0, str(tmp_path / place)))
    assert same(train(data), plain)
    for path in data.train_split().images:
        damage(path)
    assert same(train(data), plain)
    assert sorted((tree / ".gatedcrf").iterdir()) == kept
    with pytest.raises(ValueError, match="cannot be read as an image"):
        train(folder())


def damage(path: Path) -> None:
    """Overwrite a file, but keep its size and modification time."""
    stat = path.stat()
    path.write_bytes(b"\0" * stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_training_without_its_cache_is_refused(folder: Folder, tmp_path: Path) -> None:
    data = folder(loader=LoaderOptions(2, 0, str(tmp_path / "cache")))
    data.trainer = Trainer(accelerator="cpu", max_steps=4, logger=False, enable_checkpointing=False)
    with pytest.raises(ValueError, match="no cache of these images"):
        data.train_dataloader()


@pytest.mark.parametrize("stage", [TrainerFn.VALIDATING, TrainerFn.TESTING, TrainerFn.PREDICTING])
def test_only_training_builds_the_cache(folder: Folder, tmp_path: Path, stage: TrainerFn) -> None:
    data = folder(loader=LoaderOptions(2, 0, str(tmp_path / "cache")))
    data.trainer = Trainer(accelerator="cpu", max_steps=4, logger=False, enable_checkpointing=False)
    data.trainer.state.fn = stage
    data.prepare_data()
    assert not (tmp_path / "cache").exists()


def test_images_in_memory_are_not_cached(tmp_path: Path) -> None:
    data = ShapesDataModule(num_train=2, num_val=2, size=48, loader=LoaderOptions(2, 0, str(tmp_path)))
    with pytest.raises(ValueError, match=r"ShapesDataset has no image files; leave out --data\.loader\.image_cache"):
        data.prepare_data()
