import contextlib
import http.client
import io
import json
import os
import random
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import studio_worker
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as pil

from jaxnst.command.cli import main, parse
from jaxnst.pictures.files import load_image, read_description, save_image
from jaxnst.pictures.samples import sample_path
from jaxnst.studio import jobs
from jaxnst.studio import pictures as uploads
from jaxnst.studio.assets import PAGE
from jaxnst.studio.guard import Guard
from jaxnst.studio.history import History, read_levels
from jaxnst.studio.jobs import Worker
from jaxnst.studio.live import LiveReader
from jaxnst.studio.serve import closing, listen, make_server
from jaxnst.studio.server import Place, Studio
from jaxnst.studio.settings import (
    Settings,
    grid_arguments,
    read_settings,
    stylize_arguments,
    variations,
)
from jaxnst.studio.watch import served

TOKEN = "t" * 43
HOST = "127.0.0.1"
CHOSEN = {"content": "harbour", "styles": ["swirls"]}
WORKER = (sys.executable, studio_worker.__file__)


@contextlib.contextmanager
def running(worker=WORKER):
    """A studio that listens in a thread, until the block ends."""
    listener = listen(HOST, 0)
    port = listener.getsockname()[1]
    place = Place(host=HOST, port=port, token=TOKEN, folder=Path("studio"))
    studio = Studio(place, Worker(worker))
    server = make_server(studio.app(), studio.leave)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield studio
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def studio(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with running() as studio:
        yield studio


def visitor(studio, **headers):
    """A client that does not know the token."""
    return httpx.Client(base_url=base(studio), headers=headers, timeout=20)


@contextlib.contextmanager
def insider(studio):
    """A client that was here with the token, and says where it comes from."""
    with visitor(studio, origin=base(studio)) as client:
        assert client.get(f"/?token={TOKEN}").status_code == 303
        yield client


def base(studio):
    return f"http://{HOST}:{studio.place.port}"


@pytest.fixture
def stranger(studio):
    with visitor(studio) as client:
        yield client


@pytest.fixture
def client(studio):
    with insider(studio) as client:
        yield client


def paint(client, kind="picture", **settings):
    data = {"kind": kind, "settings": CHOSEN | settings}
    answer = client.post("/jobs", json=data)
    assert answer.status_code == 201, answer.text
    return answer.json()


def wait_for(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("nothing happened")


def states(studio):
    return [job.state for job in studio.queue.jobs]


def png(width=8, height=6, color="teal"):
    memory = io.BytesIO()
    pil.new("RGB", (width, height), color).save(memory, "PNG")
    return memory.getvalue()


# ---- settings


def test_settings_become_arguments_that_the_command_understands():
    wanted = Settings(
        content="a",
        styles=("b", "c"),
        blend=(2.0, 0.5),
        size=320,
        quality="best",
        recipe="delicate",
        content_weight=0.25,
        style_scale=1.5,
        colors="luminance",
        rotate_styles=True,
        regions=tuple(read_settings(WITH_REGION).regions),
        hold="m",
        seed=7,
        bits=16,
        set=("history=5", "min_size=64"),
    )
    paths = {name: Path(f"{name}.png") for name in "abcm"}
    args = parse(stylize_arguments(wanted, paths, Path("o.png"), "embedded"))
    assert (args.content, args.style) == (Path("a.png"), [Path("b.png"), Path("c.png")])
    assert (args.out, args.size, args.quality) == (Path("o.png"), 320, "best")
    assert (args.blend, args.recipe, args.weights) == ([2, 0.5], "delicate", "embedded")
    assert (args.content_weight, args.style_scale) == (0.25, [(None, 1.5)])
    assert (args.colors, args.rotate_styles, args.seed) == ("luminance", True, 7)
    assert args.region == [(Path("m.png"), (Path("b.png"),))]
    assert (args.content_mask, args.bits) == (Path("m.png"), 16)
    assert args.set == [("history", 5), ("min_size", 64)]


WITH_REGION = CHOSEN | {"regions": [{"mask": "m", "styles": ["b"]}]}


def test_a_preview_varies_content_weight_and_strokes_around_what_is_chosen():
    chosen = Settings(content="a", styles=("b", "c"), content_weight=3.0)
    paths = {name: Path(f"{name}.png") for name in "abc"}
    args = parse(grid_arguments(chosen, paths, Path("out"), "auto"))
    vary = dict(args.vary)
    assert vary["content_weight"] == [1.0, 3.0, 9.0]
    assert vary["style_scale"] == [0.6, 1.0, 1.5]
    assert vary["blend"] == [[1.0, 1.0]]  # one mixture, in place of a picture for each
    assert (args.size, args.quality) == (128, "draft")
    assert variations(chosen) == (vary["content_weight"], vary["style_scale"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"content": None}, "photograph"),
        ({"content": "../../etc/passwd"}, "picture for content"),
        ({"styles": []}, "painting"),
        ({"styles": ["a"] * 9}, "at most 8"),
        ({"blend": [1, 2]}, "each of 1 paintings"),
        ({"blend": [0]}, "some weight"),
        ({"blend": [float("nan")]}, "number from 0"),
        ({"size": 10**9}, "16 to 20000"),
        ({"size": True}, "whole number"),
        ({"recipe": "none"}, "one of painterly"),
        ({"quality": ["best"]}, "one of draft"),
        ({"set": ["steps=3; rm -rf /"]}, "FIELD=VALUE"),
        ({"set": ["--out=x"]}, "FIELD=VALUE"),
        ({"keep_rest": True}, "keep what regions leave"),
        ({"regions": [{"mask": "m", "styles": []}]}, "mask and its paintings"),
        ({"sizes": 3}, "such as size"),
    ],
)
def test_settings_that_are_wrong_are_refused_in_a_line(change, said):
    with pytest.raises(ValueError, match=said) as caught:
        read_settings(CHOSEN | change)
    assert "\n" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=8), x),
    max_leaves=6,
)
NAMES = list(Settings.__dataclass_fields__)


