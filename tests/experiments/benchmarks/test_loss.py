"""The benchmark of the loss: what it counts, measures and reports."""

from itertools import product
from json import dumps
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.benchmarks import command as benchmark
from experiments.benchmarks import loss_report as benchmark_report
from experiments.benchmarks.loss import Size, measure, multiply_adds, tensor_form_bytes, traffic
from experiments.benchmarks.measure import (
    copy_bandwidth,
    free_memory,
    hardware,
    median_ms,
    multiply_add_rate,
    out_of_memory_as,
    peak_memory,
)
from losses import GatedCRFLoss

CPU = torch.device("cpu")
TINY = Size((2, 3, 8, 8), radius=2)


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    saved: list[str] = []
    measured = measure(
        [TINY],
        {"r": [TINY, TINY._replace(radius=3)]},
        CPU,
        repeats=1,
        log=lambda _: None,
        save=lambda partly: saved.append(dumps(partly)),
    )
    assert saved[-1] == dumps(measured)
    assert len(saved) == 2
    return measured


def test_peak_memory_is_what_was_held_at_once() -> None:
    def step() -> None:
        first = torch.zeros(2**18)  # 1 MiB
        del first
        second, third = torch.zeros(2**18), torch.zeros(2**19)  # 3 MiB together
        del second, third

    assert peak_memory(step, CPU) == 3.0


def test_memory_that_runs_out_is_told_from_other_errors() -> None:
    with pytest.raises(KeyError, match="full"), out_of_memory_as(KeyError("full")):
        torch.empty(2**50, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="must match"), out_of_memory_as(KeyError("full")):
        torch.ones(2) + torch.ones(3)
    assert 2**20 < free_memory(CPU) < 2**50


def test_turns_end_for_a_step_that_took_too_long() -> None:
    calls: list[str] = []
    times = median_ms({name: lambda name=name: calls.append(name) for name in "ab"}, CPU, 3, seconds=100)
    assert calls == list("ababab")
    assert set(times) == {"a", "b"}
    calls.clear()
    median_ms({"a": lambda: calls.append("a")}, CPU, 3, seconds=1e-12)
    assert calls == ["a"]


def test_multiply_adds_are_those_of_the_definition() -> None:
    size = Size((2, 5, 4, 6), radius=3)
    pixels = list(product(range(4), range(6)))
    near = [(a, b) for a, b in product(pixels, pixels) if a != b and max(abs(a[0] - b[0]), abs(a[1] - b[1])) <= 3]
    assert multiply_adds(size, depth=4) == 2 * (len(near) * 5 + len(near) // 2 * 4)
    assert traffic(size, depth=4) == 4 * (2 * 2 * 5 * 24) + 4 * (2 * 4 * 24) + 2 * (2 * 24)


def test_memory_of_the_tensor_form_is_foreseen() -> None:
    """What is refused as too large before it is tried."""
    size = Size((1, 21, 32, 32), radius=5)
    probs, image = torch.rand(size.shape).requires_grad_(), torch.rand(1, 3, 32, 32)
    mib = peak_memory(lambda: GatedCRFLoss(engine="tensor")(probs, {"rgb": image}).backward(), CPU)
    assert tensor_form_bytes(size) / 2**20 == pytest.approx(mib, rel=0.05)


def test_every_engine_is_measured_beside_the_floor(result: dict[str, Any]) -> None:
    (measured,) = result["sizes"]
    assert list(measured["engines"]) == ["tensor", "shifted", "banded"]
    for engine, figures in measured["engines"].items():
        assert figures["loss_error"] < 1e-5
        assert figures["gradient_error"] < 1e-5
        assert figures["share_of_floor"] == pytest.approx(measured["floor_ms"] / figures["ms"])
        if engine != "tensor":
            assert 0 < figures["bf16"]["gradient_error"] < 1e-2
    assert measured["engines"]["shifted"]["times_gradient"] < 0.2 * measured["engines"]["tensor"]["times_gradient"]
    limits = result["limits"]
    floor = max(traffic(TINY) / limits["bytes_per_second"], multiply_adds(TINY) / limits["multiply_adds_per_second"])
    assert measured["floor_ms"] == pytest.approx(1e3 * floor)
    assert measured["training_step_ms"] > 0


def test_a_size_that_does_not_fit_is_reported_and_passed_over(result: dict[str, Any], tmp_path: Path) -> None:
    (measured,) = result["sizes"]
    lacking = {**measured, "engines": {**measured["engines"], "tensor": "does not fit"}}
    lacking |= {"training_step_ms": "too large for a CPU", "term_ms": None}
    both = {**result, "sizes": [measured, lacking]}
    lines = benchmark_report.lines(both)
    assert [line[3] for line in lines].count("does not fit") == 1
    assert {len(line) for line in lines} == {len(benchmark_report.HEADER)}
    assert lines[1][4] == "1.0"
    assert lines[3][-1].endswith(" %")
    assert lines[5][4] == lines[5][-1] == ""
    benchmark_report.draw(both, tmp_path / "loss.png")
    pixels = np.asarray(Image.open(tmp_path / "loss.png").convert("L"))
    assert pixels.shape[1] > 1000
    assert (pixels < 128).mean() > 0.005


def test_title_names_the_hardware_and_both_limits(result: dict[str, Any]) -> None:
    title = benchmark_report.title(result)
    assert hardware(CPU) in title
    for limit in result["limits"].values():
        assert f"{limit / 1e9:.0f} G" in title


def test_limits_are_of_the_order_of_any_machine() -> None:
    assert 1e8 < copy_bandwidth(CPU) < 1e13
    assert 1e8 < multiply_add_rate(CPU) < 1e15


@pytest.mark.parametrize(("arguments", "message"), [(["--repeats", "0"], "--repeats is 0"), (["--sizes", "x"], "voc8")])
def test_bad_options_are_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((ValueError, SystemExit)) as error:
        benchmark.run(["loss", *arguments])
    assert message in str(error.value) + capsys.readouterr().err
