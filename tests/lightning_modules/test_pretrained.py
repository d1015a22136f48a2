"""Weights in the hub's cache are used; without cache and network, the error names the remedy."""

import urllib.error
import urllib.request
from pathlib import Path
from typing import NoReturn

import pytest
from huggingface_hub import constants

from datamodules.io.errors import InputError
from lightning_modules.pretrained import find_weights


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty the cache and disable network access."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_cached_weights_need_no_network(cache: Path) -> None:
    repository = cache / "models--timm--resnet34.tv_in1k"
    weights = repository / "snapshots" / "abc" / "model.safetensors"
    for file, text in ((weights, ""), (repository / "refs" / "main", "abc")):
        file.parent.mkdir(parents=True)
        file.write_text(text)
    assert find_weights("resnet34.tv_in1k") == weights


def test_missing_weights_name_the_file_and_how_to_pass_it() -> None:
    url = f"{constants.ENDPOINT}/timm/resnet34.tv_in1k/resolve/main/model.safetensors"
    with pytest.raises(InputError) as error:
        find_weights("resnet34.tv_in1k")
    lines = str(error.value)
    for part in (url, "no route to host", "pretrained=FILE", "pretrained=false"):
        assert part in lines


def test_tag_decides_which_weights() -> None:
    with pytest.raises(InputError, match=r"timm/resnet34\.a1_in1k"):
        find_weights("resnet34.a1_in1k")


@pytest.mark.parametrize("backbone", ["nf_resnet26", "resnet34.nowhere"])
def test_backbone_without_such_weights_is_refused(backbone: str) -> None:
    with pytest.raises(InputError, match=backbone):
        find_weights(backbone)
