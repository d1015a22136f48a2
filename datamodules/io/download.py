"""Resumable downloads."""

import hashlib
from collections.abc import Callable
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from datamodules.io.errors import InputError

CHUNK = 1 << 16  # bytes
TIMEOUT_S = 30.0  # without data


def download(url: str, md5: str, folder: Path, timeout: float = TIMEOUT_S) -> Path:
    """Download a file, verify its MD5 sum and return its path. An incomplete file is named NAME.part and resumed.

    Args:
        url: Address of the file. Its last part is the file name.
        md5: MD5 sum, hexadecimal. An existing file is only verified.
        folder: Folder of the file, created if it is missing.
        timeout: Seconds without data after which the connection is closed.

    Raises:
        InputError: The file cannot be downloaded or written, or has a different MD5 sum.
    """
    path = folder / url.rpartition("/")[2]
    if path.exists():
        if (found := _md5(path)) != md5:
            raise InputError(f"{path} has MD5 sum {found} instead of {md5}; remove it to download it again.")
        return path
    part = path.with_name(f"{path.name}.part")
    remedy = f"or download it elsewhere and put it at {path}."
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _complete(url, part, timeout)
    except (OSError, HTTPException) as error:
        message = f"{url} cannot be downloaded ({error}). Run the command again to continue, {remedy}"
        raise InputError(message) from error
    if (found := _md5(part)) != md5:
        part.unlink()
        problem = f"gave a file with MD5 sum {found} instead of {md5}, which was removed"
        raise InputError(f"{url} {problem}. Run the command again, {remedy}")
    part.replace(path)
    return path


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _complete(url: str, part: Path, timeout: float) -> None:
    """Download the rest of a file. Reconnect as long as connections make progress."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), transient=True) as progress, part.open("ab") as file:
        task = progress.add_task(part.stem, total=None)
        while True:
            done = file.tell()
            try:
                _receive(url, file, timeout, partial(progress.update, task))
            except (OSError, HTTPException) as error:
                if isinstance(error, HTTPError) and error.code == 416:  # no more bytes: the file is complete
                    return
                if file.tell() <= done:
                    raise
            else:
                return


def _receive(url: str, file: BinaryIO, timeout: float, update: Callable[..., None]) -> None:
    """Append the data of one connection. Raise OSError or HTTPException if it ends early."""
    headers = {"User-Agent": "gated-crf", "Range": f"bytes={file.tell()}-"}
    with urlopen(Request(url, headers=headers), timeout=timeout) as response:
        if response.status != 206:  # the server ignores the range and sends the whole file
            file.seek(0)
            file.truncate()
        update(total=file.tell() + response.length if response.length else None)
        while chunk := response.read(CHUNK):
            file.write(chunk)
            update(completed=file.tell())
        if response.length:
            raise ConnectionError("the connection was cut")
