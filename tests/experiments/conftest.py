from collections.abc import Callable
from pathlib import Path

import pytest

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
