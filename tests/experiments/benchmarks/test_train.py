"""The benchmark of a training step: the plain loop is the same training, and the tables say what was measured."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.benchmarks import train as benchmark_train
from experiments.benchmarks.lightning import fit
from experiments.benchmarks.measure import hardware
from experiments.benchmarks.plain_loop import PlainLoop, Setting, Variant, seconds_per_step
from experiments.benchmarks.step import measure
from experiments.benchmarks.train_report import ROWS, TURNS, overhead, tables
from experiments.benchmarks.training_data import draw_tree, make_loader

CPU = torch.device("cpu")
TINY = Setting(3, 2, 32, (60, 45), "jpg", backbone="resnet10t", channels=16)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "photos"
    draw_tree(root, TINY)
    return root


def flatten(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def unavailable(setting: Setting) -> torch.nn.Module:
    raise ModuleNotFoundError


def too_large(setting: Setting) -> torch.nn.Module:
    return torch.nn.Linear(2**24, 2**24)


def test_plain_loop_and_lightning_train_the_same_weights(root: Path, tmp_path: Path) -> None:
    assert 0 < fit(TINY, root, tmp_path, steps=5, num_workers=0) < 60
    assert "4/5" in (tmp_path / "log.txt").read_text()  # the progress bar was drawn
    trained = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    torch.manual_seed(0)
    loop = PlainLoop(TINY, Variant(), CPU, steps=5)
    before = {name: value.clone() for name, value in loop.network.state_dict().items()}
    batches = list(make_loader(root, TINY, 5, num_workers=0))
    for batch in batches:
        loop.step(batch)
    for name, value in loop.network.state_dict().items():
        torch.testing.assert_close(value, trained[f"network.{name}"])
    assert not torch.equal(before["decoder.2.weight"], trained["network.decoder.2.weight"])


def test_clock_runs_from_the_third_batch_to_the_last(root: Path) -> None:
    loop = PlainLoop(TINY, Variant(), CPU, steps=6)
    durations = iter([0.4, 0.4, 0.1, 0.2, 0.3, 0.4])
    loop.step = lambda batch: time.sleep(next(durations))  # type: ignore[method-assign]
    assert 0.2 <= seconds_per_step(loop, make_loader(root, TINY, 6, num_workers=0)) < 0.3


@pytest.mark.parametrize("variant", [Variant(channels_last=True), Variant(precision=torch.bfloat16)])
def test_variants_change_the_step_and_little_of_its_result(root: Path, variant: Variant) -> None:
    setting = TINY._replace(batch=16)  # or BatchNorm would amplify the rounding
    batch = next(iter(make_loader(root, setting, 1, num_workers=0)))
    steps = []
    for taken in (Variant(), variant):
        torch.manual_seed(0)
        loop = PlainLoop(setting, taken, CPU, steps=4)
        before = flatten(loop.network)
        loop.step(batch)
        steps.append(flatten(loop.network) - before)
    assert 0 < (steps[1] - steps[0]).norm() < 0.5 * steps[0].norm()


def test_rows_are_measured_and_those_that_cannot_be_say_why(root: Path) -> None:
    variants = {"a": Variant(), "b": Variant(network=unavailable), "c": Variant(network=too_large)}
    rows = measure(TINY, variants, root, CPU, repeats=1, num_workers=0)
    assert rows["b"] == "not installed"
    assert rows["c"] == "does not fit"
    row = rows["a"]
    assert isinstance(row, dict)
    assert row["images_per_second"] == pytest.approx(2e3 / row["step_ms"])
    assert 0 < row["wait_ms"] < row["step_ms"]
    assert 0 < row["term_ms"] < row["resident_ms"]
    parameters = sum(p.numel() for p in PlainLoop(TINY, Variant(), CPU, 1).network.parameters())
    assert row["mib"] > 3 * 4 * parameters / 2**20  # with momentum and gradients


def test_tables_hold_what_was_measured() -> None:
    row = {"images_per_second": 4.0, "step_ms": 500.0, "wait_ms": 5.0, "term_ms": 8.0, "resident_ms": 400.0}
    size = {
        "setting": TINY._asdict(),
        "rows": {"float32": row | {"mib": 1234.0, "flops": 5e11}, "other": "not installed"},
        "lightning": {"plain_ms": [100.0, 200.0, 100.0], "lightning_ms": [101.0, 210.0, 99.0]},
    }
    steps, turns = tables({"sizes": {"tiny": size}})
    figures = ["4", "500", "1.0 %", "2.0 %", "1,234", "0.5", "1"]
    assert steps == [ROWS, ["2, 32, 3", "float32", *figures], ["2, 32, 3", "other", "not installed", *[""] * 6]]
    assert overhead(size["lightning"]) == pytest.approx([0.01, 0.05, -0.01])
    assert turns == [TURNS, ["2, 32, 3", "resnet10t", "100", "101", "1.0", "1.0 %", "-1.0 to 5.0 %"]]


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    benchmark_train.add_parser(parser.add_subparsers(required=True))
    return parser


def test_command_writes_both_tables(
    tmp_path: Path,
    parser: argparse.ArgumentParser,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(benchmark_train.SETTINGS, "folder_small", TINY)
    arguments = ["--sizes", "folder_small", "--rows", "float32", "--steps", "4", "--repeats", "1", "--num_workers", "0"]
    options = parser.parse_args(["train", *arguments, "--out", str(tmp_path)])
    options.run(options)
    result: dict[str, Any] = json.loads((tmp_path / "train.json").read_text())
    text = (tmp_path / "train.md").read_text()
    assert text in capsys.readouterr().out
    assert result["hardware"] == hardware(CPU)
    assert result["hardware"] in text
    assert "| 2, 32, 3 | float32 |" in text
    assert "| 2, 32, 3 | resnet10t |" in text
    assert len(result["sizes"]["folder_small"]["lightning"]["plain_ms"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"), [(["--repeats", "0"], "--repeats is 0"), (["--steps", "3"], "take 4 or more")]
)
def test_bad_options_are_refused(parser: argparse.ArgumentParser, arguments: list[str], message: str) -> None:
    options = parser.parse_args(["train", *arguments])
    with pytest.raises(ValueError, match=message):
        options.run(options)
