"""Two runs that start on the same new folder at the same time."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

from datamodules.folder.datamodule import FolderDataModule

RACES = 5


def _prepare(barrier: Any, open_folder: Callable[..., FolderDataModule], caches: list[str]) -> None:
    for cache in caches:
        try:
            barrier.wait(60)
        except BrokenBarrierError:  # the other process has failed and says why
            return
        open_folder(cache_dir=cache).prepare_data()


def test_two_processes_prepare_a_new_folder(folder: Callable[..., FolderDataModule], tmp_path: Path) -> None:
    """Both check all files, simulate clicks and write the results. Neither fails."""
    context = multiprocessing.get_context("fork")
    barrier, caches = context.Barrier(2), [str(tmp_path / f"cache{race}") for race in range(RACES)]
    processes = [context.Process(target=_prepare, args=(barrier, folder, caches)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    names = [sorted(path.name.split("-")[0] for path in Path(cache).iterdir()) for cache in caches]
    assert names == [["checked", "clicks"]] * RACES
