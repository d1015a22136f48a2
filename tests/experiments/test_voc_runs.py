"""One training step on VOC and on Cityscapes with every form of their labels."""

import json
import re
import shutil
import warnings
from collections import Counter
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer

from datamodules.cityscapes import CityscapesDataModule
from datamodules.datamodule import SegmentationDataModule
from datamodules.sample import IGNORE_INDEX, Sample
from datamodules.voc import VOCDataModule
from experiments import RESULT
from experiments.cli import main
from lightning_modules.deeplab_v3plus import DeepLabV3Plus
from lightning_modules.weak_segmentation import WeakSegmentation
from losses import GatedCRFLoss, PartialCrossEntropyLoss

TRAIN_AUG = ["2007_000032", "2007_000063", "2008_000002", "2010_000001"]
SMALL = {"published_split": False, "crop": 32, "batch_size": 2, "num_workers": 0}
WHOLE = {**SMALL, "crop": 64, "scale": (1.0, 1.0), "flip": 0.0, "batch_size": 4}
STEP = {
    "max_steps": 1,
    "val_check_interval": 1,
    "num_sanity_val_steps": 0,
    "logger": False,
    "use_distributed_sampler": False,
}
QUIET = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


def fit(dataset: str, supervision: str, root: Path, run: Path) -> dict[str, Any]:
    """Run the real command line for one step and return its result."""
    configs = ["base.yaml", f"datasets/{dataset}.yaml", f"supervision/{supervision}.yaml", "losses/gcrf_s.yaml"]
    options = [f"--data.{name}={json.dumps(value)}" for name, value in {**SMALL, "num_workers": 1}.items()]
    options += [f"--model.network.init_args.{o}" for o in ("backbone=resnet10t", "pretrained=false", "channels=16")]
    options += ["--trainer.max_steps=1", "--trainer.val_check_interval=1", f"--trainer.default_root_dir={run}"]
    main(["fit", *(part for c in configs for part in ("-c", c)), *options, f"--data.root={root}"])
    result: dict[str, Any] = json.loads((run / RESULT).read_text())
    return result


