"""Names in both Unicode forms."""

from pathlib import Path
from unicodedata import normalize

import pytest

from datamodules.io.names import composed, find_png, image_name, suggestion

COMPOSED, DECOMPOSED = (normalize(form, "Bäume am Fluß à côté") for form in ("NFC", "NFD"))


def test_both_forms_are_one_name() -> None:
    assert COMPOSED != DECOMPOSED
    assert composed(DECOMPOSED) == COMPOSED
    assert image_name(Path(f"images/{DECOMPOSED}.1.jpg")) == f"{COMPOSED}.1"


@pytest.mark.parametrize("suffix", [".png", ".PNG"])
@pytest.mark.parametrize("image", [COMPOSED, DECOMPOSED])
@pytest.mark.parametrize("mask", [COMPOSED, DECOMPOSED])
def test_mask_is_found_in_either_form(mask: str, image: str, suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"{mask}{suffix}").touch()
    (tmp_path / f"{mask}.jpg").touch()
    assert find_png(tmp_path, Path(f"images/{image}.jpg")) == tmp_path / f"{mask}{suffix}"


def test_missing_mask_has_the_name_of_the_image(tmp_path: Path) -> None:
    assert find_png(tmp_path, Path("images/a.1.jpg")) == tmp_path / "a.1.png"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("img_01", " Did you mean 'IMG_01'?"), ("IMG_01.jpg", " Did you mean 'IMG_01'?"), ("IMG_02", "")],
)
def test_name_in_other_case_or_with_a_suffix_is_suggested(name: str, expected: str) -> None:
    assert suggestion(name, ["IMG_01", "other"]) == expected
