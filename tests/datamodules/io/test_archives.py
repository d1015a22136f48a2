"""What is unpacked is what was packed, stays in its folder, and is there whole or not at all."""

import fcntl
import io
import resource
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from datamodules.io.archives import extract

TREE = "VOCdevkit/VOC2012"
FILES = {
    f"{TREE}/JPEGImages/a.jpg": bytes(range(256)) * 20,
    f"{TREE}/ImageSets/train.txt": b"a\n",
    f"{TREE}/empty.txt": b"",
    "VOCdevkit/README": b"left in the archive",
}
INSIDE = {name.removeprefix(f"{TREE}/"): content for name, content in FILES.items() if name.startswith(TREE)}
SUFFIXES = (".tar", ".tgz", ".tar.xz", ".tar.bz2", ".zip")


def pack(path: Path, files: dict[str, bytes] = FILES, *, members: tuple[tarfile.TarInfo, ...] = ()) -> Path:
    """Write an archive of the kind that the suffix says; a tar has further members before the files."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.mkdir("VOCdevkit")
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name), content)
        return path
    compression = {".tgz": "gz", ".xz": "xz", ".bz2": "bz2"}.get(path.suffix, "")
    with tarfile.open(path, f"w:{compression}") as tar:
        for member in members:
            tar.addfile(member)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mode = 0
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def limit_file_size() -> Iterator[Callable[[int], None]]:
    """Let writing beyond some bytes fail, as on a full disk."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def member(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Place(NamedTuple):
    outer: Path
    root: Path


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A root in a folder in which nothing else may appear."""
    (tmp_path / "outer" / "root").mkdir(parents=True)
    return Place(tmp_path / "outer", tmp_path / "outer" / "root")


def refused(path: Path, place: Place, match: str) -> None:
    """An error of one line with the file's name, and nothing written."""
    before = sorted(place.outer.rglob("*"))
    with pytest.raises(ValueError, match=match) as error:
        extract(path, place.root, TREE)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert sorted(place.outer.rglob("*")) == before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tree_is_what_was_packed(tmp_path: Path, place: Place, suffix: str) -> None:
    target = extract(pack(tmp_path / f"voc{suffix}"), place.root, TREE)
    assert target == place.root / TREE
    assert contents(target) == INSIDE
    assert contents(place.outer) == {f"root/{TREE}/{name}": content for name, content in INSIDE.items()}


def test_names_may_begin_with_a_dot(tmp_path: Path, place: Place) -> None:
    path = pack(tmp_path / "voc.tar", {f"./{name}": content for name, content in FILES.items()})
    assert contents(extract(path, place.root, TREE)) == INSIDE


@pytest.mark.parametrize("suffix", [".tar", ".zip"])
def test_name_that_leads_out_of_the_tree_alone_is_not_of_the_tree(tmp_path: Path, place: Place, suffix: str) -> None:
    path = pack(tmp_path / f"voc{suffix}", {**FILES, f"{TREE}/../../a": b"a", f"{TREE}/b/../c": b"c"})
    extract(path, place.root, TREE)
    assert contents(place.outer) == {f"root/{TREE}/{name}": content for name, content in {**INSIDE, "c": b"c"}.items()}


@pytest.mark.parametrize("name", ["../evil", "/evil", f"{TREE}/../../../evil", f"{TREE}/../../..", ".."])
@pytest.mark.parametrize("suffix", [".tar", ".tgz", ".zip"])
def test_name_that_leads_out_is_refused(tmp_path: Path, place: Place, suffix: str, name: str) -> None:
    path = pack(tmp_path / f"voc{suffix}", {**FILES, name: b"evil"})
    refused(path, place, "leads out of the folder; nothing was unpacked")
    assert not Path("/evil").exists()


@pytest.mark.parametrize("folder", [TREE, "elsewhere"])
@pytest.mark.parametrize(
    ("kind", "link"),
    [(tarfile.SYMTYPE, "../../.."), (tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "../evil")],
)
def test_link_that_leads_out_is_refused(tmp_path: Path, place: Place, folder: str, kind: bytes, link: str) -> None:
    path = pack(tmp_path / "voc.tar", members=(member(f"{folder}/link", kind, link),))
    refused(path, place, f"'{folder}/link' that leads out")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (tarfile.SYMTYPE, "link"),
        (tarfile.LNKTYPE, "link"),
        (tarfile.FIFOTYPE, "device"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
    ],
)
def test_links_and_devices_are_refused(tmp_path: Path, place: Place, kind: bytes, name: str) -> None:
    path = pack(tmp_path / "voc.tar", members=(member(f"{TREE}/odd", kind, f"{TREE}/a"),))
    refused(path, place, f"'{TREE}/odd' that is a {name}")


def test_harmless_link_beside_the_tree_is_left_in_the_archive(tmp_path: Path, place: Place) -> None:
    path = pack(tmp_path / "voc.tar", members=(member("VOCdevkit/latest", tarfile.SYMTYPE, "VOC2012"),))
    assert contents(extract(path, place.root, TREE)) == INSIDE


