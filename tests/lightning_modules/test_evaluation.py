import json

import pytest
import torch

from lightning_modules.evaluation import Best, Evaluation


def evaluation(confusion: list[list[int]], step: int = 7) -> Evaluation:
    return Evaluation("whole image", "ab", torch.tensor(confusion), images=2, step=step)


def test_summary_in_percent() -> None:
    """8 of 10 pixels of a are right; b is never in the truth, and predicted twice."""
    assert evaluation([[8, 2], [0, 0]]).summary() == {
        "evaluation": "whole image",
        "miou": 40.0,
        "pixel_accuracy": 80.0,
        "iou": {"a": 80.0, "b": 0.0},
        "images": 2,
        "step": 7,
    }


def test_what_is_not_a_number_is_null_in_json() -> None:
    nothing = evaluation([[0, 0], [0, 0]])
    text = json.dumps(nothing.summary() | Best().or_better(nothing).summary())
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text)["miou"] is json.loads(text)["best_miou"] is None


def test_best_is_the_first_of_the_highest() -> None:
    best = Best()
    for step, hits in enumerate([0, 3, 1, 3]):
        best = best.or_better(evaluation([[hits, 4 - hits], [0, 0]] if step else [[0, 0], [0, 0]], step))
    assert best.step == 1
    assert best.miou == pytest.approx(75 / 2)
