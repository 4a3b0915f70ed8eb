import contextlib
import gc
import hashlib
import io
import os
import random
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from jaxnst.weights.download import FetchError, Remote, fetch

BODY = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.seen.append(self.path)
        with contextlib.suppress(ConnectionError):  # the client left
            self.answer(**self.server.scripts.get(self.path, {}))

    def answer(
        self,
        *,
        status=200,
        body=BODY,
        headers=(),  # replace the right ones; None: not sent
        cut=None,  # byte after which nothing is sent
        before=lambda: None,
        after=lambda: None,
    ):
        before()
        body = b"no such luck" if status >= 300 else body
        self.send_response(status)
        for name, value in ({"Content-Length": len(body)} | dict(headers)).items():
            if value is not None:
                self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body[:cut])
        after()
        self.close_connection = True

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """Answers a path by its script: options of `answer`."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.scripts, self.seen = {}, []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.shutdown()
        self.thread.join()
        self.server_close()

    def url(self, path="/a"):
        return f"http://127.0.0.1:{self.server_port}{path}"

    def hang(self):
        self.over.wait(10)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with Server() as server:
        yield server


@pytest.fixture
def target(tmp_path):
    return tmp_path / "file.bin"


def remote(*urls, **options):
    options = {
        "size": len(BODY),
        "algorithm": "sha256",
        "digest": hashlib.sha256(BODY).hexdigest(),
    } | options
    return Remote(urls=urls, **options)


def assert_fetched(target):
    assert target.read_bytes() == BODY
    assert list(target.parent.iterdir()) == [target]


def assert_nothing_left(target):
    assert not list(target.parent.iterdir())


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
@pytest.mark.parametrize("size", [len(BODY), None])
def test_a_file_is_fetched_and_takes_the_place_of_another(
    server, target, algorithm, size
):
    target.write_bytes(OTHER)
    server.scripts["/a"] = {"headers": {"Content-Length": size}}
    digest = hashlib.new(algorithm, BODY).hexdigest()
    fetch(remote(server.url(), algorithm=algorithm, digest=digest), target)
    assert_fetched(target)


def test_a_failure_leaves_the_file_that_was_there(server, target):
    target.write_bytes(OTHER)
    server.scripts["/a"] = {"body": OTHER[:-1] + b"x"}
    with pytest.raises(FetchError):
        fetch(remote(server.url()), target)
    assert target.read_bytes() == OTHER
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    ("answer", "said", "reason"),
    [
        ({"status": 404}, "HTTP 404 Not Found", "the server answers HTTP 404"),
        ({"status": 503}, "HTTP 503", "the server answers HTTP 503"),
        ({"cut": 7000}, "293000 more expected", "the server's answer is broken"),
        (
            {"body": b"<html>log in", "headers": {"Content-Length": None}},
            "got 12 bytes of sha256",
            "the server has another file",
        ),
        ({"body": OTHER}, "got 300000 bytes of", "the server has another file"),
        ({"body": BODY + b"more"}, "got 3000", "the server has another file"),
    ],
)
def test_another_answer_is_refused_and_a_mirror_stands_in(
    server, target, answer, said, reason
):
    server.scripts["/a"] = answer
    with pytest.raises(FetchError, match=said) as caught:
        fetch(remote(server.url()), target)
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)
    assert_nothing_left(target)
    fetch(remote(server.url(), server.url("/b")), target)
    assert_fetched(target)
    assert server.seen == ["/a", "/a", "/b"]


def test_the_error_tells_what_happened_at_every_address(server, target):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refusing = f"http://127.0.0.1:{closed.getsockname()[1]}/x"
    server.scripts |= {"/a": {"status": 404}, "/b": {"body": OTHER}}
    with pytest.raises(FetchError) as caught:
        fetch(remote(server.url("/a"), server.url("/b"), refusing), target)
    said = str(caught.value)
    assert said.startswith("file.bin cannot be fetched (")
    assert f"{server.url('/a')} : HTTP 404" in said
    assert f"; {server.url('/b')} : expected 300000 bytes" in said
    assert f"; {refusing} : " in said
    assert said.endswith("; check the network or try again later")
    assert caught.value.reason == (
        "the server answers HTTP 404, the server has another file, no network"
    )


def test_no_more_than_the_size_is_read(server, target):
    endless = {"Content-Length": None, "Connection": "close"}
    server.scripts["/a"] = {"headers": endless, "after": server.hang}
    fetch(remote(server.url()), target)
    assert_fetched(target)


def test_a_redirect_is_followed(server, target):
    server.scripts["/a"] = {"status": 302, "headers": {"Location": "/b"}}
    fetch(remote(server.url()), target)
    assert_fetched(target)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("/a", "HTTP 302 .*infinite loop"),
        ("file:///etc/passwd", "HTTP 302"),
        ("http://[", "Invalid"),
        ("http://127.0.0.1:port/", "nonnumeric port"),
        (None, "HTTP 302"),
    ],
)
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_redirect_to_nowhere_is_refused(server, target, location, message):
    server.scripts["/a"] = {"status": 302, "headers": {"Location": location}}
    with pytest.raises(FetchError, match=message) as caught:
        fetch(remote(server.url()), target)
    assert "\n" not in str(caught.value)
    assert_nothing_left(target)
    del caught
    gc.collect()  # the library leaves an answer open whose address cannot be parsed


@pytest.mark.parametrize("stall", ["before", "after"])
def test_a_stalled_server_is_left(server, target, stall):
    server.scripts["/a"] = {stall: server.hang, "cut": 1000}
    with pytest.raises(FetchError, match="/a : timed out") as caught:
        fetch(remote(server.url()), target, timeout=0.3)
    assert caught.value.reason == "the network timed out"
    assert_nothing_left(target)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_not_taken_for_the_network(server, target, monkeypatch):
    monkeypatch.setattr("tempfile.mkstemp", lambda **_: (os.dup(0), "/dev/full"))
    monkeypatch.setattr("os.unlink", lambda _: None)
    with pytest.raises(OSError, match="No space left") as caught:
        fetch(remote(server.url(), server.url("/b")), target)
    assert not isinstance(caught.value, FetchError)
    assert server.seen == ["/a"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("quiet", [True, False])
@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_a_bar_is_shown_on_a_terminal_only(server, target, monkeypatch, quiet, kind):
    monkeypatch.setattr(sys, "stderr", kind())
    fetch(remote(server.url()), target, quiet=quiet)
    shown = sys.stderr.getvalue()
    if quiet or kind is not Terminal:
        assert not shown
    else:
        assert "file.bin" in shown
        assert "/300k" in shown


CHILD = """
import pathlib, sys
from jaxnst.weights.download import Remote, fetch

url, size, digest, target = sys.argv[1:]
remote = Remote(urls=(url,), size=int(size), algorithm="sha256", digest=digest)
fetch(remote, pathlib.Path(target))
"""


def test_what_a_killed_process_leaves_is_deleted_by_the_next(server, target):
    server.scripts["/a"] = {"cut": 100_000, "after": server.hang}
    file = remote(server.url())
    arguments = file.urls[0], str(file.size), file.digest, str(target)
    with subprocess.Popen([sys.executable, "-c", CHILD, *arguments]) as process:
        end = time.monotonic() + 60
        while not list(target.parent.iterdir()) and time.monotonic() < end:
            time.sleep(0.01)
        process.kill()
    assert list(target.parent.iterdir())
    server.scripts.clear()
    fetch(file, target)
    assert_fetched(target)
