import subprocess
import sys

import pytest

from experiments.cli import COMMANDS, main


def test_without_a_command_all_commands_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([])
    printed = capsys.readouterr().out
    assert all(f"  {name}" in printed for name in COMMANDS)


@pytest.mark.parametrize(
    ("args", "status", "printed"),
    [
        (["--help"], 0, "train a model"),
        (["fitt"], 2, "There is no command 'fitt'. Did you mean fit?"),
        (["reproduce", "--help"], 0, "--protocol"),
        (["reproduce", "table1", "--seed", "3"], 2, "unrecognized arguments: --seed 3"),
        (["table", "--help"], 0, "--tables"),
        (["data", "--help"], 0, "check"),
        (["data", "check", "--help"], 0, "--supervision"),
        (["data", "chekc"], 2, "invalid choice: 'chekc'"),
        (["benchmark", "--help"], 0, "loss"),
    ],
)
def test_help_and_misspellings_do_not_wait_for_torch(args: list[str], status: int, printed: str) -> None:
    code = (
        "import sys\n"
        "from experiments.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: assert not {'torch', 'numpy', 'pytorch_lightning'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert printed in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
