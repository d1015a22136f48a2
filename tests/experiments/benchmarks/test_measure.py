"""Measurement of time and memory."""

import pytest
import torch

from experiments.benchmarks.measure import check_memory, free_memory, if_it_fits, median_ms, peak_memory
from experiments.benchmarks.settings import LossSize

CPU = torch.device("cpu")


def test_peak_memory_is_the_most_held_at_once() -> None:
    def step() -> None:
        first = torch.zeros(2**18)  # 1 MiB
        del first
        second, third = torch.zeros(2**18), torch.zeros(2**19)  # 3 MiB together
        del second, third

    assert peak_memory(step, CPU) == 3.0


def test_exhausted_memory_is_reported_and_other_errors_are_raised() -> None:
    huge = LossSize((48, 21, 2**12, 2**12))
    assert if_it_fits(lambda: 3) == 3
    assert if_it_fits(lambda: check_memory("tensor", huge, CPU)) == "does not fit"
    assert if_it_fits(lambda: torch.empty(2**50, dtype=torch.uint8)) == "does not fit"
    with pytest.raises(RuntimeError, match="must match"):
        if_it_fits(lambda: torch.ones(2) + torch.ones(3))
    assert 2**20 < free_memory(CPU) < 2**50


def test_steps_alternate_until_their_time_is_used_up() -> None:
    calls: list[str] = []
    times = median_ms({name: lambda name=name: calls.append(name) for name in "ab"}, CPU, 3, seconds=100)
    assert calls == list("ababab")
    assert set(times) == {"a", "b"}
    calls.clear()
    median_ms({"a": lambda: calls.append("a")}, CPU, 3, seconds=1e-12)
    assert calls == ["a"]
