"""``gatedcrf data download``: download a dataset, or print where to get it."""

import argparse
from shlex import quote
from typing import NamedTuple

from datamodules.io.archives import extract
from datamodules.io.download import download


class Archive(NamedTuple):
    """An archive that may be downloaded. Only its folder ``tree`` is unpacked."""

    url: str
    md5: str
    tree: str
    terms: str


ARCHIVES = {
    "voc": Archive(
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "6cd6e144f989b92b3379bac3b3de84fd",
        "VOCdevkit/VOC2012",
        "Images from Flickr, subject to its terms of use: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
    ),
    "sbd": Archive(  # www2, since www answers "Permission denied"
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
        "82b4d87ceb2ed10f6038a1cba92111cb",
        "benchmark_RELEASE/dataset",
        "Annotations of images of Pascal VOC: http://home.bharathh.info/pubs/codes/SBD/download.html",
    ),
}

INSTRUCTIONS = {
    "scribblesup": """\
Download ScribbleSup yourself, see its terms of use: https://jifengdai.org/downloads/scribble_sup/
Do not unpack it:
  ROOT/scribble_annotation.zip
The images are those of VOC: gatedcrf data download voc ROOT""",
    "clicks": """\
Download the clicks of Pascal VOC yourself, from the folder datasets of https://github.com/Farbdrucker/GatedCRFLoss:
  ROOT/voc_whats_the_point.json
    sha256 0ad942dc53197a1d7ce549000414adea39ac688d6c4ae7a1af27830469c73dc6
  ROOT/voc_whats_the_point_bg_from_scribbles.json
    sha256 45fdf2eff36a0ffc56a889efab2ca40788f074f8372dde4e8f81951bc7c79952
The images are those of VOC: gatedcrf data download voc ROOT""",
    "cityscapes": """\
Only registered users may download Cityscapes: https://www.cityscapes-dataset.com/downloads/
  unzip leftImg8bit_trainvaltest.zip -d ROOT
    md5 0a6e97e94b616a514066c9e2adb0c97f
  unzip gtFine_trainvaltest.zip -d ROOT
    md5 4237c19de34c8a376e9ba46b495d6f66
Then simulate the clicks: gatedcrf data cityscapes-clicks ROOT""",
    "coco": """\
Download COCO yourself, see its terms of use: https://cocodataset.org/#download
  unzip train2017.zip -d ROOT
  unzip val2017.zip -d ROOT
  unzip annotations_trainval2017.zip -d ROOT
Your own COCO-format data needs the same: for each split, a folder of images and a JSON file of instances.""",
}


def run(options: argparse.Namespace) -> None:
    """Download and unpack a dataset, or print how to get it. The next call continues an interrupted download.

    Raises:
        InputError: The dataset cannot be downloaded or unpacked.
        SystemExit: Status 130 after Ctrl-C.
    """
    if options.dataset in INSTRUCTIONS:
        print(INSTRUCTIONS[options.dataset].replace("ROOT", quote(str(options.root))))
        return
    archive = ARCHIVES[options.dataset]
    target = options.root / archive.tree
    if target.exists():
        print(f"{target} already exists. If it is incomplete, remove it and run the command again.")
        return
    print(f"{archive.url}\n{archive.terms}")
    try:
        path = download(archive.url, archive.md5, options.root)
        extract(path, options.root, archive.tree)
    except KeyboardInterrupt:
        print("Stopped. Run the command again to continue.")
        raise SystemExit(130) from None
    print(f"{target} is complete. {path} is no longer needed.")
