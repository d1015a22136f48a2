"""``gatedcrf data show``: what it refuses."""

from pathlib import Path

import pytest

from experiments.cli import main


@pytest.mark.parametrize(
    ("out", "message"),
    [("sheet.txt", "give it a name that ends in .png"), ("classes.txt/sheet.png", "classes.txt'")],
)
def test_file_that_cannot_be_written_is_named(
    folder_root: Path, capsys: pytest.CaptureFixture[str], out: str, message: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["data", "show", str(folder_root), "--count", "1", "--crops", "1", "--out", str(folder_root / out)])
    assert message in capsys.readouterr().err
