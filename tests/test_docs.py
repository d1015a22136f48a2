"""The documentation, tried: commands and configurations parse, links and files exist, and the recipes train."""

import ast
import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import datamodules
import lightning_modules
import losses
from experiments import RESULT
from experiments.cli import PARSERS, main
from experiments.launch.slurm_script import Settings
from experiments.train.cli import parse

ROOT = Path(__file__).parents[1]
PACKAGES = ("losses", "datamodules", "lightning_modules", "experiments")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "experiments" / "README.md", *(ROOT / "docs").glob("*.md")]
CONFIGURATIONS = sorted((ROOT / "experiments").rglob("*.yaml"))
FINISHED = "base: [datasets/folder.yaml, supervision/clicks.yaml]\ndata: {init_args: {root: photos}}\n"
"""Stands for the configuration of a run wherever a page names RUN/config.yaml."""


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)


def recipes() -> dict[str, str]:
    """Content of each file in CONTRIBUTING that stands below its path."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    return dict(re.findall(r"^`([\w/]+\.(?:py|yaml))`\n\n```(?:python|yaml)\n(.*?)^```$", text, re.M | re.S))


def commands(script: str) -> Iterator[tuple[str, ...]]:
    """Yield the arguments of every call of gatedcrf in a script."""
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        starts = [k for k, word in enumerate(words) if word in ("gatedcrf", "experiments.cli")]
        if starts:
            yield tuple(words[starts[0] + 1 :])


def comment(path: Path) -> str:
    """Commands in the comments at the top of a configuration: lines that start with "# gatedcrf" and what continues them."""
    lines = [line.removeprefix("# ") for line in path.read_text().splitlines() if line.startswith("#")]
    return "\n".join(re.findall(r"^gatedcrf (?:.*\\\n)*.*$", "\n".join(lines), re.M))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Working directory with every file that the pages tell a reader to write; packages find the recipes there."""
    folder = tmp_path_factory.mktemp("docs")
    for path, content in recipes().items():
        file = folder / path.removeprefix("experiments/")  # configurations are looked up in the working directory, too
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    for page in PAGES:
        for block in blocks(page, "yaml"):
            if named := re.match(r"# (\w+\.yaml)", block):
                (folder / named[1]).write_text(block)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for package in (losses, datamodules, lightning_modules):
            patch.setattr(package, "__path__", [*package.__path__, str(folder / package.__name__)])
        yield folder


@cache
def check(command: tuple[str, ...]) -> None:
    """Parse a command without running it; options for the runs of a table or for a dataset are parsed as those of fit."""
    for word in command:
        if word.endswith("/config.yaml") and not (file := Path(word)).exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(FINISHED)
    if command[0] not in PARSERS:
        parse(command)
        return
    options = import_module(f"experiments.{PARSERS[command[0]]}.parser").parse(list(command))
    if command[0] == "reproduce":
        supervision, changes = "clicks", command[command.index("--") + 1 :] if "--" in command else ()
    elif hasattr(options, "supervision"):
        root = [] if options.root is None else [f"--data.root={options.root}"]
        supervision, changes = options.supervision, [*root, *(word for word in command if word.startswith("--data."))]
    else:
        return
    check(("fit", "-c", f"datasets/{options.dataset}.yaml", f"--data.supervision={supervision}", *changes))


