"""Downloads from a local server: complete, verified and resumed."""

import hashlib
import io
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from datamodules.io.download import CHUNK, download
from datamodules.io.errors import InputError
from experiments.cli import main
from experiments.data.download import ARCHIVES

CONTENT = bytes(i * i % 251 for i in range(4 * CHUNK))
MD5 = hashlib.md5(CONTENT).hexdigest()
CUT = CHUNK + 1000  # bytes before a connection breaks


@dataclass(frozen=True)
class Reply:
    """Reply to one request. The default is a correct reply."""

    status: int = 200
    cut: int | None = None  # bytes after which the connection is closed
    hangs: bool = False  # keep the connection open instead
    ranges: bool = True  # understand Range
    content: bytes = CONTENT
    interrupts: bool = False  # send SIGINT to the client, as Ctrl-C does


class Handler(BaseHTTPRequestHandler):
    server: "Server"

    def do_GET(self) -> None:
        reply = self.server.replies.pop(0) if self.server.replies else self.server.otherwise
        start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        self.server.asked.append(start)
        start = start if reply.ranges else 0
        status, body = reply.status, reply.content[start:]
        if status == 200 and reply.ranges:
            status = 206 if body else 416
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
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
        self.replies: list[Reply] = []  # of the next requests
        self.otherwise = Reply()
        self.asked: list[int] = []  # first byte of each request
        self.closing = threading.Event()

    def handle_error(self, *_: Any) -> None:
        pass  # the client has closed the connection

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/a.tar"


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


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fail(server: Server, folder: Path, match: str) -> None:
    """Expect an error that names the URL and where to put the file."""
    with pytest.raises(InputError, match=match) as error:
        download(server.url, MD5, folder, timeout=0.3)
    assert server.url in str(error.value)
    assert f"download it elsewhere and put it at {folder / 'a.tar'}." in str(error.value)


def succeed(server: Server, folder: Path, *asked: int) -> None:
    """Download without failures and expect these requests."""
    server.asked.clear()
    server.replies.clear()
    server.otherwise = Reply()
    assert download(server.url, MD5, folder) == folder / "a.tar"
    assert files(folder) == {"a.tar": CONTENT}
    assert server.asked == list(asked)


def test_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    succeed(server, tmp_path / "new" / "root", 0)
    succeed(server, tmp_path / "new" / "root")


def test_existing_file_with_another_checksum_is_kept(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"a\.tar has MD5 sum \w{32} instead of .*; remove it to download it again"):
        download(server.url, MD5, tmp_path)
    assert files(tmp_path) == {"a.tar": b"mine"}
    assert server.asked == []


def test_broken_connections_are_resumed_as_long_as_they_make_progress(server: Server, tmp_path: Path) -> None:
    server.replies = [Reply(cut=CUT), Reply(cut=CUT)]
    assert download(server.url, MD5, tmp_path).read_bytes() == CONTENT
    assert server.asked == [0, CUT, 2 * CUT]


@pytest.mark.parametrize("ranges", [True, False])
def test_next_call_resumes(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.replies = [Reply(cut=CUT)]
    server.otherwise = Reply(cut=0) if ranges else Reply(cut=CUT, ranges=False)
    fail(server, tmp_path, "the connection was cut")
    assert server.asked == [0, CUT]
    assert files(tmp_path) == {"a.tar.part": CONTENT[:CUT]}
    succeed(server, tmp_path, CUT)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(status=404), "HTTP Error 404: Not Found"),
        (Reply(status=503), "HTTP Error 503"),
        (Reply(hangs=True, cut=0), "timed out"),
        (Reply(cut=0), "the connection was cut"),
    ],
)
def test_refusal_keeps_the_part(server: Server, tmp_path: Path, reply: Reply, message: str) -> None:
    (tmp_path / "a.tar.part").write_bytes(CONTENT[:CUT])
    server.otherwise = reply
    fail(server, tmp_path, message)
    assert files(tmp_path) == {"a.tar.part": CONTENT[:CUT]}
    succeed(server, tmp_path, CUT)


