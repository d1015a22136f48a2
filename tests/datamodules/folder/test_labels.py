"""Labels of a folder come from files, masks or the cache."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from pytorch_lightning import Trainer

from datamodules.annotations import Annotation, LabelMap, rasterize
from datamodules.dataset import WholeImages
from datamodules.folder.datamodule import FolderDataModule
from datamodules.proposals import BoxInnerLabels, BoxLabels, GrabCutLabels, LabelGenerator, RecursiveBoxes
from datamodules.proposals.propose import propose
from datamodules.sample import Sample
from datamodules.simulate_clicks import ClickSimulator
from datamodules.transforms import Labels, RandomScaleCropFlip

SaveMask = Callable[[Path, LabelMap], None]
Folder = Callable[..., FolderDataModule]
CLICKS = {"train.0": [{"class": 1, "points": [[3.5, 4.5]]}], "train.2": []}


def vectors(labels: Labels) -> list[tuple[int, list[list[float]]]]:
    assert isinstance(labels, list)
    return [(a.label, a.points.tolist()) for a in labels]


def test_drawn_clicks_are_used_and_need_no_training_masks(folder: Folder, tree: Path) -> None:
    (tree / "masks/train").rename(tree / "unused")
    (tree / "clicks.json").write_text(json.dumps(CLICKS))
    data = folder()
    assert data.check().problems == []
    data.prepare_data()
    split = data.train_split()
    assert [vectors(split.weak_labels(index)) for index in range(3)] == [[(1, [[3.5, 4.5]])], [], []]
    with pytest.raises(ValueError, match=r"masks/train/train\.0\.png is missing"):
        folder(supervision="full").prepare_data()
    with pytest.raises(ValueError, match=r"scribbles\.json is missing; write it, or put a mask of each training image"):
        folder(supervision="scribbles").prepare_data()


def test_sparse_maps_are_used_and_checked(folder: Folder, tree: Path, save_mask: SaveMask) -> None:
    (tree / "masks/train").rename(tree / "unused")
    sparse = np.full((32, 40), 255, dtype=np.uint8)
    for index, (width, height) in enumerate([(40, 30), (30, 40), (32, 32)]):
        sparse = np.full((height, width), 255, dtype=np.uint8)
        sparse[index + 2, 3:9] = 1
        save_mask(tree / f"scribbles/train/train.{index}.png", sparse)
    data = folder(supervision="scribbles")
    data.prepare_data()
    np.testing.assert_array_equal(data.train_split().weak_labels(2), sparse)
    (tree / "scribbles/train/train.1.png").unlink()
    with pytest.raises(ValueError, match=r"scribbles/train/train\.1\.png is missing"):
        folder(supervision="scribbles").prepare_data()


@pytest.mark.parametrize("supervision", ["clicks", "scribbles"])
def test_simulated_labels_lie_on_their_class(folder: Folder, supervision: str) -> None:
    split = folder(supervision=supervision).train_split()
    full = folder(supervision="full").train_split()
    for index in range(3):
        labels, mask = split.weak_labels(index), full.weak_labels(index)
        assert isinstance(labels, list)
        assert isinstance(mask, np.ndarray)
        assert sorted(a.label for a in labels) == [0, 1]
        drawn = rasterize(labels, mask.shape)
        assert (drawn[drawn != 255] == mask[drawn != 255]).all()


def test_simulated_labels_are_read_from_the_cache_until_a_mask_changes(
    folder: Folder, tree: Path, tmp_path: Path
) -> None:
    data = folder(cache_dir=str(tmp_path / "cache"))
    data.prepare_data()
    (cached,) = (tmp_path / "cache").glob("clicks-*.json")
    cached.write_text(json.dumps({"train.0": [{"class": 1, "points": [[1.5, 2.5]]}]}))
    assert vectors(folder(cache_dir=str(tmp_path / "cache")).train_split().weak_labels(0)) == [(1, [[1.5, 2.5]])]
    path = tree / "masks/train/train.0.png"
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))
    data.prepare_data()
    assert [label for label, _ in vectors(data.train_split().weak_labels(0))] == [0, 1]
    assert len(list((tmp_path / "cache").glob("clicks-*.json"))) == 2


def test_changed_simulator_does_not_read_the_old_cache(folder: Folder, tree: Path) -> None:
    folder().prepare_data()
    assert (tree / ".gatedcrf").is_dir()
    none = folder(click_simulator=ClickSimulator(min_area=10_000)).train_split()
    assert none.weak_labels(0) == []


def test_check_is_repeated_only_when_a_file_changed(folder: Folder, tree: Path) -> None:
    folder().prepare_data()
    before = sorted((tree / ".gatedcrf").iterdir())
    folder().prepare_data()
    assert sorted((tree / ".gatedcrf").iterdir()) == before
    (tree / "images/val/val.0.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"val\.0\.jpg"):
        folder().prepare_data()


READ = ["classes.txt", "images/train/train.0.jpg", "images/val/val.0.jpg", "masks/val/val.0.png"]
NOT_READ = ["images/test/new.png", "masks/test/new.png", "images/train/runs/gallery/a.png", "masks/train/old/a.png"]
OUTPUT = ["gallery/val.0.png", "kernels/val.0.png", "confusion_matrix.png", "checkpoints/last.ckpt", "full.json"]


@pytest.mark.parametrize(
    ("supervision", "weak", "unused"),
    [
        ("clicks", "masks/train/train.0.png", "scribbles.json"),
        ("clicks", "clicks.json", "masks/train/train.0.png"),
        ("scribbles", "masks/train/train.0.png", "clicks.json"),
        ("scribbles", "scribbles.json", "scribbles/train/train.0.png"),
        ("scribbles", "scribbles/train/train.0.png", "masks/train/train.0.png"),
        ("full", "masks/train/train.0.png", "clicks.json"),
    ],
)
def test_check_is_repeated_only_for_files_that_the_supervision_reads(
    folder: Folder, tree: Path, tmp_path: Path, supervision: str, weak: str, unused: str
) -> None:
    """Also not for the pictures and checkpoints of a run in this folder."""

    def write(name: str) -> None:
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))
        elif path.suffix == ".json":
            path.write_text(json.dumps(CLICKS))
        elif path.parts[-3:-1] == ("scribbles", "train"):
            shutil.copytree(tree / "masks/train", path.parent, dirs_exist_ok=True)
        else:
            path.write_bytes(b"")

    def checks() -> int:
        folder(supervision=supervision, cache_dir=str(tmp_path / "cache")).prepare_data()
        return len(list((tmp_path / "cache").glob("checked-*")))

    write(weak)
    assert checks() == 1
    for name in (unused, *NOT_READ, *OUTPUT):
        write(name)
        assert checks() == 1, name
    for count, name in enumerate((weak, *READ), 2):
        write(name)
        assert checks() == count, name


def test_prediction_reads_the_test_images_without_masks(folder: Folder, tree: Path) -> None:
    assert folder().predict_split().images == folder().val_split().images
    (tree / "images/test").mkdir()
    PILImage.new("RGB", (22, 18), (9, 9, 9)).save(tree / "images/test/new.png")
    data = folder()
    data.trainer = Trainer(accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False)
    (batch,) = data.predict_dataloader()
    assert batch["name"] == ["new"]
    assert batch["target"].shape == (1, 18, 22)
    assert (batch["target"] == 255).all()
    assert batch["valid"].all()


def test_validation_has_dense_truth_whatever_the_supervision(folder: Folder) -> None:
    for supervision in ("clicks", "full"):
        whole = WholeImages(folder(supervision=supervision).val_split())
        assert [whole[index]["name"] for index in range(2)] == ["val.0", "val.1"]
        assert (whole[0]["target"][1:, :18] == 1).all()
        assert (whole[0]["target"][0] == 255).all()


def test_large_images_are_reduced_with_their_labels(folder: Folder, tree: Path) -> None:
    corner = Annotation(1, np.array([[29.5, 39.5]]))
    (tree / "clicks.json").write_text(json.dumps({"train.1": [{"class": 1, "points": corner.points.tolist()}]}))
    data = folder(max_side=15)
    split, full = data.train_split(), folder(max_side=15, supervision="full").train_split()
    assert [split.image(index).shape[:2] for index in range(3)] == [(11, 15), (15, 11), (15, 15)]
    assert [full.dense_mask(index).shape for index in range(3)] == [(11, 15), (15, 11), (15, 15)]
    drawn = rasterize(split.weak_labels(1), (15, 11))
    assert drawn[14, 10] == 1
    assert (drawn != 255).sum() == 1


def batches(data: FolderDataModule) -> list[Sample]:
    data.trainer = Trainer(accelerator="cpu", max_steps=3, logger=False, enable_checkpointing=False)
    data.prepare_data()
    return list(data.train_dataloader())


@pytest.mark.parametrize("supervision", ["clicks", "scribbles", "full"])
def test_training_with_simulated_labels_decodes_no_dense_mask(folder: Folder, tree: Path, supervision: str) -> None:
    """Masks are overwritten with their size and time kept: only full supervision notices."""
    before = batches(folder(supervision=supervision))
    for path in (tree / "masks/train").iterdir():
        stat = path.stat()
        path.write_bytes(b"\0" * stat.st_size)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    if supervision == "full":
        with pytest.raises(ValueError, match="cannot be read as a mask"):
            batches(folder(supervision=supervision))
        return
    after = batches(folder(supervision=supervision))
    assert any((batch["target"] != 255).any() for batch in after)
    for a, b in zip(before, after, strict=True):
        assert all(torch.equal(a[key], b[key]) for key in ("image", "target", "valid"))


def test_training_with_drawn_clicks_needs_no_dense_mask(folder: Folder, tree: Path) -> None:
    (tree / "clicks.json").write_text(json.dumps(CLICKS))
    shutil.rmtree(tree / "masks/train")
    crop = RandomScaleCropFlip(64, (1.0, 1.0))
    clicked = [batch["target"][batch["target"] != 255] for batch in batches(folder(augmentation=crop))]
    assert torch.cat(clicked).tolist() == [1, 1]  # the click of train.0 in each of the two epochs


def test_boxes_are_read_from_a_file_or_simulated_from_masks(folder: Folder, tree: Path) -> None:
    """In the masks, class 1 is the left half without the first row, and the background gets no box."""
    simulated = folder(supervision="boxes")
    simulated.prepare_data()
    assert [vectors(simulated.train_split().weak_labels(index)) for index in range(3)] == [
        [(1, [[0, 1], [width // 2, height]])] for width, height in ((40, 30), (30, 40), (32, 32))
    ]
    (tree / "boxes.json").write_text('{"train.1": [{"class": 1, "box": [2, 3, 9.5, 20]}]}')
    split = folder(supervision="boxes").train_split()
    assert [vectors(split.weak_labels(index)) for index in range(3)] == [[], [(1, [[2, 3], [9.5, 20]])], []]


@pytest.mark.parametrize("generator", [BoxLabels(), GrabCutLabels(), RecursiveBoxes(BoxInnerLabels())], ids=repr)
def test_image_that_boxes_do_not_name_is_unlabeled_and_an_empty_list_is_background(
    generator: LabelGenerator, folder: Folder, tree: Path
) -> None:
    (tree / "boxes.json").write_text('{"train.1": [], "train.2": [{"class": 1, "box": [8, 8, 20, 20]}]}')
    split = folder(supervision="boxes", max_side=16).train_split()
    for predict in (None, lambda image: np.ones((2, *image.shape[:2]), dtype=np.float32)):
        maps = [propose(generator, split, index, predict) for index in range(3)]
        assert [labels.shape for labels in maps] == [(12, 16), (16, 12), (16, 16)]
        assert [set(np.unique(labels).tolist()) for labels in maps[:2]] == [{255}, {0}]
        assert 1 in maps[2]


@pytest.mark.parametrize("source", ["masks", "scribbles.json", "clicks.json", "tags.json"])
def test_tags_are_read_from_their_file_or_from_other_labels(folder: Folder, tree: Path, source: str) -> None:
    if source == "tags.json":
        (tree / source).write_text('{"train.0": [0], "train.2": [1, 0]}')
    elif source != "masks":
        points = [[3, 4], [5, 6]] if source == "scribbles.json" else [[3, 4]]
        (tree / source).write_text(json.dumps({"train.0": [{"class": 1, "points": points}] * 2}))
    data = folder(supervision="tags")
    data.prepare_data()
    split = data.train_split()
    expected = {"masks": [[0, 1]] * 3, "tags.json": [[0], [], [0, 1]]}.get(source, [[1], [], []])
    assert [[label for label, _ in vectors(split.weak_labels(index))] for index in range(3)] == expected
