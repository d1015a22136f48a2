"""``gatedcrf data check``: problems by kind, and labels by class."""

import json
from pathlib import Path

import pytest

from experiments.cli import main


def check(*args: str | Path, capsys: pytest.CaptureFixture[str], fails: bool) -> list[str]:
    """Run the command and return its output."""
    if fails:
        with pytest.raises(SystemExit, match="1"):
            main(["data", "check", *map(str, args)])
    else:
        main(["data", "check", *map(str, args)])
    return capsys.readouterr().out.splitlines()


def rows(printed: list[str]) -> list[list[str]]:
    """Return the cells of the table. The lines of a cell are joined."""
    found: list[list[str]] = []
    for line in printed:
        if line.startswith("│"):
            cells = [cell.strip() for cell in line.strip("│").split("│")]
            if cells[0] or not found:
                found.append(cells)
            else:
                found[-1] = [f"{a} {b}".strip() for a, b in zip(found[-1], cells, strict=True)]
    return found


def test_problems_are_counted_by_kind_with_their_first_files(
    folder_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(3, 9):
        (folder_root / f"images/train/train{index}.png").write_bytes(
            (folder_root / "images/train/train0.png").read_bytes()
        )
    image = folder_root / "images" / "val" / "val2.png"
    image.write_bytes(image.read_bytes()[:200])
    printed = check(folder_root, capsys=capsys, fails=True)
    assert rows(printed) == [
        ["missing file", "7", "clicks.json, train3.png, train4.png, train5.png, train6.png, ..."],
        ["cannot be read as an image", "1", "val2.png"],
    ]
    assert printed[-1] == "8 problems in 9 training and 3 validation images"
    assert [Path(line.split(" is missing;")[0]).stem for line in printed if " is missing;" in line] == [
        f"train{index}" for index in range(3, 7)
    ]
    assert any(line.startswith(f"{image} cannot be read as an image") for line in printed)
    printed = check(folder_root, "--all", capsys=capsys, fails=True)
    assert [Path(line.split(" is missing;")[0]).stem for line in printed if " is missing;" in line] == [
        f"train{index}" for index in range(3, 9)
    ]


def test_dataset_file_of_the_user_is_found(
    folder_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "mine.yaml").write_text(
        f"base: datasets/folder.yaml\ndata: {{init_args: {{root: {folder_root}}}}}"
    )
    printed = check("--dataset=mine", "--supervision=full", capsys=capsys, fails=False)
    assert printed[-1] == "2 classes, 3 training and 3 validation images, no problems"
    with pytest.raises(SystemExit, match="2"):
        main(["data", "check", "--dataset=yours"])
    assert "There is no configuration 'datasets/yours.yaml'" in capsys.readouterr().err


def test_image_lists_and_files_are_checked_in_one_call(
    voc_root: Path, cityscapes_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (voc_root / "VOCdevkit/VOC2012/JPEGImages/2007_000033.jpg").unlink()
    printed = check(voc_root, "--dataset", "voc", capsys=capsys, fails=True)
    assert [row[:2] for row in rows(printed)] == [
        ["checksum of a file", "2"],
        ["number of images", "2"],
        ["missing file", "1"],
    ]
    assert "in 4 training and 1 validation images" in printed[-1]
    printed = check(cityscapes_root, "--dataset=cityscapes", capsys=capsys, fails=True)
    assert [row[:2] for row in rows(printed)] == [["number of images", str(18 + 3)], ["cannot be opened", "1"]]
    assert any("cityscapes_clicks.json does not exist; simulate it" in line for line in printed)
    assert "in 0 training and 1 validation images" in printed[-1]


def test_labels_of_each_class_are_counted(folder_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = check(folder_root, "--supervision", "full", capsys=capsys, fails=False)
    assert rows(printed) == [[name, "3", str(3 * 48 * 32), "3", "50.0%"] for name in ("left", "right")]
    assert printed[-1] == "2 classes, 3 training and 3 validation images, no problems"


def test_classes_without_labels_are_named(folder_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inside, outside = {"class": 0, "points": [[3, 4]]}, {"class": 0, "points": [[64, 4]]}
    (folder_root / "clicks.json").write_text(json.dumps({"train0": [inside, inside], "train1": [outside]}))
    main(["data", "check", str(folder_root)])
    printed = capsys.readouterr().out
    assert "2 training images without labels, 1 clicks outside their image" in printed
    assert (
        "Warning: All clicks are of class 0, 'left'; the network will predict it everywhere. Label right too."
        in printed
    )
    assert f"Warning: 1 of 3 labels of {folder_root}/clicks.json lie outside their images: (64, 4) in train1" in printed
    assert printed.endswith("2 classes, 3 training and 3 validation images, no problems, 2 warnings\n")


def test_check_reads_a_dataset_by_its_name(voc_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "check", str(voc_root), "--dataset", "voc", "--data.published_split=false"])
    printed = capsys.readouterr().out
    assert "21 classes, 4 training and 1 validation images, no problems" in printed
    assert "1 clicks outside their image" in printed
    assert "2008_000002" in printed
    (warning,) = (line for line in printed.splitlines() if "arning" in line and "no problems" not in line)
    assert warning.startswith("Warning: Classes without labels in any training image: bicycle, bird, ")


@pytest.mark.parametrize("supervision", ["clicks", "scribbles", "boxes", "tags", "full"])
def test_correct_dataset_has_no_warnings(supervision: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"--data.{option}" for option in ("num_train=12", "num_val=2", "size=96")]
    printed = check("--dataset=shapes", f"--supervision={supervision}", *options, capsys=capsys, fails=False)
    assert printed[-1] == "6 classes, 12 training and 2 validation images, no problems"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--dataset=coco"], "--data.images, --data.train_annotations, --data.val_annotations must be given"),
        (["--dataset=voc"], "--data.root must be given"),
        (["there", "--dataset=shapes"], "Option 'root' is not accepted"),
        (["there", "--data.cropp=3"], "Option 'cropp' is not accepted"),
        (["there", "--data.seed=x"], "Expected a <class 'int'>. Got value: x"),
        (["--dataset=voc", "--supervision=keypoints", "there"], "supervision is 'keypoints'; this dataset has clicks"),
    ],
)
def test_invalid_dataset_options_are_named(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["data", "check", *args])
    assert message in capsys.readouterr().err


def test_one_file_of_clicks_needs_no_brackets(voc_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    objects = voc_root / "voc_whats_the_point.json"
    options = ["--dataset=voc", "--data.published_split=false"]
    alone = check(voc_root, *options, f"--data.clicks={objects}", capsys=capsys, fails=False)
    assert rows(alone)[0][:3] == ["background", "0", "0"]
    both = ["voc_whats_the_point.json", "voc_whats_the_point_bg_from_scribbles.json"]
    listed = f"--data.clicks={json.dumps([str(voc_root / name) for name in both])}"
    assert rows(check(voc_root, *options, listed, capsys=capsys, fails=False))[0][:3] == ["background", "3", "6"]
