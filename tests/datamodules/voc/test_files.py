"""Pascal VOC 2012 and SBD on disk: training images and their masks."""

import shutil
from collections.abc import Callable
from hashlib import md5
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from scipy.io import loadmat, savemat

from datamodules.annotations import LabelMap
from datamodules.voc.files import CLASSES, PUBLISHED, VOCFiles, list_digest, unpublished

Masks = dict[str, LabelMap]
TRAIN_AUG = ["2007_000032", "2007_000063", "2008_000002", "2010_000001"]
RELEASED = Path("benchmark_RELEASE/dataset")


def without_sbd(root: Path) -> Path:
    shutil.rmtree(root / "benchmark_RELEASE")
    return root


def as_torchvision(folder: str) -> Callable[[Path], Path]:
    """Move cls, img, inst and the lists up, as torchvision does."""

    def move(root: Path) -> Path:
        (root / folder).mkdir(exist_ok=True)
        for path in (root / RELEASED).iterdir():
            path.rename(root / folder / path.name)
        return without_sbd(root)

    return move


def as_pngs(folder: str) -> Callable[[Path], Path]:
    """Replace SBD by grayscale PNGs of both splits, with the masks of SBD where they exist and of VOC elsewhere."""

    def convert(root: Path) -> Path:
        (root / folder).mkdir(parents=True)
        for name in {*TRAIN_AUG, "2007_000033"}:
            mat = root / RELEASED / "cls" / f"{name}.mat"
            png = root / "VOCdevkit/VOC2012/SegmentationClass" / f"{name}.png"
            mask = loadmat(mat)["GTcls"][0]["Segmentation"][0] if mat.exists() else np.array(PILImage.open(png))
            PILImage.fromarray(mask).save(root / folder / f"{name}.png")
        return without_sbd(root)

    return convert


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "released": lambda root: root,
    **{f"torchvision in {folder!r}": as_torchvision(folder) for folder in ("sbd", "SBD", "")},
    **{f"PNGs in {folder}": as_pngs(folder) for folder in ("VOCdevkit/VOC2012/SegmentationClassAug",)},
    "PNGs beside": as_pngs("SegmentationClassAug"),
}


def test_fixture_has_the_format_of_the_archives(voc_root: Path, voc_masks: Masks, sbd_masks: Masks) -> None:
    """A palette PNG whose entry 255 is (224, 224, 192), and GTcls[0]["Segmentation"][0] without 255."""
    with PILImage.open(voc_root / "VOCdevkit/VOC2012/SegmentationClass/2007_000032.png") as picture:
        assert picture.mode == "P"
        palette = np.array(picture.getpalette()).reshape(-1, 3)
    assert palette[[0, 1, 15, 20, 255]].tolist() == [
        *([0, 0, 0], [128, 0, 0], [192, 128, 128], [0, 64, 128], [224, 224, 192]),
    ]
    assert all(255 in mask for mask in voc_masks.values())
    content = loadmat(voc_root / RELEASED / "cls/2007_000032.mat")["GTcls"]
    assert set(content.dtype.names) == {"Boundaries", "Segmentation", "CategoriesPresent"}
    assert content[0]["Boundaries"][0].shape == (20, 1)
    assert content[0]["Segmentation"][0].dtype == np.uint8
    assert not any(255 in mask for mask in sbd_masks.values())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_train_aug_is_sbd_and_voc_train_without_voc_val_sorted(voc_root: Path, layout: str) -> None:
    files = VOCFiles(LAYOUTS[layout](voc_root))
    assert files.train_aug([]) == TRAIN_AUG
    assert files.train_aug(["2011_009999"]) == TRAIN_AUG  # weak labels are used only if masks are missing
    assert files.val() == ["2007_000033"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_masks_of_voc_take_precedence_over_sbd(voc_root: Path, voc_masks: Masks, sbd_masks: Masks, layout: str) -> None:
    files = VOCFiles(LAYOUTS[layout](voc_root))
    assert not np.array_equal(voc_masks["2007_000032"], sbd_masks["2007_000032"])
    for name in [*TRAIN_AUG, "2007_000033"]:
        mask = files.dense_mask(name)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, (sbd_masks | voc_masks)[name])


def test_released_sbd_takes_precedence_over_pngs(voc_root: Path, sbd_masks: Masks) -> None:
    folder = voc_root / "SegmentationClassAug"
    folder.mkdir()
    for name in ("2008_000002", "2011_009999"):
        PILImage.new("L", (40, 32), 7).save(folder / f"{name}.png")
    files = VOCFiles(voc_root)
    assert files.train_aug([]) == TRAIN_AUG
    np.testing.assert_array_equal(files.dense_mask("2008_000002"), sbd_masks["2008_000002"])


