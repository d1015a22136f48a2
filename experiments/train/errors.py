"""Messages of the parser, cut down to what went wrong and what to do."""

import re
from collections.abc import Iterable
from difflib import get_close_matches


def brief(message: str, known: Iterable[str] = ()) -> str:
    """Shorten a message of jsonargparse and, for an unknown key, name the closest known one.

    Args:
        message: Of one line, or with the reasons why each of several types was refused.
        known: Names of options.
    """
    lines = [line.rstrip() for line in message.splitlines() if line.strip()]
    if any(line.strip() == "Errors:" for line in lines):  # one reason per member of a union; None is never meant
        start = next(i for i, line in enumerate(lines) if line.strip() == "Errors:")
        reasons = [line for line in lines[start + 1 :] if "NoneType" not in line]
        given = next((i for i, line in enumerate(reasons) if line.strip().startswith("Given value")), len(reasons))
        context = lines[:1] if lines[0].startswith("Parser key") else []
        lines = [*context, *(reason.strip().removeprefix("- ") for reason in reasons[:given])]
    unknown = re.search(r"unrecognized arguments: -*([\w.]+)|Key '([\w.]+)' is not expected", message, re.IGNORECASE)
    if unknown:
        close = get_close_matches(unknown[1] or unknown[2], sorted(known), n=1, cutoff=0.7)
        lines += [f"Did you mean {close[0]}?"] if close else []
    return "\n  ".join(lines)
