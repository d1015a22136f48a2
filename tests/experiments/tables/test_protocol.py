"""Changes made by the two protocols, against the paper and its authors' code."""

from typing import Any

import pytest

from datamodules.io.errors import InputError
from experiments.tables.protocol import protocol_changes, reported


def flat(changes: dict[str, Any], key: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in changes.items():
        found |= flat(value, f"{key}{name}.") if isinstance(value, dict) else {f"{key}{name}": value}
    return found


WEIGHTS, DENOMINATOR = (
    "model.supervised_loss.init_args.class_weights",
    "model.regularizer.init_args.authors_denominator",
)
WINDOW, CROP = "data.init_args.augmentation.window_scale", "model.inference.crop"


@pytest.mark.parametrize(
    ("dataset", "training", "expected"),
    [
        ("voc", "clicks.gcrf_s", {}),
        ("voc", "full.pce", {}),
        ("shapes", "clicks.gcrf_s", {}),
        ("cityscapes", "full.gcrf_s", {}),
        ("cityscapes", "clicks.pce", {WEIGHTS: "batch"}),
        ("cityscapes", "clicks.gcrf_sd", {WEIGHTS: "batch", "model.regularizer_start_step": 100}),
        ("cityscapes", "clicks.gcrf_s.3x3", {WEIGHTS: "batch", "model.regularizer_start_step": 100}),
    ],
)
def test_paper_stabilizes_only_clicks_on_cityscapes(dataset: str, training: str, expected: dict[str, Any]) -> None:
    assert flat(protocol_changes("paper", dataset, training)) == expected


@pytest.mark.parametrize(
    ("dataset", "training", "expected"),
    [
        ("voc", "full.pce", {WINDOW: True, CROP: 512}),
        ("voc", "clicks.pce", {WINDOW: True, CROP: 512, WEIGHTS: "dataset"}),
        ("cityscapes", "full.gcrf", {WINDOW: True, "model.regularizer_start_step": 451, DENOMINATOR: True}),
    ],
)
def test_authors_protocol_applies_to_all_supervisions(dataset: str, training: str, expected: dict[str, Any]) -> None:
    assert flat(protocol_changes("authors", dataset, training)) == expected


def test_authors_protocol_reports_the_best_evaluation_and_exists_for_two_datasets() -> None:
    assert (reported("paper"), reported("authors")) == ("last", "best")
    with pytest.raises(InputError, match="not for shapes"):
        protocol_changes("authors", "shapes", "clicks.pce")