def test_without_sbd_names_come_from_the_weak_labels(voc_root: Path) -> None:
    files = VOCFiles(without_sbd(voc_root))
    assert files.train_aug(["2010_000001", "2007_000033", "2007_000032"]) == [
        *("2007_000032", "2007_000063", "2010_000001"),
    ]
    assert files.train_aug([]) == ["2007_000032", "2007_000063"]


def test_without_sbd_only_masks_of_voc_exist(voc_root: Path, voc_masks: Masks) -> None:
    files = VOCFiles(without_sbd(voc_root))
    for name, mask in voc_masks.items():
        np.testing.assert_array_equal(files.dense_mask(name), mask)
    with pytest.raises(
        ValueError, match=r"voc has no SBD mask of 2008_000002; full .*; see: gatedcrf data download sbd"
    ):
        files.dense_mask("2008_000002")


@pytest.mark.parametrize("inner", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_voc_is_found_from_any_of_its_folders(voc_root: Path, inner: str) -> None:
    files = VOCFiles(voc_root / inner)
    assert files.voc == voc_root / "VOCdevkit/VOC2012"
    assert files.image("2007_000032").is_file()
    assert files.names("trainval") == ["2007_000032", "2007_000033", "2007_000063"]


def test_missing_tree_and_missing_list_are_named(voc_root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"elsewhere has no VOCdevkit/VOC2012 .*; see: gatedcrf data download voc"):
        VOCFiles(tmp_path / "elsewhere").val()
    (voc_root / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").unlink()
    with pytest.raises(ValueError, match=r"Segmentation/val\.txt cannot be read .*; download the archive again"):
        VOCFiles(voc_root).train_aug([])
    (voc_root / RELEASED / "train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"dataset/train\.txt cannot be read"):
        VOCFiles(voc_root).train_aug([])


def segmentation(labels: object) -> dict[str, object]:
    return {"GTcls": {"Segmentation": labels}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing; download SBD again"),
        (b"", "cannot be read as .*GTcls"),
        (b"MATLAB 5.0 MAT-file" + bytes(200), "cannot be read as .*GTcls"),
        ({"GTinst": {"Segmentation": np.zeros((4, 4), np.uint8)}}, "cannot be read as .*GTcls"),
        ({"GTcls": {"Labels": np.zeros((4, 4), np.uint8)}}, "cannot be read as .*GTcls"),
        (segmentation(np.full((4, 4), 21, np.uint8)), "is not a map of the classes 0 to 20"),
        (segmentation(np.full((4, 4), 255, np.uint8)), "is not a map"),
        (segmentation(np.full((4, 4), 0.5)), "is not a map"),
        (segmentation(np.zeros((0, 4), np.uint8)), "is not a map"),
        (segmentation(np.zeros((4, 4, 3), np.uint8)), "is not a map"),
    ],
)
def test_malformed_mat_is_named(voc_root: Path, content: bytes | dict[str, object] | None, message: str) -> None:
    path = voc_root / RELEASED / "cls" / "2008_000002.mat"
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        savemat(path, content)
    with pytest.raises(ValueError, match=rf"cls/2008_000002\.mat {message}"):
        VOCFiles(voc_root).dense_mask("2008_000002")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_mat_is_named(voc_root: Path, share: float) -> None:
    path = voc_root / RELEASED / "cls" / "2010_000001.mat"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"2010_000001\.mat cannot be read as .*GTcls"):
        VOCFiles(voc_root).dense_mask("2010_000001")


def test_digest_is_the_md5_of_sorted_names_a_line_each() -> None:
    expected = md5(b"2007_000032\n2007_000063\n2008_000002\n").hexdigest()
    assert list_digest(["2008_000002", "2007_000032", "2007_000063"]) == expected
    assert list_digest([]) == md5(b"").hexdigest()


def test_published_counts_and_checksums() -> None:
    assert PUBLISHED == {
        "train_aug": (10582, "215992f6fd958f89800449fdb4bbabe6"),
        "val": (1449, "5510db06bbb92848a0bf6109eba6d646"),
    }


def test_unpublished_list_is_a_problem() -> None:
    (number,) = unpublished("train_aug", [str(k) for k in range(1464)], "do this")
    assert str(number) == "train_aug has 1464 images instead of the published 10,582; do this"
    (names,) = unpublished("val", [str(k) for k in range(1449)], "do that")
    assert str(names) == "val has 1,449 images, but not the published ones; do that"
    assert (number.kind, names.kind) == ("number of images", "checksum of the list")


def test_published_list_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PUBLISHED, "val", (2, md5(b"a\nb\n").hexdigest()))
    assert unpublished("val", ["b", "a"], "do nothing") == []
    assert len(unpublished("val", ["b", "c"], "fetch it")) == 1


def test_classes_are_those_of_voc_in_its_order() -> None:
    names = (
        "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person "
        "pottedplant sheep sofa train tvmonitor"
    )
    assert list(CLASSES) == names.split()