def test_link_in_a_zip_is_refused(tmp_path: Path, place: Place) -> None:
    path = tmp_path / "voc.zip"
    info = zipfile.ZipInfo(f"{TREE}/link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc/passwd")
        archive.writestr(f"{TREE}/a", "a")
    refused(path, place, f"'{TREE}/link' that is a link")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.8])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_archive_that_is_cut_off_is_refused(tmp_path: Path, place: Place, suffix: str, share: float) -> None:
    path = pack(tmp_path / f"voc{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refused(path, place, "is damaged, cut off or no archive .*; remove it and fetch it again")
    path.write_bytes(whole)
    assert contents(extract(path, place.root, TREE)) == INSIDE


def test_tar_that_ends_after_a_member_is_refused(tmp_path: Path, place: Place) -> None:
    """Which tarfile takes for whole."""
    path = pack(tmp_path / "voc.tar")
    whole = path.read_bytes()
    end = len(whole.rstrip(b"\0"))
    for cut in range(0, end, 512):
        path.write_bytes(whole[:cut])
        refused(path, place, "is damaged, cut off or no archive")


@pytest.mark.parametrize("suffix", [".tgz", ".zip", ".tar.xz"])
def test_damaged_content_is_refused(tmp_path: Path, place: Place, suffix: str) -> None:
    path = pack(tmp_path / f"voc{suffix}", {**FILES, f"{TREE}/noise": bytes(i * i % 251 for i in range(5000))})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        extract(path, place.root, TREE)
    assert contents(place.outer) == {}


def test_wrong_checksum_of_gzip_is_refused(tmp_path: Path, place: Place) -> None:
    path = pack(tmp_path / "voc.tgz")
    content = bytearray(path.read_bytes())
    content[-5] ^= 1  # of the four bytes before the length
    path.write_bytes(content)
    refused(path, place, "damaged.*CRC check failed")


def test_damaged_header_does_not_end_the_archive(tmp_path: Path, place: Place) -> None:
    path = pack(tmp_path / "voc.tar")
    content = bytearray(path.read_bytes())
    content[content.index(b"VOCdevkit/VOC2012/ImageSets")] ^= 1
    path.write_bytes(content)
    refused(path, place, "damaged")


def test_what_is_no_archive_is_refused(tmp_path: Path, place: Place) -> None:
    path = tmp_path / "voc.tar"
    path.write_text("<html>Please log in</html>" * 100)
    refused(path, place, "no archive")


def test_second_process_keeps_off(tmp_path: Path, place: Place) -> None:
    path = pack(tmp_path / "voc.tar")
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        refused(path, place, "Another process is at work on")
    assert contents(extract(path, place.root, TREE)) == INSIDE


def test_missing_archive_is_refused(tmp_path: Path, place: Place) -> None:
    refused(tmp_path / "voc.tar", place, "does not exist")


def test_archive_without_the_tree_is_refused(tmp_path: Path, place: Place) -> None:
    path = pack(tmp_path / "voc.tar", {"VOCdevkit/VOC2012b/a": b"a", "VOCdevkit/VOC2007/a": b"a"})
    refused(path, place, f"holds no files in {TREE}")


@pytest.mark.parametrize("suffix", [".tar", ".zip"])
def test_archive_that_is_larger_than_the_disk_is_refused(
    tmp_path: Path, place: Place, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pack(tmp_path / f"voc{suffix}", {f"{TREE}/zeros": bytes(10**7)})
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**7 - 1))
    refused(path, place, r"takes 10.0 MB unpacked, but .* has 10.0 MB free")


def test_existing_tree_is_left_alone(tmp_path: Path, place: Place) -> None:
    (place.root / TREE).mkdir(parents=True)
    (place.root / TREE / "mine").write_bytes(b"mine")
    refused(pack(tmp_path / "voc.tar"), place, "exists and is left alone")
    assert contents(place.root / TREE) == {"mine": b"mine"}


def test_neighbors_are_left_alone(tmp_path: Path, place: Place) -> None:
    (place.root / "VOCdevkit" / "VOC2007").mkdir(parents=True)
    (place.root / "VOCdevkit" / "VOC2007" / "a").write_bytes(b"a")
    extract(pack(tmp_path / "voc.tar"), place.root, TREE)
    assert contents(place.root / "VOCdevkit" / "VOC2007") == {"a": b"a"}
    assert contents(place.root / TREE) == INSIDE


@pytest.mark.parametrize("suffix", [".tar", ".zip"])
def test_killed_call_leaves_nothing_under_the_name_and_the_next_starts_over(
    tmp_path: Path, place: Place, suffix: str
) -> None:
    """The kernel kills the process at byte 1000 of a.jpg."""
    path = pack(tmp_path / f"voc{suffix}")
    code = (
        "import resource, signal, sys; from pathlib import Path; from datamodules.io.archives import extract\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL); resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"extract(Path(sys.argv[1]), Path(sys.argv[2]), {TREE!r})"
    )
    run = subprocess.run([sys.executable, "-c", code, path, place.root], capture_output=True)
    assert run.returncode < 0
    assert not (place.root / TREE).exists()
    left = place.root / f"{TREE}.part"
    assert left.is_dir()
    (left / "old").write_bytes(b"of a call before")
    assert contents(extract(path, place.root, TREE)) == INSIDE
    assert not left.exists()


def test_full_disk_leaves_nothing(tmp_path: Path, place: Place, limit_file_size: Callable[[int], None]) -> None:
    path = pack(tmp_path / "voc.tar")
    limit_file_size(1000)
    with pytest.raises(ValueError, match=r"voc\.tar cannot be unpacked into .*: File too large"):
        extract(path, place.root, TREE)
    assert contents(place.outer) == {}
    limit_file_size(resource.RLIM_INFINITY)
    assert contents(extract(path, place.root, TREE)) == INSIDE
