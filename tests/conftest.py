"""Small copies of the public datasets; one thread per process, and Triton's interpreter if there is no GPU."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as PILImage
from scipy.io import savemat
from scipy.sparse import csc_matrix

os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start: pytest runs one worker per core
torch.set_num_threads(1)
if not torch.cuda.is_available():  # before Triton is imported
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """The CPU, then the GPU if there is one."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return str(request.param)


@pytest.fixture(autouse=True)
def no_launcher() -> Iterator[None]:
    """Forget what Lightning sets for the processes of a group, since later tests would start theirs with it."""
    yield
    for name in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)


# The public datasets in miniature, in their formats on disk. Sizes are (W, H).
VOC_IMAGES = {
    "2007_000032": ((40, 30), 1),  # in VOC train and SBD train
    "2007_000063": ((30, 40), 12),  # in VOC train only
    "2007_000033": ((36, 28), 15),  # in VOC val and SBD val
    "2008_000002": ((40, 32), 20),  # in SBD train
    "2010_000001": ((32, 40), 2),  # in SBD val
    "2011_009999": ((40, 30), 3),  # in no split
}
VOC_LISTS = {"train": ["2007_000032", "2007_000063"], "val": ["2007_000033"]}
SBD_LISTS = {"train": ["2008_000002", "2007_000032"], "val": ["2010_000001", "2007_000033"]}
TAGS = {0: "background", 1: "plane", 2: "bike", 12: "dog", 15: "person", 20: "monitor"}

Polylines = Sequence[tuple[str, Sequence[tuple[int, int]]]]  # tag, (X, Y)
Mask = NDArray[np.uint8]


def voc_color(index: int) -> list[int]:
    """Color of a class in the VOC development kit: three bits of the index per bit of the channels."""
    color = [0, 0, 0]
    for bit in range(7, -1, -1):
        for channel in range(3):
            color[channel] |= (index >> channel & 1) << bit
        index >>= 3
    return color