def check_all(found: Sequence[tuple[str, ...]]) -> None:
    for command in found:
        try:
            check(command)
        except SystemExit as end:  # --help and --print_config
            assert end.code in (0, None), shlex.join(command)
        except Exception as error:
            pytest.fail(f"gatedcrf {shlex.join(command)}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_of_a_page_parse(page: Path, folder: Path) -> None:
    found = [command for script in blocks(page, "bash") for command in commands(script)]
    inline = re.findall(r"`(gatedcrf [a-z]+ [^`]*-[^`]*)`", page.read_text())
    found += [command for text in inline if not re.search(r"[A-Z|]{2,} |\.\.\.", text) for command in commands(text)]
    assert found
    check_all(found)


def test_commands_in_the_comments_of_configurations_parse(folder: Path) -> None:
    found = {path: list(commands(comment(path))) for path in CONFIGURATIONS}
    assert {path.stem for path, named in found.items() if named} >= {*(f"table{n}" for n in range(1, 6)), "voc", "slurm"}
    check_all([command for named in found.values() for command in named])


@pytest.mark.parametrize("command", ["gatedcrf fit -c base.yaml --data.rot=photos", "gatedcrf data chek photos"])
def test_a_wrong_command_is_found(command: str, folder: Path) -> None:
    with pytest.raises(BaseException, match=r"(?s).*"), pytest.raises(AssertionError):
        check_all(list(commands(command)))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_configurations_of_a_page_parse(page: Path, folder: Path) -> None:
    for number, block in enumerate(blocks(page, "yaml")):
        content = yaml.safe_load(block)
        file = folder / f"{page.stem}_{number}.yaml"
        file.write_text(block)
        if "data" in content or "base" in content:
            parse(["fit", "-c", str(file), *([] if "base" in content else ["--data.root=photos"])])
        elif "model" in content:
            parse(["fit", "-c", "datasets/shapes.yaml", "-c", str(file)])
        else:
            Settings.load(file)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_and_named_files_exist(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for target, _, anchor in (link.partition("#") for link in re.findall(r"\]\(([^)\s]+)\)", text)):
        if target.startswith("http"):
            continue
        file = page if not target else page.parent / target
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", file.read_text(), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}, anchor
    for path in re.findall(rf"`((?:{'|'.join(PACKAGES)}|notebooks|tests|docs)/[\w./]*)", text):
        assert (ROOT / path).exists() or path in recipes() or "/my_" in path, path


def test_readme_is_short_and_starts_with_picture_and_result() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= 1000
    assert text.index("![") < text.index("65.22 ± 2.13") < text.index("git clone") < text.index("## Your own images")


def test_layout_names_every_module() -> None:
    (layout,) = blocks(ROOT / "CONTRIBUTING.md", "text")
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path.stem != "__init__"]
    named = set(re.findall(r"[\w/]+", layout.replace("/ ", " ")))
    missing = sorted(str(path.relative_to(ROOT)) for path in modules if path.stem not in named)
    assert not missing


def test_python_of_the_pages_parses() -> None:
    for page in PAGES:
        for block in blocks(page, "python"):
            ast.parse(block)


def draw_leaves(root: Path) -> None:
    """Two images per split: a bright leaf on dark soil."""
    mask = np.zeros((48, 48), dtype=np.uint8)
    mask[8:40, 8:40] = 1
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(np.repeat(60 + 120 * mask[..., None], 3, axis=2)).save(root / split / f"{number}.jpg")
            Image.fromarray(mask).save(root / split / f"{number}.png")


@pytest.mark.parametrize("recipe", ["losses/entropy", "datamodules/leaves"])
def test_recipes_train(recipe: str, folder: Path, tmp_path: Path) -> None:
    """One step of the network's recipe, with the loss or the dataset of another one."""
    options = ["-c", "datasets/shapes.yaml", "-c", "losses/entropy.yaml", "--data.num_train=2", "--data.num_val=1"]
    if recipe == "datamodules/leaves":
        draw_leaves(tmp_path / "leaves")
        options = ["-c", "datasets/leaves.yaml", f"--data.root={tmp_path / 'leaves'}", "--data.loader.num_workers=0"]
    options += ["--model.network=lightning_modules.plain_network.PlainNetwork", "--model.network.channels=4"]
    options += ["--data.augmentation.crop=32", "--data.loader.batch_size=2", "--trainer.max_steps=1"]
    options += ["--trainer.val_check_interval=1", "--trainer.num_sanity_val_steps=0", "--trainer.accelerator=cpu"]
    main(["fit", "-c", "supervision/clicks.yaml", *options, f"--trainer.default_root_dir={tmp_path / 'run'}"])
    assert (tmp_path / "run" / RESULT).is_file()
