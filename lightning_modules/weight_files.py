"""Reasons why a weight file or a checkpoint cannot be read."""

from pathlib import Path

from torch.serialization import get_unsafe_globals_in_checkpoint

ZIP = b"PK"  # first bytes of a file of torch.save


def why_unreadable(path: Path) -> str:
    """Return in one line why loading tensors from a file failed, for example "is truncated or damaged".

    Args:
        path: File of ``torch.save`` or, with the suffix .safetensors, of safetensors. Nothing in it is executed.
    """
    try:
        unsafe = sorted(get_unsafe_globals_in_checkpoint(path))
    except Exception:  # of many types, if it is no intact file of torch.save
        unsafe = []
    if unsafe:
        names = ", ".join([*unsafe[:2], *(["..."] if len(unsafe) > 2 else [])])
        return f"holds objects other than tensors ({names}), and loading these could run code from the file"
    with path.open("rb") as file:
        start = file.read(len(ZIP))
    if start in (ZIP, b"") or path.suffix == ".safetensors":
        return "is truncated or damaged"
    return "was not written by torch.save, or is damaged"