def block(size: tuple[int, int], margin: int) -> tuple[slice, slice]:
    width, height = size
    return slice(height // 3 - margin, 2 * height // 3 + margin), slice(width // 4 - margin, 3 * width // 4 + margin)


@pytest.fixture(scope="session")
def voc_masks() -> dict[str, Mask]:
    """Masks of VOC: a block of the class with a contour of 255."""
    masks = {}
    for name in [*VOC_LISTS["train"], *VOC_LISTS["val"]]:
        size, label = VOC_IMAGES[name]
        masks[name] = np.zeros(size[::-1], dtype=np.uint8)
        masks[name][block(size, 1)] = 255
        masks[name][block(size, 0)] = label
    return masks


@pytest.fixture(scope="session")
def sbd_masks() -> dict[str, Mask]:
    """Masks of SBD: the block fills its contour, and there is no 255."""
    masks = {}
    for name in [*SBD_LISTS["train"], *SBD_LISTS["val"]]:
        size, label = VOC_IMAGES[name]
        masks[name] = np.zeros(size[::-1], dtype=np.uint8)
        masks[name][block(size, 1)] = label
    return masks


@pytest.fixture(scope="session")
def scribble_xml() -> Callable[[tuple[int, int], Polylines], str]:
    """Return the XML of ScribbleSup for an image of (W, H)."""

    def write(size: tuple[int, int], polylines: Polylines) -> str:
        strokes = "".join(
            f"<polygon><tag>{tag}</tag>{''.join(f'<point><X>{x}</X><Y>{y}</Y></point>' for x, y in points)}</polygon>\n"
            for tag, points in polylines
        )
        head = (
            f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size><segmented>1</segmented>"
        )
        return f"<annotation><folder>VOC2012</folder><filename>a.jpg</filename>\n{head}\n{strokes}</annotation>\n"

    return write


@pytest.fixture
def voc_root(
    tmp_path: Path, voc_masks: dict[str, Mask], sbd_masks: dict[str, Mask], scribble_xml: Callable[..., str]
) -> Path:
    """VOC 2012, SBD as released, both click files, and the original zip of ScribbleSup."""
    root = tmp_path / "voc"
    voc, sbd = root / "VOCdevkit" / "VOC2012", root / "benchmark_RELEASE" / "dataset"
    for folder in (voc / "JPEGImages", voc / "SegmentationClass", voc / "ImageSets" / "Segmentation"):
        folder.mkdir(parents=True)
    for folder in ("img", "cls", "inst"):
        (sbd / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, ((width, height), label) in VOC_IMAGES.items():
        image = rng.integers(0, 60, size=(height, width, 3), dtype=np.uint8)
        image[block((width, height), 0)] += np.uint8(9 * label)
        PILImage.fromarray(image).save(voc / "JPEGImages" / f"{name}.jpg")
    for name, mask in voc_masks.items():
        picture = PILImage.fromarray(mask)
        picture.putpalette([value for index in range(256) for value in voc_color(index)])
        picture.save(voc / "SegmentationClass" / f"{name}.png")
    for split, names in {**VOC_LISTS, "trainval": VOC_LISTS["train"] + VOC_LISTS["val"]}.items():
        (voc / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("".join(f"{name}\n" for name in sorted(names)))
    for split, names in SBD_LISTS.items():
        (sbd / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    for name, mask in sbd_masks.items():
        (sbd / "img" / f"{name}.jpg").write_bytes((voc / "JPEGImages" / f"{name}.jpg").read_bytes())
        present = np.array([[VOC_IMAGES[name][1]]], dtype=np.uint8)
        boundaries = np.empty((20, 1), dtype=object)
        boundaries[:, 0] = [csc_matrix(mask.shape, dtype=bool) for _ in range(20)]
        classes = {"Boundaries": boundaries, "Segmentation": mask, "CategoriesPresent": present}
        savemat(sbd / "cls" / f"{name}.mat", {"GTcls": classes}, do_compression=True)
        objects = {"Boundaries": boundaries[:1], "Segmentation": (mask > 0).astype(np.uint8), "Categories": present}
        savemat(sbd / "inst" / f"{name}.mat", {"GTinst": objects}, do_compression=True)
    write_weak_labels(root, scribble_xml)
    return root


def write_weak_labels(root: Path, scribble_xml: Callable[..., str]) -> None:
    objects, background, scribbles = {}, {}, {}
    for name, (size, label) in VOC_IMAGES.items():
        x, y = size[0] / 2 + 0.25, size[1] / 2 + 0.75
        objects[name] = [{"y": y, "x": x, "rank": 1, "cls": label}]
        if label != 3:
            stroke = [(2, 2), (size[0] - 3, 2), (size[0] - 3, size[1] - 3)]
            background[name] = [{"x": 12.5, "y": 2.0, "cls": 0}, {"x": size[0] - 3.0, "y": 7.25, "cls": 0}]
            scribbles[name] = scribble_xml(size, [("background", stroke), (TAGS[label], [(int(x), int(y))])])
    objects["2008_000002"].append({"y": 20.5, "x": 754.4, "rank": 2, "cls": 20})  # outside the image
    objects["2010_000001"] = []
    background["2007_000063"] = []
    (root / "voc_whats_the_point.json").write_text(json.dumps(objects))
    (root / "voc_whats_the_point_bg_from_scribbles.json").write_text(json.dumps(background))
    with ZipFile(root / "scribble_annotation.zip", "w", ZIP_DEFLATED) as archive:
        archive.writestr("scribble_annotation/demo/readspots.m", "% demo")
        for name, xml in scribbles.items():
            archive.writestr(f"scribble_annotation/pascal_2012/{name}.xml", xml)
            archive.writestr(f"scribble_annotation/pascal_context/{name}.xml", xml.replace("background", "sky"))


@pytest.fixture(scope="session")
def city_instances() -> NDArray[np.uint16]:
    """An instanceIds map, (64, 96): stuff, objects, a group, and void."""
    instances = np.full((64, 96), 7, dtype=np.uint16)  # road
    instances[:20] = 23  # sky
    instances[0:16, 0:16] = 20  # 256 pixels of traffic sign
    instances[0:16, 40:56] = 17
    instances[0, 40] = 23  # 255 pixels of pole
    instances[30:36, 10:14] = 26000  # a car
    instances[30:36, 18:24] = 26000  # behind the gap
    instances[40:44, 40:50] = 26001  # another car
    instances[40:44, 50:60] = 26  # "cargroup"
    instances[50, 70] = 24000  # a person of one pixel
    instances[54, 74] = instances[55, 75] = 24001  # another of two that touch at a corner
    instances[48:60, 0:30] = 1  # ego vehicle
    instances[24:28, 60:80] = 9  # parking
    instances[30:34, 60:80] = 29000  # caravan
    instances[36:38, 60:80] = 30  # "trailergroup"
    return instances


@pytest.fixture
def cityscapes_root(tmp_path: Path, city_instances: NDArray[np.uint16]) -> Path:
    """Three training images of two cities and one validation image."""
    root = tmp_path / "cityscapes"
    images = {
        "train": ["aachen_000000_000019", "aachen_000001_000019", "zurich_000121_000019"],
        "val": ["frankfurt_000000_000294"],
    }
    rng = np.random.default_rng(0)
    for split, names in images.items():
        for turn, name in enumerate(names):
            city = name.split("_")[0]
            photographs, annotations = root / "leftImg8bit" / split / city, root / "gtFine" / split / city
            photographs.mkdir(parents=True, exist_ok=True)
            annotations.mkdir(parents=True, exist_ok=True)
            instances = city_instances[:, ::-1] if turn % 2 else city_instances
            labels = np.where(instances >= 1000, instances // 1000, instances).astype(np.uint8)
            noise = rng.integers(0, 40, size=(*labels.shape, 3), dtype=np.uint8)
            PILImage.fromarray(noise + 6 * labels[..., None]).save(photographs / f"{name}_leftImg8bit.png")
            PILImage.fromarray(labels).save(annotations / f"{name}_gtFine_labelIds.png")
            PILImage.fromarray(np.ascontiguousarray(instances)).save(annotations / f"{name}_gtFine_instanceIds.png")
            PILImage.fromarray(noise).convert("RGBA").save(annotations / f"{name}_gtFine_color.png")
            (annotations / f"{name}_gtFine_polygons.json").write_text(
                '{"imgHeight": 64, "imgWidth": 96, "objects": []}'
            )
    return root
