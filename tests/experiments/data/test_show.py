"""``gatedcrf data show``."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.folder.datamodule import FolderDataModule
from datamodules.transforms import RandomScaleCropFlip
from experiments.cli import main
from experiments.data.show import INCHES, draw
from lightning_modules.palette import voc_palette


def test_sheet_shows_a_click_large_before_and_after_augmentation(
    folder_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On gray photographs, only the labels are colored. Class 1 is red."""
    for path in (folder_root / "images" / "train").iterdir():
        Image.new("RGB", (64, 48), (90, 90, 90)).save(path)
    click = {"class": 1, "points": [[30.5, 20.5]]}
    (folder_root / "clicks.json").write_text(json.dumps({f"train{k}": [click] for k in range(3)}))
    out = tmp_path / "new" / "sheet.png"
    options = ["--data.augmentation.crop=64", "--data.augmentation.scale=[1, 1]", "--data.augmentation.flip=0"]
    main(["data", "show", str(folder_root), "--count=2", "--crops=1", f"--out={out}", *options])
    assert f"2 of 3 training images are in {out}" in capsys.readouterr().out
    sheet = np.array(Image.open(out).convert("RGB"))
    assert sheet.shape[:2] == (round((2 * INCHES + 0.5) * 100), round(2 * INCHES * 100))
    red = (sheet == voc_palette()[1]).all(axis=2)
    rows, columns = (np.array_split(red[: int(200 * INCHES)], 2, axis=axis) for axis in (0, 1))
    assert min(part.sum() for part in [*rows, *columns]) >= 10  # pixels, in the image and in the crop of each row


def test_sheet_has_a_row_per_image_and_names_the_classes(folder_root: Path) -> None:
    data = FolderDataModule(str(folder_root), supervision="full", augmentation=RandomScaleCropFlip(32))
    figure = draw([0, 2], data, crops=3)
    assert [axis.get_title() for axis in figure.axes] == ["train0", "", "", "", "train2", "", "", ""]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["left", "right"]


@pytest.mark.parametrize(
    ("out", "message"),
    [("sheet.txt", "choose a name that ends in .png"), ("classes.txt/sheet.png", "classes.txt'")],
)
def test_unwritable_output_is_named(
    folder_root: Path, capsys: pytest.CaptureFixture[str], out: str, message: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["data", "show", str(folder_root), "--count", "1", "--crops", "1", "--out", str(folder_root / out)])
    assert message in capsys.readouterr().err
