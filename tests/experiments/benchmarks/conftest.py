"""A generated folder that trains in milliseconds."""

import pytest

from experiments.benchmarks.photographs import PhotographFolder
from experiments.benchmarks.settings import TrainSize

TINY = TrainSize(3, 2, 32, (60, 45), "jpg", backbone="test_resnet", channels=16)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> PhotographFolder:
    folder = PhotographFolder(tmp_path_factory.mktemp("data") / "photos", TINY, num_workers=0)
    folder.draw()
    return folder
