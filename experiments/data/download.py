"""``gatedcrf data download``: fetch a dataset where its license allows it, else say what to put where."""

import argparse
import hashlib
import os
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

from rich.console import Console

from datamodules.io.archives import extract
from datamodules.io.download import SBD, VOC, Archive, download


class Published(NamedTuple):
    """What is fetched from its official place.

    Args:
        archive: The file.
        tree: The folder in it that is unpacked.
        terms: What its license asks for.
    """

    archive: Archive
    tree: str
    terms: str


class Manual(NamedTuple):
    """A file that everybody fetches for themselves.

    Args:
        name: Of the file.
        place: Where it belongs under the root; ending in "/" if it is to be unpacked there.
        md5: Of the file, where it is known.
        sha256: Likewise.
    """

    name: str
    place: str
    md5: str = ""
    sha256: str = ""


class Instructions(NamedTuple):
    """Why a dataset is not fetched here, and how to get it.

    Args:
        reason: A sentence.
        source: Where it is.
        files: What is needed of it.
        then: What comes next.
    """

    reason: str
    source: str
    files: tuple[Manual, ...]
    then: str


PUBLISHED = {
    "voc": Published(
        VOC,
        "VOCdevkit/VOC2012",
        "Its images are from Flickr, whose terms of use apply: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
    ),
    "sbd": Published(
        SBD,
        "benchmark_RELEASE/dataset",
        "It annotates images of Pascal VOC, whose terms apply: http://home.bharathh.info/pubs/codes/SBD/download.html",
    ),
}

MANUAL = {
    "scribblesup": Instructions(
        "ScribbleSup is not fetched for you; see its page for the terms of use.",
        "https://jifengdai.org/downloads/scribble_sup/",
        (Manual("scribble_annotation.zip", "scribble_annotation.zip"),),
        "Leave it packed. The scribbles belong to the images of VOC: gatedcrf data download voc ROOT",
    ),
    "clicks": Instructions(
        "The clicks of Pascal VOC are not fetched for you; they are two files beside the code of the paper.",
        "https://github.com/Farbdrucker/GatedCRFLoss, folder datasets",
        (
            Manual(
                "voc_whats_the_point.json",
                "voc_whats_the_point.json",
                "37247e4507ca7b0aa049fe5a6c7bbca2",
                "0ad942dc53197a1d7ce549000414adea39ac688d6c4ae7a1af27830469c73dc6",
            ),
            Manual(
                "voc_whats_the_point_bg_from_scribbles.json",
                "voc_whats_the_point_bg_from_scribbles.json",
                "d4f14a94647a1e9453306a010a08797e",
                "45fdf2eff36a0ffc56a889efab2ca40788f074f8372dde4e8f81951bc7c79952",
            ),
        ),
        "They belong to the images of VOC: gatedcrf data download voc ROOT",
    ),
    "cityscapes": Instructions(
        "Cityscapes may only be fetched by registered users.",
        "https://www.cityscapes-dataset.com/downloads/ (register, log in, accept the license)",
        (
            Manual("leftImg8bit_trainvaltest.zip", "leftImg8bit/", "0a6e97e94b616a514066c9e2adb0c97f"),
            Manual("gtFine_trainvaltest.zip", "gtFine/", "4237c19de34c8a376e9ba46b495d6f66"),
        ),
        "Clicks are simulated from it: gatedcrf data cityscapes-clicks ROOT",
    ),
    "coco": Instructions(
        "Data in the format of COCO is your own, or COCO itself, which is not fetched for you: see its terms of use.",
        "https://cocodataset.org/#download",
        (
            Manual("train2017.zip", "train2017/"),
            Manual("val2017.zip", "val2017/"),
            Manual("annotations_trainval2017.zip", "annotations/"),
        ),
        "Your own data needs the same: a folder of images and a JSON file of instances for each split.",
    ),
}


def add_parsers(commands: Any) -> None:
    """Register the command.

    Args:
        commands: Of ``gatedcrf data``.
    """
    parser = commands.add_parser("download", help="fetch a dataset, or say what to fetch and where to put it")
    parser.add_argument("dataset", choices=[*PUBLISHED, *MANUAL])
    parser.add_argument("root", help="folder of the dataset, the later --data.root")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Fetch a dataset or print how to get it; given again, go on where it stopped.

    Args:
        options: ``dataset`` and ``root``.

    Raises:
        InputError: It cannot be fetched, written or unpacked; the message says what to do.
        SystemExit: With status 130 if interrupted.
    """
    console = Console(soft_wrap=True, highlight=False, markup=False)
    root = Path(options.root)
    if options.dataset in MANUAL:
        console.print(explain(MANUAL[options.dataset], root))
        return
    published = PUBLISHED[options.dataset]
    target = root / published.tree
    if os.path.exists(target):  # unlike Path.exists, false where looking is forbidden; fetching says so
        console.print(f"{target} is there and left alone. If it is not complete, remove it and give the command again.")
        return
    console.print(f"{published.archive.url}\n{published.terms}")
    try:
        path = download(published.archive, root)
        extract(path, root, published.tree)
    except KeyboardInterrupt:
        console.print("Stopped. Give the command again to continue.")
        raise SystemExit(130) from None
    console.print(f"{target} is complete. {path} is not needed any more and can be removed.")


def explain(instructions: Instructions, root: Path) -> str:
    """Return what to fetch, from where, and where to put it.

    Args:
        instructions: Of a dataset.
        root: Its folder.
    """
    lines = [instructions.reason, f"From {instructions.source}:", ""]
    for file in instructions.files:
        place = root / file.place
        lines.append(f"  {file.name}")
        lines += [f"    md5 {file.md5}"] if file.md5 else []
        lines += [f"    sha256 {file.sha256}"] if file.sha256 else []
        if file.place.endswith("/"):
            lines.append(f"    to be unpacked as {place}{_state(place, file)}: unzip {file.name} -d {quote(str(root))}")
        else:
            lines.append(f"    to be put at {place}{_state(place, file)}")
    return "\n".join([*lines, "", instructions.then.replace("ROOT", quote(str(root)))])


def _state(place: Path, file: Manual) -> str:
    if not place.exists():
        return ""
    if file.sha256 and place.is_file() and hashlib.sha256(place.read_bytes()).hexdigest() != file.sha256:
        return " (it is there, but of another sha256: fetch it again)"
    return " (it is there)"
