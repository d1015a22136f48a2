from pathlib import Path

import pytest

from experiments import EXPERIMENTS
from experiments.train.configuration import expand, expand_arguments, find_config


def write(folder: Path, **contents: str) -> None:
    for name, content in contents.items():
        (folder / f"{name}.yaml").write_text(content)


def names(paths: list[Path]) -> list[str]:
    return [path.stem for path in paths]


def test_bases_come_first_in_order_and_in_depth(tmp_path: Path) -> None:
    write(tmp_path, a="x: 1", b="base: a.yaml", c="y: 2", d="base: [b.yaml, c.yaml]")
    assert names(expand(tmp_path / "d.yaml")) == ["a", "b", "c", "d"]


def test_a_base_is_found_beside_its_file_before_the_shipped_ones(tmp_path: Path) -> None:
    write(tmp_path, base="x: 1", mine="base: [base.yaml, wandb.yaml]")
    assert expand(tmp_path / "mine.yaml")[:2] == [tmp_path / "base.yaml", EXPERIMENTS / "wandb.yaml"]


def test_each_config_argument_becomes_its_chain(tmp_path: Path) -> None:
    write(tmp_path, a="x: 1", b="base: a.yaml")
    expected = ["fit", "--config", str(tmp_path / "a.yaml"), "--config", str(tmp_path / "b.yaml"), "--x=2"]
    assert expand_arguments(["fit", "-c", str(tmp_path / "b.yaml"), "--x=2"]) == expected
    assert expand_arguments(["fit", f"--config={tmp_path / 'b.yaml'}", "--x=2"]) == expected


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"bad": "base: bad.yaml"}, "based on itself: bad.yaml -> bad.yaml"),
        ({"bad": "base: other.yaml", "other": "base: bad.yaml"}, "bad.yaml -> other.yaml -> bad.yaml"),
        ({"bad": "base: missing.yaml"}, "no configuration 'missing.yaml'"),
        ({"bad": "config: other.yaml"}, "under 'base'"),
        ({"bad": "- a list"}, "holds a list"),
        ({"bad": "a: [1"}, "not valid YAML"),
    ],
)
def test_bad_files_are_refused_with_the_remedy(tmp_path: Path, contents: dict[str, str], message: str) -> None:
    write(tmp_path, **contents)
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        expand(tmp_path / "bad.yaml")


def test_shipped_files_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("losses/gcrf_s.yaml") == EXPERIMENTS / "losses" / "gcrf_s.yaml"
