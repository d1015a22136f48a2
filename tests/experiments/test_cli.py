import pytest
from experiments.train.errors import brief

from experiments.cli import COMMANDS, main


def test_without_a_command_all_commands_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([])
    printed = capsys.readouterr().out
    assert all(f"  {name}" in printed for name in COMMANDS)


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("radius is 0; it needs 1.", "radius is 0; it needs 1."),
        (
            "Does not validate\n  Errors:\n    - no root\n    - Expected a <class 'NoneType'>\n  Given value: {}",
            "no root",
        ),
        (
            "unrecognized arguments: --model.wieght=3",
            "unrecognized arguments: --model.wieght=3\n  Did you mean model.regularizer_weight?",
        ),
    ],
)
def test_messages_keep_the_reason_only(message: str, expected: str) -> None:
    assert brief(message, known=["model.regularizer_weight", "trainer.max_steps"]) == expected
