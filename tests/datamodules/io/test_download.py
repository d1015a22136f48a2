"""Whatever a server on this machine does, a file has its name when it is whole, and a second call continues."""

import argparse
import fcntl
import hashlib
import io
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from datamodules.io.archives import CHUNK
from datamodules.io.download import RETRIES, Archive
from datamodules.io.download import download as download_patiently
from experiments.data import download as data_download

CONTENT = bytes(i * i % 251 for i in range(100_000))
K = 30_000  # where the connection is cut


@dataclass(frozen=True)
class Reply:
    """How the server answers one request; the defaults are those of a good server."""

    status: int = 0
    kind: str = "application/x-tar"
    cut: int | None = None  # bytes after which the connection is closed
    hangs: bool = False  # or left open
    ranges: bool = True
    flip: bool = False  # one bit of the last byte
    length: bool = True  # is declared
    excess: int = 0  # of the declared length
    total: int | None = None  # in Content-Range
    start: int | None = None  # in Content-Range
    interrupts: bool = False  # the client, as Ctrl-C does


class Handler(BaseHTTPRequestHandler):
    server: "Server"

    def do_GET(self) -> None:
        self.server.asked.append(asked := self.headers["Range"])
        reply = self.server.replies.pop(0) if self.server.replies else self.server.otherwise
        content = self.server.content
        if reply.status:
            return self.answer(reply.status, b"sorry", reply)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and reply.ranges else 0
        if start >= len(content):
            return self.answer(416, b"", reply, f"bytes */{len(content)}")
        if reply.flip:
            content = content[:-1] + bytes([content[-1] ^ 1])
        span = f"bytes {start if reply.start is None else reply.start}-{len(content) - 1}/{reply.total or len(content)}"
        self.answer(206 if start else 200, content[start:], reply, span if start else None)

    def answer(self, status: int, body: bytes, reply: Reply, span: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", reply.kind)
        if reply.length:
            self.send_header("Content-Length", str(len(body) + reply.excess))
        if span:
            self.send_header("Content-Range", span)
        self.end_headers()
        self.wfile.write(body[: reply.cut])
        if reply.interrupts:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        if reply.hangs:
            self.server.closing.wait(20)

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.replies: list[Reply] = []  # to the next requests
        self.otherwise = Reply()
        self.asked: list[str | None] = []  # the Range of each request
        self.closing = threading.Event()

    def handle_error(self, *_: Any) -> None:
        pass  # the client has gone

    def archive(self, *, sized: bool = True, content: bytes = CONTENT, name: str = "a.tar") -> Archive:
        url = f"http://127.0.0.1:{self.server_port}/{name}"
        return Archive(url, name, hashlib.md5(content).hexdigest(), len(content) if sized else None)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def limit_file_size() -> Iterator[Callable[[int], None]]:
    """Let writing beyond some bytes fail, as on a full disk."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def download(archive: Archive, folder: Path, timeout: float = 10) -> Path:
    return download_patiently(archive, folder, timeout=timeout, pause=0)


def fails(archive: Archive, folder: Path, match: str, timeout: float = 10) -> None:
    """An error of one line that names the address and the place for the file."""
    with pytest.raises(ValueError, match=match) as error:
        download(archive, folder, timeout)
    assert archive.url in str(error.value)
    assert str(folder / archive.name) in str(error.value)
    assert "\n" not in str(error.value)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def continues(server: Server, archive: Archive, folder: Path, *asked: str | None) -> None:
    """A second call, from a good server, asks for these ranges and leaves the file alone in its folder."""
    server.asked.clear()
    server.replies.clear()
    server.otherwise = Reply()
    assert download(archive, folder) == folder / archive.name
    assert files(folder) == {archive.name: server.content}
    assert server.asked == list(asked)


@pytest.mark.parametrize("sized", [True, False])
def test_file_is_fetched_once(server: Server, tmp_path: Path, sized: bool) -> None:
    folder = tmp_path / "new" / "root"
    continues(server, server.archive(sized=sized), folder, None)
    continues(server, server.archive(sized=sized), folder)


def test_other_file_of_that_name_is_left_alone(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"a\.tar has md5 \w{32} instead of .*; remove it"):
        download(server.archive(), tmp_path)
    assert files(tmp_path) == {"a.tar": b"mine"}
    assert server.asked == []


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("length", [True, False])
def test_cut_connection_is_taken_up_again(server: Server, tmp_path: Path, sized: bool, length: bool) -> None:
    """Without a declared length and a known size, a cut looks like the end; the checksum knows."""
    server.replies = [Reply(cut=K, length=length)]
    archive = server.archive(sized=sized)
    if sized or length:
        assert download(archive, tmp_path).read_bytes() == CONTENT
        assert server.asked == [None, f"bytes={K}-"]
    else:
        fails(archive, tmp_path, "so it was removed")
        assert files(tmp_path) == {}
        continues(server, archive, tmp_path, None)


@pytest.mark.parametrize("sized", [True, False])
def test_second_call_continues_where_the_connection_was_cut(server: Server, tmp_path: Path, sized: bool) -> None:
    server.replies = [Reply(cut=K)]
    server.otherwise = Reply(cut=0)
    fails(
        server.archive(sized=sized), tmp_path, r"cut\). 30.0 kB are here; give the command again to continue, or fetch"
    )
    assert files(tmp_path) == {"a.tar.part": CONTENT[:K]}
    assert server.asked == [None] + [f"bytes={K}-"] * RETRIES
    continues(server, server.archive(sized=sized), tmp_path, f"bytes={K}-")


def test_retries_are_counted_from_the_last_progress(server: Server, tmp_path: Path) -> None:
    server.content = bytes(CHUNK * (RETRIES + 3))
    server.otherwise = Reply(cut=CHUNK)
    archive = server.archive(content=server.content)
    assert download(archive, tmp_path).read_bytes() == server.content
    assert len(server.asked) == RETRIES + 3


def test_server_that_ignores_ranges_and_cuts_is_given_up(server: Server, tmp_path: Path) -> None:
    server.otherwise = Reply(cut=K, ranges=False)
    fails(server.archive(), tmp_path, "give the command again")
    assert len(server.asked) == RETRIES + 1
    continues(server, server.archive(), tmp_path, f"bytes={K}-")


def test_progress_is_beyond_what_was_there_before(server: Server, tmp_path: Path) -> None:
    """A server that starts over each time would be asked forever."""
    server.content = bytes(CHUNK * 4)
    server.replies = [Reply(cut=cut * CHUNK, ranges=False) for cut in (3, 1) * 10]
    fails(server.archive(content=server.content), tmp_path, "give the command again")
    assert len(server.asked) == 1 + RETRIES + 1


def test_busy_server_is_tried_again(server: Server, tmp_path: Path) -> None:
    server.replies = [Reply(cut=K), Reply(status=503), Reply(status=429)]
    assert download(server.archive(), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None] + [f"bytes={K}-"] * 3


@pytest.mark.parametrize("sized", [True, False])
def test_server_that_ignores_ranges_sends_all(server: Server, tmp_path: Path, sized: bool) -> None:
    (tmp_path / "a.tar.part").write_bytes(b"x" * K)
    server.replies = [Reply(ranges=False)]
    assert download(server.archive(sized=sized), tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_range_that_was_not_asked_for_is_not_appended(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar.part").write_bytes(CONTENT[:K])
    server.replies = [Reply(start=K + 1)]
    assert download(server.archive(), tmp_path).read_bytes() == CONTENT
    assert server.asked == [f"bytes={K}-", None]


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("surplus", [0, 1, 1000])
def test_part_that_is_no_part_is_fetched_anew(server: Server, tmp_path: Path, sized: bool, surplus: int) -> None:
    (tmp_path / "a.tar.part").write_bytes(b"x" * (len(CONTENT) + surplus))
    continues(server, server.archive(sized=sized), tmp_path, f"bytes={len(CONTENT) + surplus}-", None)


def test_whole_part_only_needs_its_name(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar.part").write_bytes(CONTENT)
    continues(server, server.archive(sized=False), tmp_path)


@pytest.mark.parametrize("before", [0, K])
def test_wrong_byte_is_found_and_removed(server: Server, tmp_path: Path, before: int) -> None:
    if before:
        (tmp_path / "a.tar.part").write_bytes(CONTENT[:before])
    server.otherwise = Reply(flip=True)
    fails(server.archive(), tmp_path, r"md5 \w{32} instead of \w{32}, so it was removed: .* Give the command again")
    assert files(tmp_path) == {}
    continues(server, server.archive(), tmp_path, None)


@pytest.mark.parametrize("excess", [-10, 10])
def test_wrong_length_is_refused_at_once(server: Server, tmp_path: Path, excess: int) -> None:
    server.otherwise = Reply(excess=excess)
    fails(server.archive(), tmp_path, f"has {len(CONTENT) + excess} bytes instead of {len(CONTENT)}")
    assert files(tmp_path) == {}
    assert server.asked == [None]
    continues(server, server.archive(), tmp_path, None)


def test_too_short_a_length_is_found_by_the_checksum(server: Server, tmp_path: Path) -> None:
    server.otherwise = Reply(excess=-10)
    fails(server.archive(sized=False), tmp_path, "so it was removed")
    assert files(tmp_path) == {}
    continues(server, server.archive(sized=False), tmp_path, None)


def test_too_large_a_length_ends(server: Server, tmp_path: Path) -> None:
    server.otherwise = Reply(excess=10, ranges=False)
    fails(server.archive(sized=False), tmp_path, "cut")
    assert files(tmp_path) == {"a.tar.part": CONTENT}
    continues(server, server.archive(sized=False), tmp_path)


def test_no_more_is_read_than_belongs_to_the_file(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT + b"surplus"
    server.otherwise = Reply(length=False)
    assert download(server.archive(), tmp_path).read_bytes() == CONTENT


def test_changed_size_keeps_what_is_there(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar.part").write_bytes(CONTENT[:K])
    server.otherwise = Reply(total=len(CONTENT) + 1)
    fails(server.archive(), tmp_path, "has 100001 bytes instead of 100000")
    assert files(tmp_path) == {"a.tar.part": CONTENT[:K]}
    continues(server, server.archive(), tmp_path, f"bytes={K}-")


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (Reply(status=404), "HTTP 404 Not Found; fetch the file elsewhere and put it at"),
        (Reply(status=403), "HTTP 403 Forbidden; fetch"),
        (Reply(status=204), "HTTP 204; fetch"),
        (Reply(status=503), "HTTP 503 Service Unavailable"),
        (Reply(kind="text/html; charset=utf-8", ranges=False), "a web page instead of the file"),
        (Reply(hangs=True, cut=0), r"no data for 0\.4 seconds"),
        (Reply(cut=0), "the connection was cut"),
    ],
)
@pytest.mark.parametrize("before", [0, K])
def test_refusal_keeps_what_is_there(server: Server, tmp_path: Path, reply: Reply, fault: str, before: int) -> None:
    if before:
        (tmp_path / "a.tar.part").write_bytes(CONTENT[:before])
    server.otherwise = reply
    start = time.monotonic()
    fails(server.archive(), tmp_path, fault, timeout=0.4 if reply.hangs else 10)
    assert time.monotonic() - start < 5
    assert len(server.asked) == 1
    assert files(tmp_path) == ({"a.tar.part": CONTENT[:before]} if before else {})
    continues(server, server.archive(), tmp_path, f"bytes={before}-" if before else None)


def test_hanging_server_is_left(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.replies = [Reply(hangs=True, cut=K)]
    server.otherwise = Reply(cut=0)
    fails(server.archive(), tmp_path, "give the command again", timeout=0.4)
    assert "a.tar: no data for 0.4 seconds; trying again" in capsys.readouterr().out
    assert files(tmp_path) == {"a.tar.part": CONTENT[:K]}
    continues(server, server.archive(), tmp_path, f"bytes={K}-")


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    fails(Archive(f"http://127.0.0.1:{port}/a.tar", "a.tar", "0" * 32), tmp_path, "Connection refused")
    assert files(tmp_path) == {}


@pytest.mark.parametrize("sized", [True, False])
def test_file_that_is_larger_than_the_disk_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sized: bool
) -> None:
    (tmp_path / "a.tar.part").write_bytes(CONTENT[:K])
    free = len(CONTENT) - K
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free - 1))
        with pytest.raises(ValueError, match=r"a\.tar lacks 70\.0 kB, but 70\.0 kB are free; make room"):
            download(server.archive(sized=sized), tmp_path)
        assert files(tmp_path) == {"a.tar.part": CONTENT[:K]}
        patch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
        continues(server, server.archive(sized=sized), tmp_path, f"bytes={K}-")


def test_full_disk_keeps_what_is_there(server: Server, tmp_path: Path, limit_file_size: Callable[[int], None]) -> None:
    limit_file_size(K)
    with pytest.raises(ValueError, match=r"a\.tar cannot be written \(File too large\); make room"):
        download(server.archive(), tmp_path)
    limit_file_size(resource.RLIM_INFINITY)
    assert files(tmp_path) == {"a.tar.part": CONTENT[:K]}
    continues(server, server.archive(), tmp_path, f"bytes={K}-")


def test_folder_that_cannot_be_written_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"a\.tar cannot be written \(Not a directory\); .* another folder"):
        download(server.archive(), tmp_path / "file" / "root")
    assert server.asked == []


def test_second_process_keeps_off(server: Server, tmp_path: Path) -> None:
    with (tmp_path / "a.tar.part").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match=r"Another process is at work on .*a\.tar\.part"):
            download(server.archive(), tmp_path)
    assert server.asked == []
    continues(server, server.archive(), tmp_path, None)


def test_killed_process_is_continued(server: Server, tmp_path: Path) -> None:
    """The kernel kills it at byte K of the file."""
    archive = server.archive()
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from datamodules.io.download import Archive, download\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL); resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({K}, {K}))\n"
        f"download({archive!r}, Path(sys.argv[1]))"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True)
    assert run.returncode < 0
    assert files(tmp_path) == {"a.tar.part": CONTENT[:K]}
    continues(server, archive, tmp_path, f"bytes={K}-")


def tar(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"abc"))
    return buffer.getvalue()


def command(*args: str) -> None:
    parser = argparse.ArgumentParser()
    data_download.add_parsers(parser.add_subparsers())
    options = parser.parse_args(["download", *args])
    options.run(options)


@pytest.fixture
def publish(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes], None]:
    """Let the address of a dataset be that of the server."""

    def to_server(dataset: str, content: bytes) -> None:
        server.content = content
        published = data_download.PUBLISHED[dataset]
        archive = server.archive(content=content, name="archive")
        monkeypatch.setitem(data_download.PUBLISHED, dataset, published._replace(archive=archive))

    return to_server


@pytest.mark.parametrize(("dataset", "tree"), [("voc", "VOCdevkit/VOC2012"), ("sbd", "benchmark_RELEASE/dataset")])
def test_command_fetches_and_unpacks(
    server: Server,
    tmp_path: Path,
    publish: Callable[[str, bytes], None],
    capsys: pytest.CaptureFixture[str],
    dataset: str,
    tree: str,
) -> None:
    publish(dataset, tar(f"{tree}/img/a.jpg"))
    server.replies = [Reply(status=404)]
    root = tmp_path / "root[red]"
    with pytest.raises(ValueError, match="HTTP 404"):
        command(dataset, str(root))
    assert files(root) == {}
    command(dataset, str(root))
    assert (root / tree / "img" / "a.jpg").read_bytes() == b"abc"
    assert f"{root}/{tree} is complete. {root}/archive is not needed" in capsys.readouterr().out
    (root / "archive").unlink()
    command(dataset, str(root))
    assert f"{root}/{tree} is there and left alone" in capsys.readouterr().out
    assert len(server.asked) == 2


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's own handling of SIGINT, which a shell ignores for what it runs in the background."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.mark.usefixtures("ctrl_c")
def test_command_is_interrupted_and_continued(
    server: Server, tmp_path: Path, publish: Callable[[str, bytes], None], capsys: pytest.CaptureFixture[str]
) -> None:
    publish("voc", tar("VOCdevkit/VOC2012/a"))
    (tmp_path / "archive.part").write_bytes(server.content[:700])
    server.replies = [Reply(cut=0, hangs=True, interrupts=True)]
    with pytest.raises(SystemExit) as stopped:
        command("voc", str(tmp_path))
    assert stopped.value.code == 130
    assert capsys.readouterr().out.endswith("Stopped. Give the command again to continue.\n")
    assert files(tmp_path) == {"archive.part": server.content[:700]}
    command("voc", str(tmp_path))
    assert server.asked == ["bytes=700-", "bytes=700-"]
    assert (tmp_path / "VOCdevkit" / "VOC2012" / "a").read_bytes() == b"abc"


def test_command_refuses_an_archive_that_leads_out(
    server: Server, tmp_path: Path, publish: Callable[[str, bytes], None]
) -> None:
    publish("voc", content := tar("VOCdevkit/VOC2012/a", "../evil"))
    root = tmp_path / "root"
    for _ in range(2):
        with pytest.raises(ValueError, match=r"'\.\./evil' that leads out of the folder; nothing was unpacked"):
            command("voc", str(root))
        assert files(root) == {"archive": content}
        assert [*tmp_path.iterdir()] == [root]
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("dataset", "lines"),
    [
        ("scribblesup", ["https://jifengdai.org/downloads/scribble_sup/", "to be put at R/scribble_annotation.zip"]),
        (
            "clicks",
            [
                "to be put at R/voc_whats_the_point.json",
                "to be put at R/voc_whats_the_point_bg_from_scribbles.json",
                "sha256 0ad942dc53197a1d7ce549000414adea39ac688d6c4ae7a1af27830469c73dc6",
                "sha256 45fdf2eff36a0ffc56a889efab2ca40788f074f8372dde4e8f81951bc7c79952",
            ],
        ),
        (
            "cityscapes",
            [
                "https://www.cityscapes-dataset.com/downloads/",
                "to be unpacked as R/leftImg8bit: unzip leftImg8bit_trainvaltest.zip -d R",
                "md5 0a6e97e94b616a514066c9e2adb0c97f",
                "to be unpacked as R/gtFine: unzip gtFine_trainvaltest.zip -d R",
                "md5 4237c19de34c8a376e9ba46b495d6f66",
            ],
        ),
        ("coco", ["https://cocodataset.org/", "R/annotations: unzip annotations_trainval2017.zip -d R"]),
    ],
)
def test_what_is_not_fetched_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dataset: str, lines: list[str]
) -> None:
    root = tmp_path / "root"
    command(dataset, str(root))
    printed = capsys.readouterr().out
    for line in lines:
        assert line.replace("R/", f"{root}/").replace("-d R", f"-d {root}") in printed
    assert "ROOT" not in printed
    assert not root.exists()


def test_files_that_are_there_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scribble_annotation.zip").write_bytes(b"")
    command("scribblesup", str(tmp_path))
    assert f"{tmp_path}/scribble_annotation.zip (it is there)" in capsys.readouterr().out
    (tmp_path / "voc_whats_the_point.json").write_bytes(b"{}")
    command("clicks", str(tmp_path))
    assert f"{tmp_path}/voc_whats_the_point.json (it is there, but of another sha256" in capsys.readouterr().out