@given(JSON | st.dictionaries(st.sampled_from(NAMES), JSON))
def test_any_json_is_settings_or_a_value_error(data):
    try:
        found = read_settings(data)
    except ValueError:
        return
    assert read_settings(found.as_json()) == found


# ---- who may talk to the server


def test_only_who_knows_the_token_gets_in_and_then_it_is_a_cookie(stranger, studio):
    for path in ("/", "/options", "/page/studio.js", "/events", "/history/a/file"):
        assert stranger.get(path).status_code == 403
    assert stranger.get("/?token=wrong").status_code == 403
    first = stranger.get(f"/?token={TOKEN}")
    assert (first.status_code, first.headers["location"]) == (303, "/")
    cookie = first.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert stranger.get("/").status_code == 200
    headers = {"cookie": f"jaxnst-{studio.place.port}=wrong"}
    assert httpx.get(f"{base(studio)}/options", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{}", "127.0.0.1", "", "a@127.0.0.1:{}", "[::1:{}"],
)
def test_another_host_is_refused_whatever_the_token(client, studio, host):
    headers = {"host": host.format(studio.place.port)}
    del client.headers["origin"]
    assert client.get("/options", headers=headers).status_code == 421


@pytest.mark.parametrize(
    ("host", "name", "ours"),
    [
        ("127.0.0.1", "localhost:80", True),
        ("127.0.0.1", "10.0.0.7:80", False),
        ("0.0.0.0", "10.0.0.7:80", True),
        ("0.0.0.0", "[fe80::1]:80", True),
        ("0.0.0.0", f"{socket.gethostname()}:80", True),
        ("0.0.0.0", "evil.example:80", False),
        ("10.0.0.7", "10.0.0.7:80", True),
        ("10.0.0.7", "10.0.0.8:80", False),
        ("10.0.0.7", "10.0.0.7:81", False),
    ],
)
def test_a_name_that_anybody_can_point_here_is_never_ours(host, name, ours):
    assert Guard(lambda *x: None, host, 80, TOKEN).is_ours(name) == ours


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1:{}", "http://[", ""]
)
def test_another_origin_is_refused(client, studio, origin):
    data = {"kind": "picture", "settings": CHOSEN}
    headers = {"origin": origin.format(studio.place.port)}
    assert client.post("/jobs", json=data, headers=headers).status_code == 403
    assert client.get("/options", headers=headers).status_code == 403
    del client.headers["origin"]  # no browser leaves it out
    assert client.post("/jobs", json=data).status_code == 403


