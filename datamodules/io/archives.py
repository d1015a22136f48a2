"""Unpacking one folder of an archive: checked before anything is written, moved in place when whole."""

import fcntl
import lzma
import posixpath
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import FileIO
from pathlib import Path, PurePosixPath
from stat import S_ISLNK
from typing import IO, NamedTuple

from rich.filesize import decimal
from rich.progress import Progress

from datamodules.io.errors import InputError

CHUNK = 1 << 20  # bytes
BLOCK = 4096  # bytes that a file system gives away at once
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)
"""What reading raises; RuntimeError is for a zip that is encrypted or compressed in an unknown way."""


class Entry(NamedTuple):
    """A member of an archive.

    Args:
        name: Path in the archive.
        kind: "file", "folder", "link" or "device".
        size: In bytes.
        link: Where a link of a tar leads, seen from the root of the archive.
        open: How its content is read.
    """

    name: str
    kind: str
    size: int
    link: str
    open: Callable[[], IO[bytes] | None]


def lock(file: FileIO, path: Path) -> None:
    """Keep other processes off an open file until it is closed.

    Args:
        file: The open file.
        path: Its path.

    Raises:
        InputError: Another process has it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(f"Another process is at work on {path}; wait until it is done.") from error
    except OSError:
        pass  # a file system without locks


def extract(path: Path, folder: Path, tree: str) -> Path:
    """Unpack one folder of an archive; a call that is stopped leaves nothing under its name.

    Args:
        path: A tar, compressed or not, or a zip.
        folder: Where the archive is unpacked.
        tree: The folder of the archive that is wanted, for example "VOCdevkit/VOC2012"; the rest is left in it.

    Returns:
        ``folder / tree``.

    Raises:
        InputError: That folder exists, or the archive is missing, damaged, without it, too large for the disk, or has
            a member that leads out of the folder, a link or a device. Nothing is written then.
    """
    target = folder / tree
    temporary = target.with_name(f"{target.name}.part")
    try:
        if target.exists():
            raise InputError(f"{target} exists and is left alone; to unpack {path} again, remove it first.")
        with FileIO(path) as file, Progress(transient=True) as progress:
            lock(file, path)
            with _entries(path, file, progress) as entries:
                wanted = _check(path, folder, tree, entries)
                try:
                    _write(wanted, temporary, progress)
                    temporary.rename(target)
                finally:
                    shutil.rmtree(temporary, ignore_errors=True)
    except FileNotFoundError as error:
        raise InputError(f"{error.filename} does not exist.") from error
    except OSError as error:
        if error.errno is not None:
            raise InputError(f"{path} cannot be unpacked into {folder}: {error.strerror}.") from error
        raise InputError(_damaged(path, error)) from error  # of gzip and bz2
    except DAMAGE as error:
        raise InputError(_damaged(path, error)) from error
    return target


def _damaged(path: Path, error: Exception) -> str:
    reason = str(error).partition("\n")[0].rstrip(":")
    return f"{path} is damaged, cut off or no archive ({reason}); remove it and fetch it again."


@contextmanager
def _entries(path: Path, file: FileIO, progress: Progress) -> Iterator[list[Entry]]:
    """List the members of an archive, which can be read in this order as long as the context lasts."""
    if file.read(2) == b"PK":
        with zipfile.ZipFile(path) as archive:
            yield [
                Entry(info.filename, _zip_kind(info), info.file_size, ".", partial(archive.open, info))
                for info in archive.infolist()
            ]
        return
    file.seek(0)
    task = progress.add_task(f"Checking {path.name}", total=path.stat().st_size)  # minutes, where it is compressed
    with tarfile.open(fileobj=file) as tar:
        entries = []
        for info in tar:
            progress.update(task, completed=file.tell())
            kind = "file" if info.isreg() else "folder" if info.isdir() else "device"
            link = "."
            if info.issym() or info.islnk():
                kind = "link"
                link = posixpath.join(posixpath.dirname(info.name) if info.issym() else "", info.linkname)
            entries.append(Entry(info.name, kind, info.size, link, partial(tar.extractfile, info)))
        assert tar.fileobj is not None
        tar.fileobj.seek(tar.offset)  # tarfile takes a file that ends after a member, or garbage there, for whole
        if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("no end of the archive")
        while tar.fileobj.read(CHUNK):  # to the checksum of gzip
            progress.update(task, completed=file.tell())
        progress.remove_task(task)
        yield entries


def _zip_kind(info: zipfile.ZipInfo) -> str:
    return "link" if S_ISLNK(info.external_attr >> 16) else "folder" if info.is_dir() else "file"


def _leaves(name: str) -> bool:
    return posixpath.normpath(name).startswith(("/", "../")) or posixpath.normpath(name) == ".."


def _check(path: Path, folder: Path, tree: str, entries: list[Entry]) -> list[tuple[PurePosixPath, Entry]]:
    """Return the members of the tree with their paths in it, or refuse the archive."""
    wanted = []
    for entry in entries:
        name = PurePosixPath(posixpath.normpath(entry.name))
        inside = name.is_relative_to(tree)
        if _leaves(entry.name) or _leaves(entry.link):
            fault = "leads out of the folder"
        elif entry.kind == "device" or (entry.kind == "link" and inside):
            fault = f"is a {entry.kind}"
        else:
            if inside:
                wanted.append((name.relative_to(tree), entry))
            continue
        raise InputError(
            f"{path} has a member {entry.name!r} that {fault}; nothing was unpacked. Is it the right file?"
        )
    if not any(entry.kind == "file" for _, entry in wanted):
        raise InputError(f"{path} holds no files in {tree}; is it the right archive?")
    needed = sum(entry.size + BLOCK for _, entry in wanted)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(f"{path} takes {decimal(needed)} unpacked, but {folder} has {decimal(free)} free; make room.")
    return wanted


def _write(wanted: list[tuple[PurePosixPath, Entry]], folder: Path, progress: Progress) -> None:
    """Write files only, under the user's own permissions: those of the archive could lock the user out."""
    shutil.rmtree(folder, ignore_errors=True)  # of a call that was killed
    folder.mkdir(parents=True)
    task = progress.add_task("Unpacking", total=sum(entry.size for _, entry in wanted))
    for name, entry in wanted:
        if entry.kind != "file":
            continue
        destination = folder / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        source = entry.open()
        assert source is not None
        with source, destination.open("wb") as file:
            while chunk := source.read(CHUNK):
                file.write(chunk)
                progress.advance(task, len(chunk))
