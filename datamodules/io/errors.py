"""What is wrong with a dataset, as errors that can be counted by kind."""

from collections.abc import Iterable, Sequence
from pathlib import Path

FEW = 5  # problems that one error shows


class DataError(ValueError):
    """Something that is wrong with a file or an image of a dataset.

    Args:
        message: What and where, and the remedy.
        kind: What it has in common with others, for a table: "size differs", say.
        place: The file or the image.
    """

    # the defaults are for loader processes, whose errors are made anew from the message
    def __init__(self, message: str, kind: str = "", place: Path | str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.place = str(place)


def distinct(problems: Iterable[DataError]) -> list[DataError]:
    """Return each problem once: what two splits share is found twice."""
    return list({str(problem): problem for problem in problems}.values())


def refuse(problems: Sequence[DataError]) -> None:
    """Raise one error for all problems, if there are any.

    Raises:
        DataError: The only one.
        ValueError: The first of several.
    """
    if len(problems) == 1:
        raise problems[0]
    if problems:
        rest = len(problems) - FEW
        more = [f"... and {rest} more; see: gatedcrf data check"] if rest > 0 else []
        raise ValueError("\n".join([f"{len(problems)} problems:", *map(str, problems[:FEW]), *more]))
