"""The plain loop trains like ``gatedcrf fit``, and its steps are measured."""

import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from experiments.benchmarks.lightning_overhead import fit
from experiments.benchmarks.photographs import PhotographFolder
from experiments.benchmarks.plain_loop import NETWORKS, PlainLoop, measure_steps, seconds_per_step
from experiments.benchmarks.settings import Variant

CPU = torch.device("cpu")


def flatten(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_plain_loop_and_lightning_train_the_same_weights(photographs: PhotographFolder, tmp_path: Path) -> None:
    assert 0 < fit(photographs, tmp_path, steps=5) < 60
    assert "4/5" in (tmp_path / "log.txt").read_text()  # the progress bar was drawn
    trained = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    torch.manual_seed(0)
    loop = PlainLoop(photographs.size, Variant(), CPU, steps=5)
    before = {name: value.clone() for name, value in loop.network.state_dict().items()}
    for batch in photographs.loader(5):
        loop.step(batch)
    for name, value in loop.network.state_dict().items():
        torch.testing.assert_close(value, trained[f"network.{name}"])
    assert not torch.equal(before["decoder.2.weight"], trained["network.decoder.2.weight"])


def test_clock_runs_from_the_third_batch_to_the_last(photographs: PhotographFolder) -> None:
    loop = PlainLoop(photographs.size, Variant(), CPU, steps=6)
    durations = iter([0.2, 0.2, 0.05, 0.1, 0.15, 0.2])
    loop.step = lambda batch: time.sleep(next(durations))  # type: ignore[method-assign]
    assert 0.1 <= seconds_per_step(loop, photographs.loader(6)) < 0.15


@pytest.mark.parametrize("variant", [Variant(channels_last=True), Variant(precision="bfloat16")])
def test_variants_change_the_step_and_little_of_its_result(photographs: PhotographFolder, variant: Variant) -> None:
    size = photographs.size._replace(batch=16)  # with few samples, BatchNorm amplifies the rounding
    batch = next(iter(PhotographFolder(photographs.root, size, num_workers=0).loader(1)))
    steps = []
    for taken in (Variant(), variant):
        torch.manual_seed(0)
        loop = PlainLoop(size, taken, CPU, steps=4)
        before = flatten(loop.network)
        loop.step(batch)
        steps.append(flatten(loop.network) - before)
    assert 0 < (steps[1] - steps[0]).norm() < 0.5 * steps[0].norm()


def test_rows_are_measured_or_say_why_not(photographs: PhotographFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)  # as if it were not installed
    monkeypatch.setitem(NETWORKS, "huge", lambda size: nn.Linear(2**24, 2**24))
    variants = {"a": Variant(), "b": Variant(network="segmentation_models"), "c": Variant(network="huge")}
    rows = measure_steps(photographs, variants, CPU, repeats=1)
    assert list(rows) == ["a", "b", "c"]
    assert rows["b"] == "not installed"
    assert rows["c"] == "does not fit"
    row = rows["a"]
    assert isinstance(row, dict)
    assert row["images_per_second"] == pytest.approx(2e3 / row["step_ms"])
    assert 0 < row["wait_ms"] < row["step_ms"]
    assert 0 < row["term_ms"] < row["resident_ms"]
    parameters = sum(p.numel() for p in PlainLoop(photographs.size, Variant(), CPU, 1).network.parameters())
    assert row["mib"] > 3 * 4 * parameters / 2**20  # with momentum and gradients
