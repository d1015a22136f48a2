"""Files are replaced as a whole, by several writers at once, on any file system."""

import errno
import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from datamodules.io.atomic import atomic_write, is_abandoned, part_of, remove_parts

WRITES = 300


def _write_repeatedly(path: Path, text: str) -> None:
    for _ in range(WRITES):
        atomic_write(path, text)


def test_processes_may_write_the_same_file(tmp_path: Path) -> None:
    """With one name for both parts, a process would rename the part of the other."""
    path, texts = tmp_path / "new" / "file.json", [letter * 10_000 for letter in "ab"]
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_repeatedly, args=(path, text)) for text in texts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert path.read_text() in texts
    assert [each.name for each in path.parent.iterdir()] == ["file.json"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EACCES])
def test_file_system_that_cannot_sync_a_folder_is_accepted(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def refuse_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    atomic_write(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


def test_file_that_cannot_be_synced_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        atomic_write(tmp_path / "file", "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "old"}


def test_part_is_abandoned_when_its_process_has_ended(tmp_path: Path) -> None:
    mine = part_of(tmp_path / "file")
    ended = multiprocessing.get_context("fork").Process(target=int)
    ended.start()
    ended.join()
    theirs = mine.with_name(mine.name.replace(f".{os.getpid()}-", f".{ended.pid}-"))
    for path in (mine, theirs):
        path.touch()
    assert [is_abandoned(path) for path in (mine, theirs)] == [False, True]
    remove_parts(tmp_path)
    assert not list(tmp_path.iterdir())