def test_the_page_may_load_only_what_the_server_sends(client):
    for path in ("/", "/options", "/page/studio.css", "/nowhere"):
        headers = client.get(path).headers
        assert "default-src 'none'; script-src 'self'" in headers[POLICY]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers


POLICY = "content-security-policy"


@pytest.mark.parametrize("path", sorted(PAGE.iterdir()), ids=lambda path: path.name)
def test_the_page_refers_to_nothing_elsewhere(path):
    text = path.read_text().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|(?:src|href)=[\"']?//|@import|url\(", text)
    if path.suffix == ".html":  # the policy would refuse what is inside the page
        assert not re.search(r"<script>|\son\w+=|style=", text)


SECRET = "a secret of this machine"
PLACES = [
    "/page/%s", "/pictures/%s", "/pictures/%s/view", "/pictures/%s/thumb",
    "/history/%s/file", "/history/%s/view", "/history/%s/before",
    "/history/%s/manifest", "/jobs/%s/frame", "/jobs/%s/cells/0",
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_no_path_of_the_machine_can_be_read(studio, place, tmp_path):
    (tmp_path / "secret.png").write_text(SECRET)
    names = ["../secret.png", "..%2Fsecret.png", "%2e%2e/secret.png", "..\\secret.png"]
    names += [str(tmp_path / "secret.png"), "%00", "..", "secret.png", "a" * 3000]
    for name in names:
        caller = http.client.HTTPConnection(HOST, studio.place.port)
        cookie = f"jaxnst-{studio.place.port}={TOKEN}"  # httpx would tidy the path up
        caller.request("GET", place % name, headers={"cookie": cookie})
        answer = caller.getresponse()
        text = answer.read().decode()
        assert answer.status in (400, 404), text
        assert SECRET not in text
        assert str(tmp_path) not in text
        caller.close()


def test_neither_links_nor_manifests_lead_out_of_the_folder(client, tmp_path):
    folder = tmp_path / "studio"
    (folder / "sources").mkdir(parents=True)
    (tmp_path / "private.png").write_bytes(png())
    (folder / "sources" / "link.png").symlink_to(tmp_path / "private.png")
    assert client.get("/pictures/link.png").status_code == 400
    (folder / "a.png").write_bytes(png())
    (folder / "a.png.json").write_text(json.dumps({"content": "../private.png"}))
    assert client.get("/history/a.png/view").status_code == 200
    assert client.get("/history/a.png/before").status_code == 404
    (folder / "b.png").symlink_to(tmp_path / "private.png")
    (folder / "b.png.json").write_text('{"size": [8, 6]}')
    assert client.get("/history/b.png/file").status_code == 404


# ---- uploads


def upload(client, data, name="a.png"):
    return client.post("/pictures", params={"name": name}, content=data)


def test_an_upload_is_private_until_it_is_painted_from(client, studio):
    found = upload(client, png(), "C:\\holiday\\my photo.png").json()
    assert (found["name"], found["width"], found["height"]) == ("my photo.png", 8, 6)
    private = studio.pictures.private
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    view = client.get(f"/pictures/{found['id']}/view")
    assert pil.open(io.BytesIO(view.content)).size == (8, 6)
    assert not Path("studio/sources").exists()
    paint(client, content=found["id"])
    (kept,) = Path("studio/sources").glob("my-photo-*.png")
    assert kept.read_bytes() == png()


def test_uploads_are_deleted_when_the_studio_ends(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with running() as studio, insider(studio) as client:
        assert upload(client, png()).status_code == 201
        assert studio.pictures.private.is_dir()
    assert not studio.pictures.private.exists()


@pytest.mark.parametrize(
    "data", [b"just a text", b"", b"\x89PNG\r\n\x1a\n", png()[:40], b"GIF89a" * 99]
)
def test_what_is_no_picture_is_refused_by_its_own_name(client, studio, data):
    answer = upload(client, data, "notes.png")
    assert answer.status_code == 400
    assert answer.text.startswith("expected")
    assert "notes.png" in answer.text
    assert str(studio.pictures.private) not in answer.text
    assert not list(studio.pictures.private.iterdir())
    assert studio.pictures.total == 0


def test_uploads_are_bounded_in_bytes_and_pixels(client, studio, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_PIXELS", 40)
    assert "megapixels" in upload(client, png()).text
    monkeypatch.setattr(uploads, "MOST_BYTES", 50)
    answer = upload(client, png(99, 99))
    assert answer.status_code == 413
    never_ends = (b"x" * 20 for _ in iter(int, 1))
    with contextlib.suppress(httpx.TransportError):  # the server hangs up
        assert upload(client, never_ends).status_code == 413
    assert not list(studio.pictures.private.iterdir())


def test_forty_megapixels_are_taken_up(client):
    memory = io.BytesIO()
    pil.linear_gradient("L").resize((7328, 5496)).save(memory, "JPEG")
    found = upload(client, memory.getvalue(), "large.jpg").json()
    assert (found["width"], found["height"]) == (7328, 5496)
    view = client.get(f"/pictures/{found['id']}/view")
    assert pil.open(io.BytesIO(view.content)).size == (1600, 1200)


# ---- the queue


def test_one_is_painted_at_a_time_and_a_stopped_one_keeps_what_is_there(client, studio):
    first, second, third = (paint(client, seed=seed) for seed in (1, 0, 1))
    wait_for(lambda: studio.queue.jobs[0].live.lines)
    assert states(studio) == ["painting", "waiting", "waiting"]
    assert [job["place"] for job in studio.queue.as_json()] == [0, 1, 2]
    frame = client.get(f"/jobs/{first['id']}/frame")
    assert frame.content == sample_path("harbour").read_bytes()
    assert client.delete(f"/jobs/{third['id']}").status_code == 204
    assert client.delete(f"/jobs/{first['id']}").status_code == 204
    wait_for(lambda: studio.queue.jobs[1].over)
    assert states(studio) == ["stopped", "done", "stopped"]
    listed = {entry.name: entry.state for entry in studio.history.entries()}
    assert listed == {first["name"]: "stopped", second["name"]: "done"}
    assert client.get(f"/history/{first['name']}/thumb").status_code == 200
    again = client.post(f"/history/{first['name']}/resume", json={})
    assert again.status_code == 201
    assert studio.queue.jobs[-1].arguments[-1] == "--resume"


def test_a_painting_that_fails_or_crashes_leaves_the_studio_running(client, studio):
    for seed in (2, 3, 0):
        paint(client, seed=seed)
    wait_for(lambda: all(job.over for job in studio.queue.jobs))
    refused, crashed, _ = studio.queue.jobs
    assert states(studio) == ["failed", "failed", "done"]
    assert refused.message == "expected more, got less"
    assert "SIGSEGV" in crashed.message
    assert [entry.state for entry in studio.history.entries()] == ["done"]


def test_a_full_disk_fails_one_job_and_not_the_next(client, studio, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(studio.queue, "on_end", full_disk)
        paint(client)
        wait_for(lambda: states(studio) == ["failed"])
    assert "No space left" in studio.queue.jobs[0].message
    paint(client)
    wait_for(lambda: states(studio) == ["failed", "done"])


def full_disk(job):
    raise OSError("No space left on device")


def test_what_cannot_be_looked_at_fails_one_job_and_not_those_that_wait(client, studio):
    paint(client, seed=1)
    first = studio.queue.jobs[0]
    first.look = lambda: full_disk(first)
    paint(client)
    paint(client)
    wait_for(lambda: states(studio) == ["failed", "done", "done"])


def test_jobs_share_no_folder_and_torn_lines_are_passed_over(client, studio):
    for _ in range(2):
        paint(client, "preview")
    folders = {job.folder for job in studio.queue.jobs}
    assert len(folders) == 2
    folder = folders.pop()
    line = json.dumps({"scale": 0, "terms": {}, "frame": 1})
    (folder / "lines.jsonl").write_text(f"{line[:9]}{line}\n{line}\n")
    reader = LiveReader(folder)
    assert reader.read()
    assert len(reader.lines) == 1


def test_a_job_for_which_there_is_no_room_leaves_no_record(client, studio, monkeypatch):
    monkeypatch.setattr(jobs, "MOST_WAITING", 0)
    data = {"kind": "picture", "settings": CHOSEN}
    assert "at most 0" in client.post("/jobs", json=data).text
    assert not studio.history.entries()


def test_results_of_any_name_are_downloaded(client, studio):
    name = 'Łódź "水".png'
    save_image(studio.place.folder / name, np.zeros((4, 6, 3)))
    (studio.place.folder / f"{name}.json").write_text('{"status": "done"}')
    for kind in ("file", "tiff", "manifest"):
        answer = client.get(f"/history/{name}/{kind}")
        assert answer.status_code == 200
        assert "%C5%81%C3%B3d%C5%BA" in answer.headers["content-disposition"]


def test_a_stopped_run_that_goes_on_is_shown_anew(tmp_path):
    history = History(tmp_path)
    history.record("a.png", ["stylize"], {})
    seen = []
    for shade in (0.2, 0.8):
        save_image(history.so_far("a.png"), np.full((4, 6, 3), shade))
        seen.append(history.as_json(history.find("a.png"))["version"])
    assert seen[0] != seen[1]


@pytest.mark.parametrize("lines", [[], [{"scale": 0, "terms": {}, "frame": 1}]])
def test_a_job_that_hangs_is_ended_at_once_or_when_it_is_stopped_twice(
    tmp_path, monkeypatch, lines
):
    monkeypatch.chdir(tmp_path)
    hanging = (sys.executable, "-c", HANGS, *map(json.dumps, lines))
    with running(hanging) as studio, insider(studio) as client:
        job = paint(client)
        first = studio.queue.jobs[0]
        wait_for(
            lambda: first.message == "deaf" and len(first.live.lines) == len(lines)
        )
        client.delete(f"/jobs/{job['id']}")
        if lines:  # there is something to keep
            assert states(studio) == ["stopping"]
            client.delete(f"/jobs/{job['id']}")
        wait_for(lambda: states(studio) == ["stopped"])


HANGS = """
import json, pathlib, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
arguments = json.loads(sys.stdin.readline())
folder = pathlib.Path(arguments[arguments.index("--live-folder") + 1])
for line in sys.argv[1:]:
    (folder / "lines.jsonl").write_text(line + "\\n")
print("deaf", flush=True)
time.sleep(60)
"""


def test_jobs_that_cannot_be_are_refused(client):
    refused = lambda data: client.post("/jobs", json=data).status_code == 400
    assert refused({"kind": "picture"})
    assert refused({"kind": "video", "settings": CHOSEN})
    assert refused({"kind": "picture", "settings": CHOSEN | {"content": "gone.png"}})
    assert client.post("/jobs", content=b"[" * 100_000).status_code == 400
    assert client.post("/jobs", content=b"x" * 10**7).status_code == 413
    assert client.delete("/jobs/none").status_code == 404


def test_a_restart_finds_results_of_the_studio_and_of_the_command(client, studio):
    name = paint(client)["name"]
    wait_for(lambda: states(studio) == ["done"])
    save_image(Path("studio/by-hand.png"), np.full((6, 8, 3), 0.5))
    Path("studio/by-hand.png.json").write_text(json.dumps({"content": "x.png"}))
    later = History(Path("studio"))
    found = {entry["name"]: entry for entry in later.all_as_json()}
    assert set(found) == {name, "by-hand.png"}
    assert found[name]["settings"]["seed"] == 0
    assert found[name]["command"].startswith("jaxnst stylize studio/sources/harbour-")
    assert found["by-hand.png"]["command"] == "jaxnst again studio/by-hand.png"
    assert client.delete(f"/history/{name}").status_code == 204
    assert [entry["name"] for entry in later.all_as_json()] == ["by-hand.png"]


def test_names_of_results_never_meet_what_is_there(tmp_path):
    history = History(tmp_path)
    (tmp_path / "a-b.png").touch()
    (tmp_path / "a-b-2.png.checkpoint.npz").touch()
    assert history.free_name(["a.jpg", "b.jpg"], ["a-b-3.png"]) == "a-b-4.png"
    assert history.free_name(["../ü.jpg", "-rf /"]) == "picture-rf.png"


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_has_the_same_levels_and_the_same_manifest(client, tmp_path, bits):
    image = np.random.default_rng(0).random((6, 8, 3))
    target = tmp_path / "studio" / "a.png"
    target.parent.mkdir()
    save_image(target, image, bits=bits, description='{"a": 1}')
    (tmp_path / "studio" / "a.png.json").write_text('{"size": [8, 6]}')
    answer = client.get("/history/a.png/tiff")
    assert "filename*=utf-8''a.tif" in answer.headers["content-disposition"]
    (tmp_path / "b.tif").write_bytes(answer.content)
    levels, found = read_levels(target)
    assert found == bits
    tiff = tifffile.imread(tmp_path / "b.tif")
    np.testing.assert_array_equal(tiff, np.rint(levels * (2**bits - 1)))
    np.testing.assert_allclose(levels, image, atol=0.51 / (2**bits - 1))
    assert read_description(tmp_path / "b.tif") == '{"a": 1}'


# ---- a real server


def test_it_listens_only_to_this_machine():
    with closing(listen(HOST, 0)) as port:
        with pytest.raises(ValueError, match="free address"):
            listen(HOST, port)
        others = {x[4][0] for x in socket.getaddrinfo(socket.gethostname(), None)}
        for address in others - {HOST, "::1"}:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family) as caller:
                assert caller.connect_ex((address, port)) != 0


def test_a_thousand_malformed_requests_leave_it_running(studio):
    port = studio.place.port
    chance = random.Random(0)
    cookie = f"Cookie: jaxnst-{port}={TOKEN}\r\nHost: {HOST}:{port}\r\n".encode()
    lines = [
        b"GET /options HTTP/1.1\r\n",
        b"POST /jobs HTTP/1.1\r\n",
        b"BREW / HTTP/9\r\n",
    ]
    lines += [b"POST /pictures?name=%00 HTTP/1.1\r\n", b"GET /%ff%fe/..//\r\n", b"\r\n"]
    heads = [b"Content-Length: -1\r\n", b"Content-Length: 9999999999\r\n", b"X: \0\r\n"]
    heads += [b"Transfer-Encoding: chunked\r\n", b"Origin: \xff\r\n", b"A" * 40_000]
    for _ in range(1000):
        parts = [chance.choice(lines), cookie, chance.choice(heads), b"\r\n"]
        parts += [chance.randbytes(chance.randrange(200))]
        if chance.random() < 0.3:
            chance.shuffle(parts)
        with socket.create_connection((HOST, port), timeout=5) as caller:
            try:
                caller.sendall(b"".join(parts))
            except OSError:
                continue  # it has hung up already
    with httpx.Client(base_url=f"http://{HOST}:{port}", timeout=10) as client:
        assert client.get("/").status_code == 403
        client.cookies.set(f"jaxnst-{port}", TOKEN)
        assert client.get("/options").status_code == 200
    wait_for(lambda: not list(studio.pictures.private.glob("*-*")))


def test_a_dropped_connection_leaves_no_file(studio):
    port = studio.place.port
    head = (
        f"POST /pictures?name=a.png HTTP/1.1\r\nHost: {HOST}:{port}\r\n"
        f"Origin: http://{HOST}:{port}\r\nCookie: jaxnst-{port}={TOKEN}\r\n"
        "Content-Length: 100000\r\n\r\n"
    )
    with socket.create_connection((HOST, port)) as caller:
        caller.sendall(head.encode() + b"x" * 5000)
        wait_for(lambda: list(studio.pictures.private.iterdir()))
    wait_for(lambda: not list(studio.pictures.private.iterdir()))
    assert studio.pictures.total == 0


def test_a_tab_that_closes_loses_nothing_and_another_one_is_told(studio):
    with insider(studio) as client:
        with client.stream("GET", "/events"):
            name = paint(client)["name"]
        with client.stream("GET", "/events") as events:
            told = (json.loads(x[6:]) for x in events.iter_lines() if x[:5] == "data:")
            last = next(x for x in told if x["jobs"][0]["state"] == "done")
        assert [entry["name"] for entry in last["history"]] == [name]
    wait_for(lambda: studio.streams == 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_the_studio_ends_without_a_word_though_a_tab_is_open(tmp_path, number):
    run = [sys.executable, "-m", "jaxnst", "studio"]
    kinds = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    uploads = {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(run, cwd=tmp_path, env=os.environ | uploads, **kinds) as ours:
        address = ours.stdout.readline().split()[-1]
        with httpx.Client(follow_redirects=True, timeout=20) as client:
            assert client.get(address).status_code == 200
            events = address.partition("?")[0] + "events"
            with client.stream("GET", events) as answer:
                lines = answer.iter_lines()
                assert any(line.startswith("data") for line in lines)
                ours.send_signal(number)
                assert not any(line.startswith("data") for line in lines)
        assert ours.stderr.read() == ""
    assert not list(tmp_path.glob("jaxnst-studio-*"))


def test_the_end_of_the_server_keeps_the_state_of_what_is_painted(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with running() as studio, insider(studio) as client:
        name = paint(client, seed=1)["name"]
        wait_for(lambda: studio.queue.jobs[0].live.lines)
        process = studio.queue.worker.process
    assert History(Path("studio")).find(name).state == "stopped"
    assert process.returncode is not None


# ---- what a run shows


QUICK = ["--size", "48", "--weights", "embedded", "--recipe", "tf-blog", "--quiet"]


def test_a_run_that_is_watched_paints_the_same_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures = [str(sample_path("harbour")), str(sample_path("swirls"))]
    quick = [*QUICK, "--set", "first_steps=6"]
    live = tmp_path / "live"
    live.mkdir()
    shown = ["--live-folder", str(live)]
    assert main(["stylize", *pictures, "-o", "a.png", *quick]) == 0
    assert main(["stylize", *pictures, "-o", "b.png", *quick, *shown]) == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    reader = LiveReader(live)
    assert reader.read()
    assert not reader.read()
    first, *_, last = reader.lines
    assert (first["step"], last["step"], last["done"]) == (1, 6, 1.0)
    assert last["size"] == [48, 36]
    losses = [point["style"] for point in reader.terms()]
    assert len(losses) == 6
    assert losses[-1] == last["terms"]["style"][-1] < losses[0]
    done = [line["done"] for line in reader.lines]
    assert done == sorted(done)
    # The last frame is the result, up to what a JPEG loses.
    frame, result = load_image(live / "frame.jpg"), load_image("b.png")
    assert np.abs(frame - result).mean() < 0.03


def test_a_run_of_the_terminal_is_shown_and_cannot_be_changed(tmp_path):
    with served(tmp_path, title="a.png") as address:
        base, _, query = address.partition("/?")
        assert base.startswith("http://127.0.0.1:")
        with httpx.Client(base_url=base, follow_redirects=True) as client:
            assert client.get("/frame").status_code == 403
            assert "jaxnst live" in client.get(f"/?{query}").text
            assert client.get("/frame").status_code == 404
            (tmp_path / "frame.jpg").write_bytes(b"frame")
            assert client.get("/frame").content == b"frame"
            headers = {"origin": base}
            for path in ("/frame", "/events", "/jobs", "/pictures", "/"):
                assert client.post(path, headers=headers).status_code in (404, 405)


def test_a_missing_extra_is_a_line_that_says_what_to_install(capsys, monkeypatch):
    from jaxnst.command import live

    monkeypatch.setattr(live, "find_spec", lambda name: None)
    assert main(["studio"]) == 2
    assert "pip install 'jaxnst[studio]'" in capsys.readouterr().err


def test_the_server_opens_no_device():
    code = (
        "import jaxnst.studio.server; from jax._src import xla_bridge;"
        "raise SystemExit(xla_bridge.backends_are_initialized())"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
