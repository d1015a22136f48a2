"""What an offline run leaves for ``wandb sync``, read back from its file."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml
from PIL import Image
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from experiments import EXPERIMENTS, RESULT

CLASSES = ("background", "disc", "square", "triangle", "cross", "ring")
LOGGED = {
    *(
        "train/loss",
        "train/cross_entropy",
        "train/regularizer",
        "train/labeled_pixels",
        "train/labeled_share",
        "lr-SGD",
    ),
    *("throughput/images_per_s", "throughput/data_wait", "val/miou", *(f"val/iou/{name}" for name in CLASSES)),
    *("val/gallery", "val/iou_per_class", "val/confusion_matrix", "val/confusion_counts", "kernels"),
    *("epoch", "trainer/global_step", "_step", "_runtime", "_timestamp"),
}

Read = Callable[[Path], list[Any]]


@pytest.fixture(scope="module")
def tracked(fit: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run that was started twice, from a folder outside the repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        patch.setenv("NETRC", os.devnull)  # no key
        for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_RUN_ID"):
            patch.delenv(name, raising=False)
        named = "[{class_path: lightning_modules.loggers.ForgivingWandbLogger, init_args: {%s}}]"
        named %= "name: clicks GCRF_s seed0, group: table1, tags: [shapes, clicks]"
        run = fit(f"--trainer.logger+={named}")
        wandb.finish()
        fit(f"--trainer.logger+={named}", "--ckpt_path=last", run=run)
        wandb.finish()
        yield run
        patch.delenv("WANDB_MODE", raising=False)  # Lightning sets it for the whole process


@pytest.fixture(scope="module")
def folder(tracked: Path) -> Path:
    """W&B folder of the first start."""
    return min((tracked / "wandb").glob("offline-run-*"), key=lambda path: path.stat().st_mtime)


@pytest.fixture(scope="module")
def records(folder: Path, read_wandb: Read) -> list[Any]:
    (file,) = folder.glob("*.wandb")
    return read_wandb(file)


@pytest.fixture(scope="module")
def history(records: list[Any]) -> list[dict[str, Any]]:
    """Logged values of each call of ``log``; parts of pictures and tables are nested."""
    steps = []
    for record in records:
        step: dict[str, Any] = {}
        for item in record.history.item:
            name, *part = item.nested_key or [item.key]
            value = json.loads(item.value_json)
            step[name] = {**step.get(name, {}), part[0]: value} if part else value
        steps += [step] if step else []
    return steps


def test_everything_is_logged_and_nothing_else(history: list[dict[str, Any]]) -> None:
    assert {name for step in history for name in step} == LOGGED


def test_config_is_the_resolved_one_and_the_run_is_named(tracked: Path, records: list[Any]) -> None:
    config = {item.key: json.loads(item.value_json) for record in records for item in record.config.update}
    config.pop("_wandb", None)
    assert config | {"ckpt_path": "last"} == yaml.safe_load((tracked / "config.yaml").read_text())  # the resumed run
    (run,) = (record.run for record in records if record.HasField("run"))
    assert (run.display_name, run.run_group, set(run.tags)) == ("clicks GCRF_s seed0", "table1", {"shapes", "clicks"})
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=EXPERIMENTS, capture_output=True, text=True, check=False)
    assert run.git.commit == commit.stdout.strip()


def test_figures_are_those_of_the_run(tracked: Path, history: list[dict[str, Any]]) -> None:
    miou = [step["val/miou"] for step in history if "val/miou" in step]
    result = json.loads((tracked / RESULT).read_text())
    assert len(miou) == 2
    assert result["miou"] == pytest.approx(miou[-1], abs=1e-4)
    assert result["best_miou"] == pytest.approx(max(miou), abs=1e-4)
    assert result["best_step"] == 2 * (1 + miou.index(max(miou)))
    for step in history:
        if "train/regularizer" in step:
            total = step["train/cross_entropy"] + 0.1 * step["train/regularizer"]
            assert step["train/loss"] == pytest.approx(total)
            assert step["train/labeled_share"] == step["train/labeled_pixels"] / (2 * 64 * 64)
            assert 0 <= step["throughput/data_wait"] < 1


def test_pictures_and_tables_are_stored_at_each_validation(
    tracked: Path, folder: Path, history: list[dict[str, Any]]
) -> None:
    validations = [step["trainer/global_step"] for step in history if "val/miou" in step]
    for key, sizes in {"val/gallery": {(3 * 64, 64)}, "kernels": {(2 * 44, 44)}}.items():
        logged = [step for step in history if key in step]
        assert [step["trainer/global_step"] for step in logged] == (validations if key == "val/gallery" else [1])
        for step in logged:
            assert step[key]["captions"] == ["shapes_1_0000", "shapes_1_0001", "shapes_1_0002"]
            assert {Image.open(folder / "files" / name).size for name in step[key]["filenames"]} == sizes
    last = {key: value for step in history for key, value in step.items()}
    (picture,) = last["val/confusion_matrix"]["filenames"]
    assert (folder / "files" / picture).read_bytes() == (tracked / "confusion_matrix.png").read_bytes()
    table = json.loads((folder / "files" / last["val/iou_per_class"]["path"]).read_text())["data"]
    assert [name for name, _ in table] == [*CLASSES, "mean"]
    assert table[-1][1] == pytest.approx(last["val/miou"])
    counts = json.loads((folder / "files" / last["val/confusion_counts"]["path"]).read_text())["data"]
    assert sum(sum(row[1:]) for row in counts) == 3 * 64 * 64


def test_resumed_run_keeps_its_id(tracked: Path, read_wandb: Read) -> None:
    files = sorted((tracked / "wandb").glob("offline-run-*/*.wandb"))
    ids = [record.run.run_id for file in files for record in read_wandb(file) if record.HasField("run")]
    assert ids == [(tracked / "wandb_id").read_text()] * 2


def test_sweep_is_tables_3_and_4_in_commands_that_parse(tmp_path: Path) -> None:
    """Run each combination through the shell and the command line, like the agent of W&B."""
    sweep = yaml.safe_load((EXPERIMENTS / "sweep.yaml").read_text())
    values = {name: parameter["values"] for name, parameter in sweep["parameters"].items()}
    assert sorted(values["model.regularizer_weight"]) == [0.05, 0.1, 0.15, 0.2, 0.3]
    last = {"args": {name: {"value": options[-1]} for name, options in values.items()}}
    macros = {**create_sweep_command_args(last), "env": ["/usr/bin/env"]}
    command: list[str] = []
    for part in sweep["command"]:
        macro = re.fullmatch(r"\$\{(\w+)\}", part)
        command += macros[macro[1]] if macro else [part]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "WANDB_RUN_ID": "abc123"}
    done = subprocess.run(
        [*command, "--print_config"], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    config = yaml.safe_load(done.stdout)
    assert config["model"]["regularizer_weight"] == 0.3
    assert config["model"]["regularizer"]["init_args"]["radius"] == 8
    assert config["model"]["regularizer"]["init_args"]["kernels"][0]["sigma"] == {"rgb": 0.1, "xy": 10.0}
    assert config["trainer"]["default_root_dir"] == "runs/sweep/abc123"
    assert config["trainer"]["logger"][1]["class_path"].endswith("ForgivingWandbLogger")
    assert sweep["metric"]["name"] in LOGGED
