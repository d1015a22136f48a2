"""The files of experiments/proposals name generators that exist."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from jsonargparse import ArgumentParser

from datamodules import proposals
from datamodules.annotations import Annotation, Box
from datamodules.proposals import LabelGenerator

FILES = sorted((Path(__file__).parents[3] / "experiments" / "proposals").glob("*.yaml"))


def generator_of(file: Path) -> LabelGenerator:
    settings = yaml.safe_load(file.read_text())["data"]["init_args"]["proposals"]
    assert settings["rounds"] >= 1
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--generator", type=LabelGenerator)
    created = parser.instantiate(parser.parse_object({"generator": settings["generator"]})).generator
    assert isinstance(created, LabelGenerator)
    return created


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_generator_of_a_file_labels_an_image(file: Path) -> None:
    image = np.random.default_rng(0).integers(0, 40, (20, 30, 3), dtype=np.uint8)
    image[6:14, 5:14] += 200
    labels = [Box(2, np.array([[3.0, 4.0], [15.0, 16.0]])), Annotation(2, np.array([[8.5, 9.5]]))]
    proposal = generator_of(file)(image, labels, None, np.random.default_rng(0))
    assert proposal.shape == (20, 30)
    assert proposal[9, 8] == 2


def test_every_generator_has_a_file() -> None:
    named = {type(generator_of(file)).__name__ for file in FILES}
    assert named == {name for name in proposals.__all__ if name.endswith("Labels") or name == "RecursiveBoxes"}
