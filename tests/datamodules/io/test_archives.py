"""Archives are unpacked completely or not at all, and only inside their folder."""

import io
import resource
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datamodules.io.archives import extract
from datamodules.io.errors import InputError

TREE = "VOCdevkit/VOC2012"
FILES = {
    f"{TREE}/JPEGImages/a.jpg": bytes(range(256)) * 20,
    f"{TREE}/ImageSets/train.txt": b"a\n",
    f"{TREE}/empty.txt": b"",
    "VOCdevkit/README": b"not unpacked",
}
INSIDE = {name: content for name, content in FILES.items() if name.startswith(TREE)}


def pack(path: Path, files: dict[str, bytes] = FILES, *members: tarfile.TarInfo) -> Path:
    """Write an archive with the given members before the files."""
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as tar:
        for member in members:
            tar.addfile(member)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mode = 0
            tar.addfile(info, io.BytesIO(content))
    return path


def member(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder inside another one that is otherwise empty."""
    root = tmp_path / "outer" / "root"
    root.mkdir(parents=True)
    return root


def refuse(path: Path, root: Path, match: str) -> None:
    """Expect an error that names the archive, and no files."""
    with pytest.raises(InputError, match=match) as error:
        extract(path, root, TREE)
    assert str(path) in str(error.value)
    assert contents(root.parent) == {}
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("suffix", [".tar", ".tgz"])
def test_folder_is_unpacked_as_packed_and_the_rest_is_not(tmp_path: Path, root: Path, suffix: str) -> None:
    assert extract(pack(tmp_path / f"voc{suffix}"), root, TREE) == root / TREE
    assert contents(root) == INSIDE
    assert sorted(path.name for path in root.iterdir()) == ["VOCdevkit"]


@pytest.mark.parametrize(
    "evil",
    [
        member(f"{TREE}/../../../evil", tarfile.REGTYPE),
        member(f"{TREE}/link", tarfile.SYMTYPE, "../../../.."),
        member(f"{TREE}/link", tarfile.SYMTYPE, "/etc/passwd"),
        member(f"{TREE}/link", tarfile.LNKTYPE, "../evil"),
        member(f"{TREE}/device", tarfile.CHRTYPE),
    ],
)
def test_paths_and_links_out_of_the_folder_are_refused(tmp_path: Path, root: Path, evil: tarfile.TarInfo) -> None:
    refuse(pack(tmp_path / "voc.tar", FILES, evil), root, "is unsafe to unpack .*; is it the right archive")


def test_members_outside_the_tree_are_not_unpacked(tmp_path: Path, root: Path) -> None:
    extract(pack(tmp_path / "voc.tar", {**FILES, "../evil": b"evil"}), root, TREE)
    assert contents(root.parent) == {f"root/{name}": content for name, content in INSIDE.items()}


@pytest.mark.parametrize("suffix", [".tar", ".tgz"])
@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.6])
def test_truncated_archive_is_refused(tmp_path: Path, root: Path, suffix: str, fraction: float) -> None:
    path = pack(tmp_path / f"voc{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    refuse(path, root, "is damaged .*; remove it and download it again")
    path.write_bytes(whole)
    extract(path, root, TREE)
    assert contents(root) == INSIDE


def test_other_files_are_refused(tmp_path: Path, root: Path) -> None:
    (tmp_path / "page.tar").write_text("<html>Please log in</html>" * 100)
    refuse(tmp_path / "page.tar", root, "is damaged")
    refuse(tmp_path / "gone.tar", root, "cannot be unpacked .*No such file")
    path = pack(tmp_path / "voc.tar", {"VOCdevkit/VOC2012b/a": b"a", "VOCdevkit/VOC2007/a": b"a"})
    refuse(path, root, f"has no folder {TREE}")


def test_existing_folders_are_kept(tmp_path: Path, root: Path) -> None:
    (root / "VOCdevkit" / "VOC2007").mkdir(parents=True)
    (root / "VOCdevkit" / "VOC2007" / "a").write_bytes(b"mine")
    path = pack(tmp_path / "voc.tar")
    extract(path, root, TREE)
    assert contents(root) == {**INSIDE, "VOCdevkit/VOC2007/a": b"mine"}
    (root / TREE / "empty.txt").write_bytes(b"mine")
    with pytest.raises(InputError, match="VOC2012 already exists; remove it to unpack"):
        extract(path, root, TREE)
    assert (root / TREE / "empty.txt").read_bytes() == b"mine"


@pytest.fixture
def limit_file_size() -> Iterator[Callable[[int], None]]:
    """Limit the size of files, to simulate a full disk."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def test_full_disk_leaves_nothing(tmp_path: Path, root: Path, limit_file_size: Callable[[int], None]) -> None:
    path = pack(tmp_path / "voc.tar")
    limit_file_size(1000)
    refuse(path, root, r"voc\.tar cannot be unpacked into .*File too large")


def test_killed_call_leaves_no_target_and_the_next_call_starts_over(tmp_path: Path, root: Path) -> None:
    """The kernel kills the process at byte 1000 of a.jpg."""
    path = pack(tmp_path / "voc.tar")
    code = (
        "import resource, signal, sys; from pathlib import Path; from datamodules.io.archives import extract\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL); resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"extract(Path(sys.argv[1]), Path(sys.argv[2]), {TREE!r})"
    )
    run = subprocess.run([sys.executable, "-c", code, path, root], capture_output=True)
    assert run.returncode < 0
    assert [entry.name for entry in root.iterdir()] == ["voc.tar.unpacking"]
    extract(path, root, TREE)
    assert contents(root) == INSIDE
