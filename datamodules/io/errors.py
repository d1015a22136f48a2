"""The error class for bad input."""

from collections.abc import Iterable, Sequence
from pathlib import Path

SHOWN = 5  # problems that one error lists


class InputError(ValueError):
    """Bad input: an option, a configuration or a file.

    The command line prints the message and exits with status 2. Any other exception is a bug and shows its traceback.

    Args:
        message: The wrong value or file, and the remedy.
        kind: Category in the report of a dataset, for example "size differs".
        place: The file or image.
    """

    # torch raises errors of loader processes again from their message alone, which needs the defaults
    def __init__(self, message: str, kind: str = "", place: Path | str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.place = str(place)


def distinct(problems: Iterable[InputError]) -> list[InputError]:
    """Return each problem once. Two splits that share a file report it twice."""
    return list({str(problem): problem for problem in problems}.values())


def refuse(problems: Sequence[InputError]) -> None:
    """Raise one error for all problems, if there are any.

    Raises:
        InputError: The only problem, or a list of the first ones.
    """
    if len(problems) == 1:
        raise problems[0]
    if problems:
        rest = len(problems) - SHOWN
        more = [f"... and {rest} more; see: gatedcrf data check"] if rest > 0 else []
        raise InputError("\n".join([f"{len(problems)} problems:", *map(str, problems[:SHOWN]), *more]))
