"""Unpacking tar archives."""

import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from rich.progress import open as open_with_progress

from datamodules.io.errors import InputError


def extract(path: Path, folder: Path, tree: str) -> Path:
    """Unpack one folder of a tar archive and return its path, ``folder / tree``.

    The folder gets its name when it is complete. A killed call leaves NAME.unpacking, which the next call removes.

    Args:
        path: Tar archive, compressed or not.
        folder: Folder to unpack into.
        tree: Folder inside the archive, for example "VOCdevkit/VOC2012". The rest is not unpacked.

    Raises:
        InputError: The target exists, the archive is missing, damaged or unsafe, or the disk is full.
    """
    target, part = folder / tree, folder / f"{path.name}.unpacking"
    if target.exists():
        raise InputError(f"{target} already exists; remove it to unpack {path} again.")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with (
            open_with_progress(path, "rb", description="Unpacking", transient=True) as file,
            tarfile.open(fileobj=file, mode="r|*", bufsize=1 << 20) as tar,
        ):
            wanted = (member for member in tar if PurePosixPath(member.name).is_relative_to(tree))
            tar.extractall(part, wanted, filter="data")  # refuses paths and links that lead outside
        if not (part / tree).is_dir():
            raise InputError(f"{path} has no folder {tree}; is it the right archive?")
        target.parent.mkdir(parents=True, exist_ok=True)
        (part / tree).rename(target)
    except tarfile.FilterError as error:
        raise InputError(f"{path} is unsafe to unpack ({error}); is it the right archive?") from error
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise InputError(f"{path} is damaged ({error}); remove it and download it again.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be unpacked into {folder} ({error}).") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target