def test_server_without_ranges_sends_the_whole_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar.part").write_bytes(b"x" * CUT)
    server.replies = [Reply(ranges=False)]
    assert download(server.url, MD5, tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_complete_part_gets_its_name(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar.part").write_bytes(CONTENT)
    succeed(server, tmp_path, len(CONTENT))


@pytest.mark.parametrize("before", [b"", CONTENT[:CUT], b"x" * (len(CONTENT) + 1)])
def test_file_with_another_checksum_is_removed(server: Server, tmp_path: Path, before: bytes) -> None:
    (tmp_path / "a.tar.part").write_bytes(before)
    server.otherwise = Reply(content=CONTENT[:-1] + b"x")
    fail(server, tmp_path, r"gave a file with MD5 sum \w{32} instead of \w{32}, which was removed")
    assert files(tmp_path) == {}
    succeed(server, tmp_path, 0)


def test_folder_that_cannot_be_created_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"Not a directory: .*file/root"):
        download(server.url, MD5, tmp_path / "file" / "root")


def test_killed_process_is_resumed(server: Server, tmp_path: Path) -> None:
    """The kernel kills it at byte CHUNK of the file."""
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from datamodules.io.download import download\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL); resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({CHUNK}, {CHUNK}))\n"
        f"download({server.url!r}, {MD5!r}, Path(sys.argv[1]))"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True)
    assert run.returncode < 0
    assert files(tmp_path) == {"a.tar.part": CONTENT[:CHUNK]}
    succeed(server, tmp_path, CHUNK)


def tar(name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    return buffer.getvalue()


@pytest.fixture
def publish(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Set the URL of a dataset to the local server."""

    def publish_at_server(dataset: str) -> None:
        content = tar(f"{ARCHIVES[dataset].tree}/img/a.jpg")
        server.otherwise = Reply(content=content)
        archive = ARCHIVES[dataset]._replace(url=server.url, md5=hashlib.md5(content).hexdigest())
        monkeypatch.setitem(ARCHIVES, dataset, archive)

    return publish_at_server


@pytest.mark.parametrize(("dataset", "tree"), [("voc", "VOCdevkit/VOC2012"), ("sbd", "benchmark_RELEASE/dataset")])
def test_command_downloads_and_unpacks_once(
    server: Server,
    tmp_path: Path,
    publish: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
    dataset: str,
    tree: str,
) -> None:
    publish(dataset)
    root = tmp_path / "root[red]"  # not markup
    main(["data", "download", dataset, str(root)])
    assert (root / tree / "img" / "a.jpg").read_bytes() == b"abc"
    assert f"{root}/{tree} is complete. {root}/a.tar is no longer needed." in capsys.readouterr().out
    (root / "a.tar").unlink()
    main(["data", "download", dataset, str(root)])
    assert f"{root}/{tree} already exists" in capsys.readouterr().out
    assert len(server.asked) == 1


def test_command_is_interrupted_and_resumed(
    server: Server, tmp_path: Path, publish: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    publish("voc")
    (tmp_path / "a.tar.part").write_bytes(server.otherwise.content[:700])
    server.replies = [Reply(cut=0, hangs=True, interrupts=True)]
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for background jobs
    try:
        with pytest.raises(SystemExit) as stopped:
            main(["data", "download", "voc", str(tmp_path)])
    finally:
        signal.signal(signal.SIGINT, handler)
    assert stopped.value.code == 130
    assert capsys.readouterr().out.endswith("Stopped. Run the command again to continue.\n")
    main(["data", "download", "voc", str(tmp_path)])
    assert server.asked == [700, 700]
    assert (tmp_path / "VOCdevkit/VOC2012/img/a.jpg").read_bytes() == b"abc"


@pytest.mark.parametrize(
    ("dataset", "lines"),
    [
        ("scribblesup", ["https://jifengdai.org/downloads/scribble_sup/", "R/scribble_annotation.zip"]),
        ("clicks", ["R/voc_whats_the_point.json", "R/voc_whats_the_point_bg_from_scribbles.json", "sha256 0ad942dc"]),
        ("cityscapes", ["https://www.cityscapes-dataset.com/downloads/", "unzip gtFine_trainvaltest.zip -d R", "md5 "]),
        ("coco", ["https://cocodataset.org/", "unzip annotations_trainval2017.zip -d R"]),
    ],
)
def test_command_explains_datasets_with_restricted_access(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dataset: str, lines: list[str]
) -> None:
    root = tmp_path / "root"
    main(["data", "download", dataset, str(root)])
    printed = capsys.readouterr().out
    for line in lines:
        assert line.replace("R/", f"{root}/").replace("-d R", f"-d {root}") in printed
    assert "ROOT" not in printed
    assert not root.exists()
