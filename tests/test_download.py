import contextlib
import hashlib
import http.client
import io
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from jaxnst.weights.download import FetchError, Remote, WrongFile, fetch

BODY = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.seen.append((self.path, self.headers["Range"]))
        script = self.server.scripts.get(self.path, [{}])
        with contextlib.suppress(ConnectionError):  # the client left
            self.answer(**(script.pop(0) if len(script) > 1 else script[0]))

    def answer(
        self,
        *,
        status=200,
        body=BODY,
        ranges=True,
        headers=(),  # replace the right ones; None: not sent
        cut=None,  # byte after which nothing is sent
        before=lambda: None,
        after=lambda: None,
    ):
        before()
        start, right = 0, {}
        asked = self.headers["Range"]
        if status >= 300:
            body = b"no such luck"
        elif ranges and asked:
            status, start = 206, int(asked.removeprefix("bytes=").removesuffix("-"))
            right["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        right["Content-Length"] = len(body) - start
        right.update(headers)
        self.send_response(status)
        for name, value in right.items():
            if value is not None:
                self.send_header(name, str(value))
        self.end_headers()
        piece = body[start:cut]
        self.server.sent += len(piece)
        if "Transfer-Encoding" in right:
            self.wfile.write(b"%x\r\n" % (len(body) - start))
        self.wfile.write(piece)
        if "Transfer-Encoding" in right and cut is None:
            self.wfile.write(b"\r\n0\r\n\r\n")
        after()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """Answers a path by its script: options of `answer`, the last one for ever."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.scripts, self.seen, self.sent = {}, [], 0
        self.over = threading.Event()

    def url(self, path="/a"):
        return f"http://127.0.0.1:{self.server_port}{path}"

    def ranges(self):
        return [asked for _, asked in self.seen]

    def hang(self):
        self.over.wait(10)


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(sys.modules["jaxnst.weights.download"], "PAUSE", 0.01)


@pytest.fixture
def target(tmp_path):
    """A file to fetch to, beside one that must stay as it is."""
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "other").write_bytes(b"other")
    return folder / "file.bin"


def part_of(target):
    return target.with_name(target.name + ".part")


def remote(*urls, **options):
    options = {
        "size": len(BODY),
        "algorithm": "sha256",
        "digest": hashlib.sha256(BODY).hexdigest(),
    } | options
    return Remote(urls=urls, **options)


def assert_fetched(target):
    assert target.read_bytes() == BODY
    assert left(target) == {target.name}


def left(target):
    """Names of what a fetch left in the folder, the empty lock apart."""
    files = {path.name: path for path in target.parent.iterdir()}
    assert files.pop("other").read_bytes() == b"other"
    lock = files.pop(target.name + ".lock", None)
    assert lock is None or lock.stat().st_size < 100
    return set(files)


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
@pytest.mark.parametrize("case", [str.lower, str.upper])
def test_a_file_is_fetched_once(server, target, algorithm, case):
    digest = case(hashlib.new(algorithm, BODY).hexdigest())
    file = remote(server.url(), algorithm=algorithm, digest=digest)
    assert fetch(file, target) == target
    assert fetch(file, target) == target
    assert_fetched(target)
    assert server.seen == [("/a", None)]


def test_the_folder_is_created_and_must_be_one(server, tmp_path):
    assert fetch(remote(server.url()), tmp_path / "a" / "b" / "c").is_file()
    with pytest.raises(ValueError, match="expected a writable folder"):
        fetch(remote(server.url()), tmp_path / "a" / "b" / "c" / "d")
    with pytest.raises(ValueError, match="got a folder"):
        fetch(remote(server.url()), tmp_path / "a")


def test_another_file_in_its_place_is_replaced_only_by_the_right_one(server, target):
    target.write_bytes(OTHER)
    server.scripts["/a"] = [{"status": 404}, {}]
    with pytest.raises(FetchError):
        fetch(remote(server.url()), target)
    assert target.read_bytes() == OTHER
    fetch(remote(server.url()), target)
    assert_fetched(target)


@pytest.mark.parametrize(
    "chunked", [{}, {"Content-Length": None, "Transfer-Encoding": "chunked"}]
)
def test_a_cut_connection_is_taken_up_where_it_was_cut(server, target, chunked):
    answers = [{"cut": 100_000}, {"cut": 250_000}, {}]
    server.scripts["/a"] = [{"headers": chunked} | answer for answer in answers]
    fetch(remote(server.url()), target)
    assert_fetched(target)
    assert server.ranges() == [None, "bytes=100000-", "bytes=250000-"]
    assert server.sent == len(BODY)


def test_without_ranges_a_cut_download_starts_from_zero(server, target):
    server.scripts["/a"] = [{"cut": 100_000}, {"ranges": False}]
    fetch(remote(server.url()), target)
    assert_fetched(target)
    assert server.ranges() == [None, "bytes=100000-"]
    assert server.sent == 100_000 + len(BODY)


def test_a_download_is_taken_up_later_and_from_another_address(server, target):
    server.scripts["/a"] = [{"cut": 1000}, {"cut": 2000}, {"status": 404}]
    with pytest.raises(FetchError, match="try again, it goes on from .*part"):
        fetch(remote(server.url()), target, attempts=2)
    assert left(target) == {"file.bin.part"}
    fetch(remote(server.url(), server.url("/b")), target)
    assert_fetched(target)
    assert server.seen[2:] == [("/a", "bytes=2000-"), ("/b", "bytes=2000-")]


def test_a_body_that_is_always_short_is_given_up(server, target):
    server.scripts["/a"] = [{"cut": 7000}]
    with pytest.raises(FetchError, match=r"/a : cut after 7000 of 300000 bytes") as e:
        fetch(remote(server.url()), target)
    assert "\n" not in str(e.value)
    assert server.ranges() == [None, "bytes=7000-", "bytes=7000-"]
    assert part_of(target).read_bytes() == BODY[:7000]
    assert left(target) == {"file.bin.part"}


def test_another_length_is_refused_before_the_body(server, target):
    server.scripts["/a"] = [{"body": BODY + b"more"}]
    with pytest.raises(WrongFile, match=r"/a : expected 300000 bytes, got 300004"):
        fetch(remote(server.url()), target)
    assert len(server.seen) == 1
    assert not left(target)


def test_no_more_than_the_size_is_read(server, target):
    endless = {"Content-Length": None, "Connection": "close"}
    server.scripts["/a"] = [
        {"body": BODY + OTHER, "headers": endless, "after": server.hang}
    ]
    fetch(remote(server.url()), target)
    assert_fetched(target)


def test_a_wrong_digest_is_refused_and_its_part_deleted(server, target):
    server.scripts["/a"] = [{"body": OTHER}]
    got = hashlib.sha256(OTHER).hexdigest()
    message = f"/a : expected sha256 {remote(server.url()).digest}, got {got}"
    with pytest.raises(WrongFile, match=message):
        fetch(remote(server.url()), target)
    assert len(server.seen) == 1
    assert not left(target)


@pytest.mark.parametrize(
    "first", [{"body": OTHER}, {"body": BODY + b"more"}, {"status": 404}]
)
def test_a_mirror_stands_in(server, target, first):
    server.scripts["/a"] = [first]
    fetch(remote(server.url("/a"), server.url("/b")), target)
    assert_fetched(target)
    assert server.seen == [("/a", None), ("/b", None)]


def test_the_error_tells_what_happened_at_every_address(server, target):
    refusing = f"http://127.0.0.1:{closed_port()}/x"
    server.scripts |= {"/a": [{"status": 404}], "/b": [{"status": 503}]}
    with pytest.raises(FetchError) as e:
        fetch(remote(server.url("/a"), server.url("/b"), refusing), target)
    assert f"{server.url('/a')} : HTTP 404" in str(e.value)
    assert f"; {server.url('/b')} : HTTP 503" in str(e.value)
    assert f"; {refusing} : " in str(e.value)
    assert "refused" in str(e.value)
    assert "\n" not in str(e.value)
    # What is gone is asked for once, what may pass again.
    assert [path for path, _ in server.seen] == ["/a", "/b", "/b", "/b"]
    assert not left(target)


def test_wrong_content_anywhere_makes_it_a_wrong_file(server, target):
    server.scripts |= {"/a": [{"body": OTHER}], "/b": [{"status": 404}]}
    with pytest.raises(WrongFile, match=r"/a : expected sha256 .*; .*/b : HTTP 404"):
        fetch(remote(server.url("/a"), server.url("/b")), target)


def test_a_redirect_is_followed_with_the_range(server, target):
    part_of(target).write_bytes(BODY[:1000])
    server.scripts["/a"] = [{"status": 302, "headers": {"Location": "/b"}}]
    fetch(remote(server.url()), target)
    assert_fetched(target)
    assert server.seen == [("/a", "bytes=1000-"), ("/b", "bytes=1000-")]


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("/a", "HTTP 302 .*infinite loop"),
        ("ftp://127.0.0.1/a", "HTTP 302"),
        ("file:///etc/passwd", "HTTP 302"),
        ("http://[", "Invalid"),
        ("http://127.0.0.1:port/", "nonnumeric port"),
        (None, "HTTP 302"),
    ],
)
def test_a_redirect_to_nowhere_is_refused(server, target, location, message):
    server.scripts["/a"] = [{"status": 302, "headers": {"Location": location}}]
    with pytest.raises(FetchError, match=message) as e:
        fetch(remote(server.url()), target)
    assert "\n" not in str(e.value)
    assert not left(target)


def test_https_is_not_redirected_to_http(server, target, monkeypatch):
    def unencrypted(self, request):
        return self.do_open(http.client.HTTPConnection, request)

    monkeypatch.setattr(urllib.request.HTTPSHandler, "https_open", unencrypted)
    secure = server.url().replace("http:", "https:")
    headers = {"Location": server.url("/b")}
    server.scripts["/a"] = [{"status": 302, "headers": headers}]
    with pytest.raises(FetchError, match="redirects from https to http://.*/b"):
        fetch(remote(secure), target)
    assert server.seen == [("/a", None)]
    server.scripts["/a"] = [{"status": 302, "headers": {"Location": "/c"}}]
    fetch(remote(secure), target)
    assert_fetched(target)


def test_a_slow_start_is_waited_for(server, target):
    server.scripts["/a"] = [{"before": lambda: time.sleep(0.5)}]
    fetch(remote(server.url()), target, attempts=1)
    assert_fetched(target)


@pytest.mark.parametrize("stall", ["before", "after"])
def test_a_stalled_server_is_left(server, target, stall):
    server.scripts["/a"] = [{stall: server.hang, "cut": 1000}]
    start = time.monotonic()
    with pytest.raises(FetchError, match="/a : timed out"):
        fetch(remote(server.url()), target, timeout=0.3, attempts=2)
    assert time.monotonic() - start < 3
    assert len(server.seen) == 2
    assert left(target) == ({"file.bin.part"} if stall == "after" else set())


def test_a_range_that_cannot_be_served_starts_from_zero(server, target):
    part_of(target).write_bytes(OTHER[:1000])
    server.scripts["/a"] = [{"status": 416}, {}]
    fetch(remote(server.url()), target, attempts=1)
    assert_fetched(target)
    assert server.ranges() == ["bytes=1000-", None]


def test_a_server_that_never_serves_a_range_is_left(server, target):
    part_of(target).write_bytes(OTHER[:1000])
    server.scripts["/a"] = [{"status": 416}]
    with pytest.raises(FetchError, match="HTTP 416"):
        fetch(remote(server.url()), target)
    assert server.ranges() == ["bytes=1000-", None]
    assert not left(target)


@pytest.mark.parametrize(
    "span", ["bytes 0-299999/300000", "bytes 1000-299999/300001", "bytes x", None]
)
def test_another_range_than_asked_for_is_refused(server, target, span):
    part_of(target).write_bytes(BODY[:1000])
    server.scripts["/a"] = [{"headers": {"Content-Range": span}}]
    with pytest.raises(WrongFile, match=f"expected bytes 1000- of 300000, got {span}"):
        fetch(remote(server.url()), target)
    assert part_of(target).read_bytes() == BODY[:1000]
    assert left(target) == {"file.bin.part"}


def test_the_whole_length_of_a_range_may_be_unknown(server, target):
    part_of(target).write_bytes(BODY[:1000])
    headers = {"Content-Range": "bytes 1000-299999/*"}
    server.scripts["/a"] = [{"headers": headers}]
    fetch(remote(server.url()), target)
    assert_fetched(target)


@pytest.mark.parametrize("size", [1000, len(BODY), len(BODY) + 1])
def test_a_corrupt_part_is_found_out_and_started_anew(server, target, size):
    part_of(target).write_bytes((OTHER + OTHER)[:size])
    fetch(remote(server.url()), target, attempts=1)
    assert_fetched(target)
    assert server.ranges()[-1] is None
    assert len(server.seen) <= 2


def test_a_part_with_all_bytes_needs_no_network(target):
    part_of(target).write_bytes(BODY)
    fetch(remote(f"http://127.0.0.1:{closed_port()}/"), target)
    assert_fetched(target)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_not_taken_for_the_network(server, target):
    part_of(target).symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as e:
        fetch(remote(server.url(), server.url("/b")), target)
    assert not isinstance(e.value, FetchError)
    assert server.seen == [("/a", None)]


@pytest.mark.parametrize("urls", [(), ("file:///etc/passwd",), ("ftp://host/a",)])
def test_only_http_addresses_are_taken(urls):
    with pytest.raises(ValueError, match=r"expected http:// or https:// addresses"):
        remote(*urls)


def test_at_least_one_attempt_is_made(server, target):
    with pytest.raises(ValueError, match="expected at least 1 attempt, got 0"):
        fetch(remote(server.url()), target, attempts=0)


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


def test_an_interrupted_download_is_taken_up(server, target):
    def interrupt():
        wait_for(lambda: part_of(target).exists() and part_of(target).stat().st_size)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        server.hang()

    server.scripts["/a"] = [{"cut": 100_000, "after": interrupt}, {}]
    # A shell in the background has it ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        fetch(remote(server.url()), target)
    signal.signal(signal.SIGINT, before)
    assert left(target) == {"file.bin.part"}
    size = part_of(target).stat().st_size
    fetch(remote(server.url()), target)
    assert_fetched(target)
    assert server.ranges() == [None, f"bytes={size}-"]


def wait_for(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


CHILD = """
import pathlib, sys
from jaxnst.weights.download import Remote, fetch

url, size, digest, target = sys.argv[1:]
remote = Remote(urls=(url,), size=int(size), algorithm="sha256", digest=digest)
print("ready", flush=True)
fetch(remote, pathlib.Path(target))
"""


def child(file, target):
    return subprocess.Popen(
        [
            *(sys.executable, "-c", CHILD),
            *(file.urls[0], str(file.size), file.digest, str(target)),
        ],
        stdout=subprocess.PIPE,
    )


def test_of_two_processes_one_downloads(server, target):
    both = threading.Event()
    server.scripts["/a"] = [{"before": lambda: both.wait(10)}]
    file = remote(server.url())
    with child(file, target) as one, child(file, target) as two:
        assert one.stdout.readline() == two.stdout.readline() == b"ready\n"
        time.sleep(0.1)  # both are at the lock
        both.set()
        assert (one.wait(), two.wait()) == (0, 0)
    assert_fetched(target)
    assert server.seen == [("/a", None)]


def test_a_killed_process_leaves_a_part_to_take_up(server, target):
    server.scripts["/a"] = [{"cut": 100_000, "after": server.hang}, {}]
    file = remote(server.url())
    with child(file, target) as process:
        wait_for(lambda: part_of(target).exists() and part_of(target).stat().st_size)
        process.kill()
    size = part_of(target).stat().st_size
    fetch(file, target)
    assert_fetched(target)
    assert server.ranges() == [None, f"bytes={size}-"]
