from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.cli import main

SMALL = [
    "--trainer.max_steps=4",
    "--trainer.val_check_interval=2",
    "--trainer.log_every_n_steps=1",
    "--data.num_train=8",
    "--data.num_val=3",
    "--data.size=64",
    "--data.crop=64",
    "--data.batch_size=2",
    "--model.network.init_args.channels=16",
    "--model.first_step=1",
]

Fit = Callable[..., Path]


@pytest.fixture(scope="session")
def small() -> list[str]:
    """Options that turn a run on shapes into four tiny steps."""
    return SMALL


@pytest.fixture(scope="session")
def fit(tmp_path_factory: pytest.TempPathFactory) -> Fit:
    """Run the real ``gatedcrf fit`` on tiny shapes and return the run directory."""

    def run(*options: str, run: Path | None = None) -> Path:
        run = run or tmp_path_factory.mktemp("run") / "run"
        configs = ["base.yaml", "datasets/shapes.yaml", "supervision/clicks.yaml", "losses/gcrf_s.yaml"]
        args = [part for config in configs for part in ("-c", config)]
        main(["fit", *args, *SMALL, f"--trainer.default_root_dir={run}", *options])
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
