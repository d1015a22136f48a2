"""Generated photographs."""

from pathlib import Path

from PIL import Image

from experiments.benchmarks.photographs import draw_photographs


def test_photographs_have_the_size_of_those_of_voc_and_are_always_the_same(tmp_path: Path) -> None:
    draw_photographs(tmp_path / "a", 3)
    draw_photographs(tmp_path / "b", 3)
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
        assert 40 * 2**10 < path.stat().st_size < 120 * 2**10
        with Image.open(path) as picture:
            assert (picture.size, picture.mode, picture.format) == ((500, 375), "RGB", "JPEG")
