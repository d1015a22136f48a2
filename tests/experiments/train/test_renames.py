"""Names of version 0.1 on the command line and in configuration files."""

from pathlib import Path

import pytest

from experiments.train.cli import parse
from experiments.train.renames import RENAMED_OPTIONS

NEW = ["fit", "-c", "datasets/shapes.yaml"]


def test_old_options_mean_the_new_ones() -> None:
    old = ["--model.weight=0.3", "--data.crop=32", "--data.init_args.batch_size=4", "--data.mean=[1, 2, 3]"]
    new = ["--model.regularizer_weight=0.3", "--data.augmentation.crop=32", "--data.loader.batch_size=4"]
    with pytest.warns(FutureWarning, match=r"--model.weight is now --model.regularizer_weight"):
        assert parse([*NEW, *old]) == parse([*NEW, *new, "--model.mean=[1, 2, 3]"])


def test_old_files_mean_the_new_ones(tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(
        "model: {first_step: 7}\ndata: {init_args: {num_train: 9, crop: 32, flip: 0, width: 3, num_workers: 2}}\n"
        "trainer: {callbacks+: {class_path: lightning_modules.step_seed.StepSeed}}"
    )
    new.write_text(
        "model: {regularizer_start_step: 7}\ndata:\n  init_args: {num_train: 9, augmentation: {crop: 32, flip: 0},"
        " stroke_width: 3, loader: {num_workers: 2}}\n"
        "trainer: {callbacks+: {class_path: lightning_modules.fault_tolerance.StepSeed}}"
    )
    with pytest.warns(FutureWarning, match="model.first_step is now model.regularizer_start_step"):
        assert parse([*NEW, "-c", str(old)]) == parse([*NEW, "-c", str(new)])


@pytest.mark.parametrize("name", RENAMED_OPTIONS.values())
def test_new_names_exist(name: str) -> None:
    value: object = parse(NEW)
    for key in name.replace("data.", "data.init_args.").split("."):
        assert isinstance(value, dict)
        value = value[key]
