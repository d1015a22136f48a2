"""Documentation: commands and configurations parse, links and files exist, and recipes train."""

import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import datamodules
import gated_crf
import lightning_modules
import losses
from experiments.cli import main, parser_package
from experiments.launch.slurm_script import Settings
from experiments.train.cli import parse

ROOT = Path(__file__).parents[1]
PACKAGES = ("losses", "datamodules", "lightning_modules", "experiments")
NAMES = ("README.md", "CONTRIBUTING.md", "experiments/README.md", "docs/*.md")
PAGES = sorted(page for name in NAMES for page in ROOT.glob(name))
CONFIGURATIONS = sorted((ROOT / "experiments").rglob("*.yaml"))
RUN = "base: [datasets/folder.yaml, supervision/clicks.yaml]\ndata: {init_args: {root: photos}}\n"
"""Content of each RUN/config.yaml that a page names."""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)


def recipes() -> dict[str, str]:
    """Return the files of CONTRIBUTING.md: each code block below a line with its path."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    return dict(re.findall(r"^`([\w/]+\.(?:py|yaml))`\n\n```(?:python|yaml)\n(.*?)^```$", text, re.M | re.S))


def commands(script: str) -> Iterator[tuple[str, ...]]:
    """Yield the arguments of each call of gatedcrf in a script."""
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        starts = [k for k, word in enumerate(words) if word in ("gatedcrf", "experiments.cli")]
        if starts:
            yield tuple(words[starts[0] + 1 :])


def commands_of_configuration(path: Path) -> Iterator[tuple[str, ...]]:
    """Yield the arguments of each call of gatedcrf that a comment begins with."""
    lines = [line.removeprefix("# ") for line in path.read_text().splitlines() if line.startswith("# ")]
    return commands("\n".join(re.findall(r"^gatedcrf (?:.*\\\n)*.*$", "\n".join(lines), re.M)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Working directory with the files that the pages ask readers to write. Packages find the recipes there."""
    folder = tmp_path_factory.mktemp("docs")
    copytree(ROOT / "experiments" / "datasets", folder / "datasets")
    for path, content in recipes().items():
        file = folder / path.removeprefix("experiments/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    for block in (block for page in PAGES for block in blocks(page, "yaml")):
        if named := re.match(r"# (\w+\.yaml)", block):
            (folder / named[1]).write_text(block)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for package in (losses, datamodules, lightning_modules):
            patch.setattr(package, "__path__", [*package.__path__, str(folder / package.__name__)])
        yield folder


@cache
def check(command: tuple[str, ...]) -> None:
    """Parse a command without running it, also what it passes on to ``fit`` or to a dataset."""
    for word in command:
        if word.endswith("/config.yaml"):
            Path(word).parent.mkdir(parents=True, exist_ok=True)
            Path(word).write_text(RUN)
    package = parser_package(command)
    if package is None:
        parse(command)
        return
    options = import_module(f"experiments.{package}.parser").parse(list(command))
    if command[0] == "reproduce":
        passed = command[command.index("--") + 1 :] if "--" in command else ()
        check(("fit", "-c", f"datasets/{options.dataset}.yaml", "-c", "supervision/clicks.yaml", *passed))
    elif hasattr(options, "supervision"):
        passed = tuple(word for word in command if word.startswith("--data."))
        passed += () if options.root is None else (f"--data.root={options.root}",)
        check(("fit", "-c", f"datasets/{options.dataset}.yaml", f"--data.supervision={options.supervision}", *passed))


def check_all(found: Sequence[tuple[str, ...]]) -> None:
    for command in found:
        try:
            check(command)
        except (Exception, SystemExit) as error:
            if not isinstance(error, SystemExit) or error.code:  # status 0: --help and --print_config
                pytest.fail(f"gatedcrf {shlex.join(command)}: {error}")


@each_page
def test_commands_of_a_page_parse(page: Path, folder: Path) -> None:
    found = [command for script in blocks(page, "bash") for command in commands(script)]
    inline = re.findall(r"`(gatedcrf [a-z]+ [^`]*[ \n]-[^`]*)`", page.read_text())
    found += [command for text in inline if "..." not in text for command in commands(text.replace("\n", " "))]
    assert found
    check_all(found)


def test_commands_in_the_comments_of_configurations_parse(folder: Path) -> None:
    found = {path.stem: list(commands_of_configuration(path)) for path in CONFIGURATIONS}
    assert all(found[name] for name in ("table1", "table2", "table3", "table4", "table5", "voc", "folder", "slurm"))
    check_all([command for named in found.values() for command in named])


@pytest.mark.parametrize("command", ["gatedcrf fit -c datasets/folder.yaml --data.rot=x", "gatedcrf data chek photos"])
def test_a_wrong_command_is_found(command: str, folder: Path) -> None:
    with pytest.raises(pytest.fail.Exception):
        check_all(list(commands(command)))


@each_page
def test_configurations_of_a_page_parse(page: Path, folder: Path) -> None:
    for number, block in enumerate(blocks(page, "yaml")):
        content, file = yaml.safe_load(block), folder / f"{page.stem}_{number}.yaml"
        file.write_text(block)
        if {"data", "base"} & set(content):
            assert parse(["fit", "-c", str(file), "--data.root=photos"])["data"]
        elif "model" in content:
            assert parse(["fit", "-c", "datasets/shapes.yaml", "-c", str(file)])["model"]
        else:
            assert content.items() <= vars(Settings.load(file)).items()


@each_page
def test_links_and_named_files_exist(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for target, _, anchor in (link.partition("#") for link in re.findall(r"\]\(([^)\s]+)\)", text)):
        if target.startswith("http"):
            continue
        file = page.parent / target if target else page
        assert file.exists(), target
        titles = re.findall(r"^#+ (.*)$", file.read_text(), re.M) if anchor else []
        anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
        assert not anchor or anchor in anchors, f"{target}#{anchor}"
    for path in re.findall(rf"`((?:{'|'.join(PACKAGES)}|notebooks|tests|docs)/[\w./]*)", text):
        exists = (ROOT / path).exists() or (ROOT / "experiments" / path).exists()
        assert exists or path in recipes() or "/my_" in path, path


def test_readme_is_short_and_starts_with_picture_and_result() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= 1000
    assert text.index("![") < text.index("| clicks |") < text.index("git clone") < text.index("## Your own images")


def test_wheels_for_older_drivers_have_the_tested_versions() -> None:
    tested = set((ROOT / "constraints.txt").read_text().splitlines())
    named = re.findall(r"\b(torch\w*==[\d.]+)\+cu126", (ROOT / "docs" / "clusters.md").read_text())
    assert len(named) == 2
    assert set(named) <= tested


def test_layout_names_every_module() -> None:
    (layout,) = blocks(ROOT / "CONTRIBUTING.md", "text")
    named = set(re.findall(r"\w+", layout))
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path.stem != "__init__"]
    assert not [str(path.relative_to(ROOT)) for path in modules if not {path.stem, path.parent.name} <= named]


@pytest.mark.parametrize("page", ["README.md", "docs/from_the_authors_code.md"])
def test_losses_run_as_written(page: str) -> None:
    names = {"network": torch.nn.Conv2d(3, 5, 4, stride=4), "image": torch.randn(2, 3, 32, 32)}
    names |= {"target": torch.full((2, 32, 32), 255, dtype=torch.uint8), "valid": torch.ones(2, 32, 32) > 0}
    for block in blocks(ROOT / page, "python"):
        exec(block, names)
    assert names["loss"] > 0


def test_exported_model_runs_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts of docs/predict.md, on a checkpoint and a photograph of a run of one step."""
    monkeypatch.chdir(tmp_path)
    options = ["--data.num_train=2", "--data.num_val=2", "--data.augmentation.crop=32", "--data.loader.batch_size=2"]
    options += ["--model.network.backbone=test_resnet", "--model.network.channels=4", "--trainer.max_steps=1"]
    options += [
        "--trainer.num_sanity_val_steps=0",
        "--trainer.default_root_dir=runs/photos",
        "--trainer.accelerator=cpu",
    ]
    main(["fit", "-c", "datasets/shapes.yaml", "-c", "supervision/clicks.yaml", *options])
    folder = Path("photos/images/test")
    folder.mkdir(parents=True)
    photograph = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    for path in ("photo.jpg", folder / "IMG_0001.jpg"):
        photograph.save(path)
    (command,) = (c for script in blocks(ROOT / "docs" / "predict.md", "bash") for c in commands(script) if "onnx" in c)
    main(list(command))
    names: dict[str, object] = {}
    for script in blocks(ROOT / "docs" / "predict.md", "python"):
        exec(script, names)
    predicted = gated_crf.load("runs/photos/checkpoints/best.ckpt", "cpu").predict("photo.jpg")
    np.testing.assert_array_equal(names["classes"], predicted)


def draw_leaves(root: Path) -> None:
    """Draw two images per split: a bright leaf on dark soil."""
    mask = np.zeros((48, 48), dtype=np.uint8)
    mask[8:40, 8:40] = 1
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(np.repeat(60 + 120 * mask[..., None], 3, axis=2)).save(root / split / f"{number}.jpg")
            Image.fromarray(mask).save(root / split / f"{number}.png")


@pytest.mark.parametrize("recipe", ["losses/entropy.yaml", "datasets/leaves.yaml"])
def test_recipes_train(recipe: str, folder: Path, tmp_path: Path) -> None:
    """Train the network of the recipes with their loss or their dataset, then open the run in a script."""
    draw_leaves(tmp_path)
    options = ["-c", "datasets/shapes.yaml", "-c", recipe, "--data.num_train=2", "--data.num_val=1"]
    if recipe == "datasets/leaves.yaml":
        options = ["-c", recipe, f"--data.root={tmp_path}", "--data.loader.num_workers=0"]
    options += ["--model.network=lightning_modules.plain_network.PlainNetwork", "--model.network.channels=4"]
    options += ["--data.augmentation.crop=32", "--data.loader.batch_size=2", "--model.regularizer_start_step=0"]
    options += ["--trainer.max_steps=1", "--trainer.val_check_interval=1", "--trainer.log_every_n_steps=1"]
    options += ["--trainer.num_sanity_val_steps=0", "--trainer.accelerator=cpu"]
    main(["fit", *options, "-c", "supervision/clicks.yaml", f"--trainer.default_root_dir={tmp_path / 'run'}"])
    assert "train/regularizer" in (tmp_path / "run" / "metrics.csv").read_text()
    (script,) = blocks(ROOT / "docs" / "training.md", "python")
    names: dict[str, object] = {}
    exec(script.replace("runs/photos", str(tmp_path / "run")), names)
    assert type(names["model"].network).__name__ == "PlainNetwork"