class Targets(Callback):
    """Counts the labels that training sees."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Sample, batch_idx: int) -> None:
        self.seen += batch["target"].flatten().tolist()


def train_a_step(data: SegmentationDataModule) -> Counter[int]:
    """Train a real small network for one step, evaluate it, and return the number of labels of each class."""
    torch.manual_seed(0)
    network = DeepLabV3Plus(data.num_classes, backbone="resnet10t", pretrained=False, channels=16)
    loss, crf = PartialCrossEntropyLoss(), GatedCRFLoss()
    model = WeakSegmentation(network, loss, data.class_names, data.mean, data.std, crf, weight_decay=0.0)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    targets = Targets()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Trainer(accelerator="cpu", callbacks=[targets], **STEP, **QUIET).fit(model, data)
    assert model.validated_at == 1
    assert not all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    return Counter(label for label in targets.seen if label != IGNORE_INDEX)


def test_voc_clicks_train_through_the_command_line_and_predict(voc_root: Path, tmp_path: Path) -> None:
    shutil.rmtree(voc_root / "benchmark_RELEASE")  # weak labels need no masks of SBD
    run = tmp_path / "run"
    result = fit("voc", "clicks", voc_root, run)
    assert list(result["iou"])[:3] == ["background", "aeroplane", "bicycle"]
    assert len(result["iou"]) == 21
    assert result["iou"]["background"] is not None  # the validation image has the background and a person
    assert result["iou"]["person"] is not None
    main(["predict", "-c", str(run / "config.yaml"), f"--ckpt_path={run / 'checkpoints/last.ckpt'}"])
    with Image.open(run / "predict" / "2007_000033.png") as picture:
        assert picture.size == (36, 28)


def test_cityscapes_clicks_are_simulated_and_train_through_the_command_line(
    cityscapes_root: Path, tmp_path: Path
) -> None:
    main(["data", "cityscapes-clicks", str(cityscapes_root), "--workers", "1"])
    result = fit("cityscapes", "clicks", cityscapes_root, tmp_path / "run")
    assert len(result["iou"]) == 19
    assert {name for name in ("road", "sky", "car") if result["iou"][name] is not None} == {"road", "sky", "car"}


def test_published_lists_are_checked_by_the_command_line(
    voc_root: Path, cityscapes_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for dataset, root, message in [
        ("voc", voc_root, "val has 1 images where 1,449 are published"),
        ("cityscapes", cityscapes_root, "val has 1 images where 500 are published"),
    ]:
        args = ["-c", "base.yaml", "-c", f"datasets/{dataset}.yaml", "-c", "supervision/full.yaml"]
        options = [f"--data.root={root}", "--data.num_workers=0", "--data.crop=32", "--data.batch_size=2"]
        options += ["--model.network.init_args.pretrained=false", "--trainer.max_steps=1"]
        with pytest.raises(SystemExit, match="2"):
            main(["fit", *args, *options, f"--trainer.default_root_dir={tmp_path / dataset}"])
        error = capsys.readouterr().err
        assert message in error
        assert "--data.published_split=false" in error


@pytest.mark.parametrize("form", ["original zip", "flat zip", "PNGs", "rasterized clicks"])
def test_voc_trains_on_every_form_of_its_labels(voc_root: Path, tmp_path: Path, form: str) -> None:
    """The crops hold whole images, so the labels can be counted in the files."""
    options: dict[str, Any] = {"supervision": "scribbles"}
    expected = Counter({0: 0})
    for name in TRAIN_AUG:
        with ZipFile(voc_root / "scribble_annotation.zip") as archive:
            xml = archive.read(f"scribble_annotation/pascal_2012/{name}.xml").decode()
        drawn = draw(xml)
        expected.update(drawn[drawn != IGNORE_INDEX].tolist())
        if form == "PNGs":
            Image.fromarray(drawn).save(tmp_path / f"{name}.png")
            options["scribbles"] = str(tmp_path)
        elif form == "flat zip":
            with ZipFile(tmp_path / "voc_scribbles.zip", "a") as archive:
                archive.writestr(f"{name}.xml", xml)
            options["scribbles"] = str(tmp_path / "voc_scribbles.zip")
    if form == "rasterized clicks":
        options = {"supervision": "clicks", "rasterize_first": True, "width": 3}
        expected = Counter({0: 3 * 18, 1: 9, 12: 9, 20: 9})
    assert train_a_step(VOCDataModule(str(voc_root), **options, **WHOLE)) == expected


def draw(xml: str) -> np.ndarray:
    """Draw the right angle of the background and the point of the object, 3 pixels wide."""
    numbers = [int(number) for number in re.findall(r">(\d+)<", xml)]
    width, height, _, _, left, top, right, _, _, bottom, x, y = numbers
    labels = np.full((height, width), IGNORE_INDEX, dtype=np.uint8)
    labels[top - 1 : top + 2, left - 1 : right + 2] = 0
    labels[top - 1 : bottom + 2, right - 1 : right + 2] = 0
    tag = re.findall("<tag>(.*?)</tag>", xml)[1]
    labels[y - 1 : y + 2, x - 1 : x + 2] = {"plane": 1, "bike": 2, "dog": 12, "monitor": 20}[tag]
    return labels


def test_voc_trains_on_dense_masks(
    voc_root: Path, voc_masks: dict[str, np.ndarray], sbd_masks: dict[str, np.ndarray]
) -> None:
    expected = Counter(value for name in TRAIN_AUG for value in (sbd_masks | voc_masks)[name].flatten().tolist())
    del expected[IGNORE_INDEX]
    assert train_a_step(VOCDataModule(str(voc_root), supervision="full", **WHOLE)) == expected


def test_cityscapes_trains_on_dense_masks(cityscapes_root: Path, city_instances: np.ndarray) -> None:
    seen = train_a_step(
        CityscapesDataModule(str(cityscapes_root), supervision="full", **{**WHOLE, "crop": 96, "batch_size": 3})
    )
    label_ids = {0: [7], 5: [17], 7: [20], 10: [23], 11: [24000, 24001], 13: [26, 26000, 26001]}
    assert seen == {index: 3 * int(np.isin(city_instances, values).sum()) for index, values in label_ids.items()}
