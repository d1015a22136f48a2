"""What a GPU should reach, and where the results have it."""

from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

from experiments.benchmarks.report import Result, format_number
from experiments.benchmarks.settings import LOSS_SIZES


class Goal(NamedTuple):
    """A figure, its value in the contents of loss.json and train.json, and on which side of ``goal`` it should be."""

    name: str
    value: Callable[[Result, Result], float]
    at_least: bool
    goal: float
    unit: str


def _engines(loss: Result, size: str) -> Any:
    wanted = LOSS_SIZES[size]
    (found,) = (s for s in loss["sizes"] if (tuple(s["size"]["shape"]), s["size"]["radius"]) == wanted[:2])
    return found["engines"]


def _share_of_step(train: Result) -> float:
    row = train["sizes"]["voc"]["rows"]["preset_gpu"]
    return 100 * float(row["term_ms"]) / float(row["resident_ms"])


def images_per_second(size: Result) -> float:
    """Return the speed of ``fit`` for a size of train.json."""
    ms: float = median(size["lightning"]["lightning_ms"])
    return 1e3 * float(size["setting"]["batch"]) / ms


def _behind(size: Result) -> float:
    pairs = zip(size["lightning"]["plain_ms"], size["lightning"]["lightning_ms"], strict=True)
    return 100 * float(median(1 - plain / lightning for plain, lightning in pairs))


GOALS = [
    Goal(
        "loss at 48, 21, 64, 64: times faster than the tensor form",
        lambda loss, _: _engines(loss, "voc")["tensor"]["ms"] / _engines(loss, "voc")["fused"]["ms"],
        *(True, 30, ""),
    ),
    Goal("the same: share of a training step with preset gpu", lambda _, train: _share_of_step(train), False, 1, " %"),
    Goal(
        "loss at 8, 21, 256, 256 and r = 11",
        lambda loss, _: _engines(loss, "full_r11")["fused"]["ms"],
        *(False, 10, " ms"),
    ),
    Goal(
        "`fit` on 48 crops of 256 from the cache",
        lambda _, train: images_per_second(train["sizes"]["voc"]),
        *(True, 1500, " images/s"),
    ),
    Goal("the same: behind a plain loop", lambda _, train: _behind(train["sizes"]["voc"]), False, 10, " %"),
]


def goal_cells(goal: Goal, loss: Result, train: Result) -> list[str]:
    """Return a row of the report: the figure, its goal, the measured value, and whether it reaches the goal."""
    target = f"at {'least' if goal.at_least else 'most'} {goal.goal:,}{goal.unit}"
    try:
        value = goal.value(loss, train)
    except (KeyError, TypeError, ValueError):  # the part was not run or is incomplete; or the size did not fit
        return [goal.name, target, "not measured", ""]
    reached = value >= goal.goal if goal.at_least else value <= goal.goal
    return [goal.name, target, f"{format_number(value)}{goal.unit}", "yes" if reached else "no"]
