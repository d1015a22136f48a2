"""Writing JSON so that what is there is never half of it."""

import json
from pathlib import Path


def write_json(path: Path, content: object) -> None:
    """Write JSON, moved into place when it is whole.

    Args:
        path: The file, in a folder that exists.
        content: What to write.
    """
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(content) + "\n")
    temporary.replace(path)
