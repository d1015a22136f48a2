"""The plain loop trains like ``gatedcrf fit``, and its steps are measured."""

import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from experiments.benchmarks.lightning_overhead import fit
from experiments.benchmarks.measure import find_device
from experiments.benchmarks.photographs import PhotographFolder
from experiments.benchmarks.plain_loop import NETWORKS, PlainLoop, measure_steps, seconds_per_step
from experiments.benchmarks.settings import PRESETS, Variant

CPU = torch.device("cpu")


def flatten(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.gpu
@pytest.mark.parametrize("preset", PRESETS)
def test_plain_loop_and_lightning_train_the_same_weights(
    preset: str, photographs: PhotographFolder, tmp_path: Path
) -> None:
    """With the switches of either preset. Sums on a GPU differ between runs, and BatchNorm of few samples amplifies."""
    device, tf32 = find_device(), (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
    assert 0 < fit(photographs, tmp_path, 5, preset) < 60
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == tf32
    assert "5/5" in (tmp_path / "log.txt").read_text()  # the progress bar was drawn
    trained = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    torch.manual_seed(0)
    loop = PlainLoop(photographs.size, PRESETS[preset], device, steps=5)
    start = flatten(loop.network)
    for batch in photographs.loader(5):
        loop.step(batch)
    by_fit = torch.cat([trained[f"network.{name}"].flatten() for name, _ in loop.network.named_parameters()])
    update = by_fit.to(device) - start
    tolerance = 1e-5 if device.type == "cpu" else 0.5
    assert (flatten(loop.network) - start - update).norm() <= tolerance * update.norm()
    assert update.norm() > 0.01


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
