"""Fetching a published archive: continued where it stopped, checked, and given its name when it is whole."""

import hashlib
import os
import re
import shutil
import time
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from io import FileIO
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from datamodules.io.archives import CHUNK, lock
from datamodules.io.errors import InputError

TIMEOUT_S = 30.0
RETRIES = 3  # in a row that bring less than CHUNK each
PAUSE_S = 2.0  # before a retry
BUSY = (429, 500, 502, 503, 504)  # HTTP statuses that pass


@dataclass(frozen=True)
class Archive:
    """A published file.

    Args:
        url: Where it is.
        name: The file name it gets.
        md5: Of the whole file, in hexadecimal digits.
        size: In bytes; ``None`` where it is not known, then the server's word is taken.
    """

    url: str
    name: str
    md5: str
    size: int | None = None


VOC = Archive(
    "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
    "VOCtrainval_11-May-2012.tar",
    "6cd6e144f989b92b3379bac3b3de84fd",
)
SBD = Archive(  # without www2, the server answers "Permission denied"
    "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
    "benchmark.tgz",
    "82b4d87ceb2ed10f6038a1cba92111cb",
    1_419_539_633,
)


class _CutError(Exception):
    """The connection failed in a way that may pass."""


def download(archive: Archive, folder: Path, *, timeout: float = TIMEOUT_S, pause: float = PAUSE_S) -> Path:
    """Fetch an archive, or what is missing of it; until it is whole and checked, its name ends in ".part".

    Args:
        archive: What to fetch.
        folder: Where to put it; created if missing.
        timeout: Seconds without a byte after which the connection counts as cut.
        pause: Seconds before a retry.

    Returns:
        The file, of the right checksum.

    Raises:
        InputError: It cannot be fetched or written, or is not what was published; the message says what to do.
    """
    path = folder / archive.name
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), transient=True) as progress:
        try:
            if not path.exists():
                folder.mkdir(parents=True, exist_ok=True)
                _complete(archive, path, progress, timeout, pause)
            elif (md5 := _md5(path, progress)) != archive.md5:
                raise InputError(f"{path} has md5 {md5} instead of {archive.md5}; remove it to fetch it again.")
        except OSError as error:
            raise InputError(
                f"{path} cannot be written ({error.strerror}); make room there or take another folder."
            ) from error
    return path


def _md5(path: Path, progress: Progress) -> str:
    task = progress.add_task(f"Checking {path.name}", total=path.stat().st_size)
    md5 = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            md5.update(chunk)
            progress.advance(task, len(chunk))
    progress.remove_task(task)
    return md5.hexdigest()


def _complete(archive: Archive, path: Path, progress: Progress, timeout: float, pause: float) -> None:
    """Bring the part to its end and give it its name."""
    part = path.with_name(f"{path.name}.part")
    with FileIO(part, "ab") as file:
        lock(file, part)
        if _md5(part, progress) != archive.md5:  # else a call was stopped just before the end
            try:
                _fetch(archive, path, file, progress, timeout, pause)
            finally:
                if not file.tell():
                    part.unlink()
            if (md5 := _md5(part, progress)) != archive.md5:
                part.unlink()
                raise InputError(
                    f"{archive.url} gave a file of md5 {md5} instead of {archive.md5}, so it was removed: it was "
                    "damaged on the way or is another file. Give the command again to start over, or fetch it "
                    f"elsewhere and put it at {path}."
                )
        os.fsync(file.fileno())
        part.replace(path)


def _fetch(archive: Archive, path: Path, file: FileIO, progress: Progress, timeout: float, pause: float) -> None:
    """Fetch what is missing; a server that sent something is tried again when it stops."""
    task = progress.add_task(archive.name, total=archive.size)
    start = most = file.tell()
    failures = 0
    while True:
        try:
            return _receive(archive, path, file, progress, task, timeout)
        except _CutError as error:
            done = file.tell()
            failures = 0 if done >= most + CHUNK else failures + 1
            most = max(most, done)
            if most == start or failures > RETRIES:
                raise InputError(
                    f"{archive.url} cannot be fetched ({error}). {decimal(done)} are here; give the command again to "
                    f"continue, or fetch the file elsewhere and put it at {path}."
                ) from error
            progress.console.print(f"{archive.name}: {error}; trying again", markup=False, highlight=False)
            time.sleep(pause)


def _receive(archive: Archive, path: Path, file: FileIO, progress: Progress, task: TaskID, timeout: float) -> None:
    """Append what one connection brings."""
    done = file.tell()
    response, start, total = _connect(archive, path, done, timeout)
    with response:
        if archive.size is not None and total not in (None, archive.size):
            raise InputError(
                f"{archive.url} has {total} bytes instead of {archive.size}, so it is another file; fetch the right "
                f"one elsewhere and put it at {path}."
            )
        total = archive.size if total is None else total
        free = shutil.disk_usage(path.parent).free
        if total is not None and total - done > free:
            raise InputError(
                f"{path} lacks {decimal(total - done)}, but {decimal(free)} are free; make room or take another folder."
            )
        if start < done:  # the server can only send the whole file
            file.seek(0)
            file.truncate()
        progress.reset(task, total=total, completed=start)
        while total is None or file.tell() < total:
            try:
                chunk = response.read1(CHUNK if total is None else min(CHUNK, total - file.tell()))
            except (OSError, HTTPException) as error:
                raise _CutError(_reason(error, timeout)) from error
            if not chunk:
                break
            view = memoryview(chunk)
            while view:
                view = view[file.write(view) :]
            progress.advance(task, len(chunk))
    if total is not None and file.tell() < total:
        raise _CutError("the connection was cut")


def _connect(archive: Archive, path: Path, done: int, timeout: float) -> tuple[HTTPResponse, int, int | None]:
    """Ask for all after the first bytes; return the response, the position of its first byte and the whole size."""
    headers = {"User-Agent": "gated-crf", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    try:
        response = urlopen(Request(archive.url, headers=headers), timeout=timeout)
    except HTTPError as error:
        error.close()
        if error.code == 416 and done:  # nothing follows, yet what is here is not the file
            return _connect(archive, path, 0, timeout)
        if error.code in BUSY:
            raise _CutError(f"HTTP {error.code} {error.reason}") from error
        fault = f"HTTP {error.code} {error.reason}"
    except (OSError, HTTPException) as error:
        raise _CutError(_reason(error, timeout)) from error
    else:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if response.headers.get_content_type() == "text/html":
            fault = "a web page instead of the file"
        elif response.status == 200:
            return response, 0, response.length
        elif span and int(span[1]) == done:
            return response, done, None if span[2] == "*" else int(span[2])
        elif done and response.status == 206:  # not the range that was asked for
            response.close()
            return _connect(archive, path, 0, timeout)
        else:
            fault = f"HTTP {response.status}"
        response.close()
    raise InputError(f"{archive.url} answers with {fault}; fetch the file elsewhere and put it at {path}.")


def _reason(error: OSError | HTTPException, timeout: float) -> str:
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no data for {timeout:g} seconds"
    if isinstance(cause, HTTPException):
        return "the connection was cut"
    return (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
