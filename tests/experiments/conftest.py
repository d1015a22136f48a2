import json
import os
import struct
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from wandb.proto.wandb_internal_pb2 import Record

from datamodules.dataset import AugmentedCrops
from datamodules.sample import IGNORE_INDEX
from datamodules.sampler import Draw
from datamodules.transforms import RandomScaleCropFlip
from experiments import RESULT
from experiments.cli import main
from experiments.train.run import Run

SMALL = [
    "--trainer.max_steps=4",
    "--trainer.val_check_interval=2",
    "--trainer.log_every_n_steps=1",
    "--data.num_train=8",
    "--data.num_val=3",
    "--data.size=64",
    "--data.augmentation.crop=64",
    "--data.loader.batch_size=2",
    "--model.network.init_args.backbone=test_resnet",
    "--model.network.init_args.channels=16",
    "--model.regularizer_start_step=1",
]

Fit = Callable[..., Path]


@pytest.fixture(scope="session")
def small() -> list[str]:
    """Options for a run of four tiny steps on shapes."""
    return SMALL


@pytest.fixture(scope="session")
def fit(tmp_path_factory: pytest.TempPathFactory) -> Fit:
    """Run the real ``gatedcrf fit`` on tiny shapes and return the run directory."""

    def run(*options: str, run: Path | None = None) -> Path:
        run = run or tmp_path_factory.mktemp("run") / "run"
        configs = ("-c", "datasets/shapes.yaml", "-c", "supervision/clicks.yaml")
        main(["fit", *configs, *SMALL, f"--trainer.default_root_dir={run}", *options])
        return run

    return run


@pytest.fixture(scope="session")
def finished(fit: Fit) -> Path:
    """A run directory that all tests may read."""
    return fit()


@pytest.fixture
def folder_root(tmp_path: Path) -> Path:
    """Two halves of different color: class 0 on the left, class 1 on the right."""
    root = tmp_path / "folder"
    (root / "images" / "test").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for index in range(3):
            image = rng.integers(0, 40, size=(48, 64, 3), dtype=np.uint8)
            image[:, 32:] += 180
            Image.fromarray(image).save(root / "images" / split / f"{split}{index}.png")
            Image.fromarray(np.repeat([[0] * 32 + [1] * 32], 48, axis=0).astype(np.uint8)).save(
                root / "masks" / split / f"{split}{index}.png"
            )
    Image.fromarray(image).resize((50, 37)).save(root / "images" / "test" / "unseen.jpg")
    (root / "classes.txt").write_text("left\nright\n")
    return root


@pytest.fixture(scope="session")
def fit_a_step() -> Callable[..., dict[str, Any]]:
    """Run the real ``gatedcrf fit`` for one step of a small network on any dataset and return its result."""

    def run(folder: Path, dataset: str, supervision: str, *options: str) -> dict[str, Any]:
        configs = [f"datasets/{dataset}.yaml", f"supervision/{supervision}.yaml"]
        network = ["backbone=test_resnet", "pretrained=false", "channels=8"]
        small = ["--trainer.max_steps=1", "--trainer.val_check_interval=1", "--trainer.num_sanity_val_steps=0"]
        small += [
            "--trainer.log_every_n_steps=1",
            "--model.regularizer_start_step=0",
            *(f"--model.network.init_args.{option}" for option in network),
        ]
        small += ["--data.augmentation.crop=32", "--data.loader.batch_size=2", "--data.loader.num_workers=0"]
        small += ["--data.published_split=false"] if dataset in ("voc", "cityscapes") else []
        args = [part for config in configs for part in ("-c", config)]
        main(["fit", *args, *small, f"--trainer.default_root_dir={folder}", *options])
        result: dict[str, Any] = json.loads((folder / RESULT).read_text())
        assert "train/regularizer" in (folder / "metrics.csv").read_text().splitlines()[0]
        return result

    return run


@pytest.fixture(scope="session")
def labels_seen() -> Callable[[Path], Counter[int]]:
    """Count the labels that a run reads from all training images, using crops large enough to contain every label."""

    def count(run: Path) -> Counter[int]:
        data = Run(run).datamodule()
        split = data.train_split()
        crops = AugmentedCrops(split, RandomScaleCropFlip(96, (1.0, 1.0), 0.0), data.seed, data.stroke_width)
        values = [v for k in range(len(split)) for v in crops[Draw(k, 0, k)]["target"].flatten().tolist()]
        return Counter(value for value in values if value != IGNORE_INDEX)

    return count


@pytest.fixture(scope="session")
def read_wandb() -> Callable[[Path], list[Any]]:
    """Read the records of a ``.wandb`` file: blocks of 32 KiB with complete or partial records."""

    def read(path: Path) -> list[Any]:
        content, start, parts, records = path.read_bytes(), 7, b"", []  # 7: magic number and version
        while start + 7 <= len(content):
            if (left := 2**15 - start % 2**15) < 7:  # the rest of the block is too short for a header
                start += left
                continue
            _, length, kind = struct.unpack_from("<IHB", content, start)
            parts += content[start + 7 : start + 7 + length]
            start += 7 + length
            if kind in (1, 4):  # a complete record, or its last part
                records.append(Record.FromString(parts))
                parts = b""
        return records

    return read


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory with space for two and a half checkpoints of 3.4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", folder], check=False)
    if mounted.returncode:
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Write a bash program that precedes others of its name on the PATH. It runs in the folder of the test."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def write(name: str, body: str) -> None:
        (folder / name).write_text(f"#!/bin/bash\ncd {tmp_path}\n{body}\n")
        (folder / name).chmod(0o755)

    return write
