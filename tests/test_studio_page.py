"""The page of the studio in a real browser, from an upload to a download."""

import io
import json
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from axe_playwright_python.sync_playwright import Axe
from PIL import Image as pil
from playwright.sync_api import expect, sync_playwright
from studio_worker import MANIFEST

from jaxnst.pictures.files import read_description
from jaxnst.pictures.samples import sample_path
from jaxnst.recipes import LOOKS
from jaxnst.studio.watch import served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium: apt-get install chromium"
)

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
    "--disable-sync",
]
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
PATIENCE = 180_000
expect.set_options(timeout=PATIENCE)


class Studio:
    """`jaxnst studio` in a process of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.log = (folder / "log").open("w")
        command = [sys.executable, "-m", "jaxnst", "studio", "--weights", "embedded"]
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, text=True, stderr=self.log
        )
        self.address = self.next_address()

    def next_address(self):
        """The next address that is printed; each opens one browser."""
        for line in self.process.stdout:
            if found := re.search(r"http\S+", line):
                return found[0]

    def end(self):
        self.process.send_signal(signal.SIGINT)
        self.process.stdout.read()
        self.process.stdout.close()
        self.log.close()
        return self.process.wait(60)


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    studio = Studio(tmp_path_factory.mktemp("studio"))
    yield studio
    assert studio.end() == 0
    assert (studio.folder / "log").read_text() == ""


@pytest.fixture
def elsewhere():
    """What the page asked others for."""
    return []


@pytest.fixture
def visit(chromium, studio, elsewhere):
    """Open a tab, whose mistakes fail the test."""
    contexts, mistakes = [], []
    own = studio.address.partition("?")[0]

    def look(request):
        if not request.url.startswith((own, "blob:")):
            elsewhere.append(request.url)

    def open_page(viewport=WIDE, **options):
        context = chromium.new_context(
            viewport=viewport, reduced_motion="reduce", **options
        )
        context.on("request", look)
        page = context.new_page()
        page.on("pageerror", lambda error: mistakes.append(str(error)))
        page.set_default_timeout(PATIENCE)
        contexts.append(context)
        enter(page, studio.address)
        studio.address = studio.next_address()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not mistakes
    assert not elsewhere


def enter(page, address):
    page.goto(address)
    page.locator("html[data-ready]").wait_for()
    assert "token" not in page.url


def test_a_link_on_another_site_opens_the_studio(chromium, studio):
    page = chromium.new_context().new_page()
    link = {"content_type": "text/html", "body": f'<a href="{studio.address}">it</a>'}
    page.route("http://elsewhere.example/", lambda route: route.fulfill(**link))
    page.goto("http://elsewhere.example/")
    page.get_by_text("it").click()
    page.locator("html[data-ready]").wait_for(timeout=20_000)
    studio.address = studio.next_address()
    page.context.close()


def choose(page):
    """A quick picture of 48 px."""
    page.get_by_role("button", name="Try the samples").click()
    page.locator("#recipe").select_option("tf-blog")
    page.get_by_label("Long edge").fill("48")
    page.locator("#more-box summary").click()
    page.get_by_label("Variations (px)").fill("48")
    set_steps(page, 3)


def set_steps(page, count):
    """So many steps, by one layer, which is compiled sooner."""
    layer = "content_layers=relu1_1 style_layers=relu1_1"
    page.get_by_label("Fields of the recipe").fill(f"first_steps={count} {layer}")


def check_accessible(page):
    found = Axe().run(page).response["violations"]
    assert not [(x["id"], [node["html"] for node in x["nodes"]]) for x in found]


def seen(page, selector):
    """Whether an image has arrived."""
    image = page.locator(selector)
    expect(image).to_be_visible()
    return image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


def test_choose_preview_paint_compare_download(visit, studio, tmp_path):
    page = visit()
    check_accessible(page)
    choose(page)
    page.locator("#content-file").set_input_files(sample_path("harbour"))
    expect(page.locator("#photograph")).to_contain_text("harbour.jpg")
    page.get_by_label("Add woodcut").click()
    page.get_by_label("Weight of swirls.jpg").fill("0.5")
    expect(page.locator("#paintings output")).to_have_text(["33 %", "67 %"])
    check_accessible(page)

    page.get_by_role("button", name="Preview").click()
    cells = page.locator("button.cell")
    expect(page.locator("#caption progress")).to_be_visible()
    expect(page.locator("#caption .where")).to_contain_text("of 9 painted")
    blanks = page.locator(".variations .blank")
    expect(blanks).to_have_count(9)
    before = box(blanks.first)
    cells.nth(8).wait_for()
    seen(page, ".cell img >> nth=0")
    after = box(cells.first)  # which has not jumped
    assert before["width"] == pytest.approx(after["width"], abs=1)
    assert before["height"] == pytest.approx(after["height"], abs=1)
    heads = page.locator(".variations th")
    words = ("fine", "as chosen", "broad", "painting", "as chosen", "photograph")
    expect(heads).to_have_text([re.compile(rf"{word}\s+\d") for word in words])
    cells.nth(5).click()
    expect(cells.nth(5)).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#style-scale-shown")).to_have_text("1.5")
    check_accessible(page)

    page.get_by_role("button", name="Paint", exact=True).click()
    page.locator(".result").wait_for()
    assert seen(page, "#easel img")
    check_accessible(page)
    command = page.locator(".command code").text_content()
    assert "--style-scale 1.5" in command
    assert "--blend=0.5,1" in command
    name = "harbour-swirls-woodcut.png"
    assert (studio.folder / "studio" / name).is_file()

    for kind, suffix in (("PNG", "png"), ("TIFF", "tif"), ("Manifest", "png.json")):
        with page.expect_download() as download:
            page.get_by_role("link", name=kind, exact=True).click()
        assert download.value.suggested_filename == f"harbour-swirls-woodcut.{suffix}"
        download.value.save_as(tmp_path / f"a.{suffix}")
    pixels = np.asarray(pil.open(tmp_path / "a.png"))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), pixels)
    assert '"tf-blog"' in read_description(tmp_path / "a.tif")

    page.get_by_label("Compare with").select_option("before")
    divider = page.get_by_label("Divider between before and after")
    divider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    expect(divider).to_have_attribute("aria-valuetext", "40 % before")
    assert seen(page, ".compare .over")
    check_accessible(page)

    page.reload()  # settings and results are there again
    page.locator("html[data-ready]").wait_for()
    expect(page.locator("#recipe")).to_have_value("tf-blog")
    page.locator(".card", has_text=name).click()
    assert seen(page, "#easel img")

    groups = page.locator(".group .card")
    before = groups.count()
    groups.first.click()  # of the preview
    expect(cells).to_have_count(9)
    page.get_by_role("button", name="Remove woodcut.jpg").click()
    cells.nth(0).click()  # brings the pictures that it was painted from
    expect(page.locator("#paintings li")).to_have_count(2)
    expect(page.locator("#paintings")).to_contain_text("woodcut.jpg")
    expect(page.locator("#style-scale-shown")).to_have_text("0.6")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete…").click()
    expect(groups).to_have_count(before - 1)


def box(element):
    return element.bounding_box()


def test_frames_arrive_and_stop_keeps_what_is_there(visit):
    page = visit()
    choose(page)
    set_steps(page, 10**6)
    page.get_by_role("button", name="Paint", exact=True).click()
    shown = page.locator("#easel .frame")
    expect(shown).to_have_attribute("data-frames", re.compile(r"[3-9]|\d\d"))
    expect(page.locator(".where")).to_contain_text("of 1000000")
    expect(page.locator(".plot polyline")).not_to_have_count(0)
    legend = page.locator(".plot figcaption")
    expect(legend).to_have_text(re.compile(r"photograph \S+ %paintings \S+ %$"))
    check_accessible(page)

    other = page.context.new_page()  # another tab sees the same, and may queue
    enter(other, page.url)  # it has the cookie
    expect(other.locator("#status")).to_contain_text("Painting harbour-swirls")
    choose(other)
    other.get_by_role("button", name="Paint", exact=True).click()
    expect(other.locator(".where")).to_contain_text("Queued, number 1")
    queued = other.locator(".job .card").last.get_attribute("title")
    other.close()

    page.bring_to_front()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".result")).to_contain_text("Stopped early")
    assert seen(page, "#easel img")
    # The tab that is closed has lost nothing.
    finished = page.locator(f"li:not(.job) .card[title='{queued}'] small")
    expect(finished).to_have_text(re.compile(r"^\w+ \d+"))


def test_a_region_is_drawn_with_keys_or_with_a_pointer(visit):
    page = visit()
    choose(page)
    page.locator("#regions-box summary").click()
    page.get_by_role("button", name="Add a region").click()
    canvas = page.get_by_label("Mask on the photograph")
    expect(canvas).to_be_focused()
    check_accessible(page)
    page.keyboard.press("+")
    page.keyboard.press("Space")
    page.get_by_role("button", name="Use it").click()
    mask = page.locator("#regions img").first
    mask.wait_for()
    address = page.url + mask.get_attribute("src")
    drawn = pil.open(io.BytesIO(page.request.get(address).body())).convert("L")
    width, height = drawn.size
    assert drawn.getpixel((width // 2, height // 2)) > 250
    assert drawn.getpixel((2, 2)) < 5

    page.get_by_role("button", name="Preserve the photograph").click()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 5, steps=3)
    page.mouse.up()
    page.get_by_role("button", name="Use it").click()
    expect(page.locator("#regions li")).to_have_count(2)
    painting = page.get_by_label("Painting of region 1")
    expect(painting).not_to_have_value("swirls")  # which paints the rest already
    painting.select_option("mosaic")
    page.get_by_role("button", name="Paint", exact=True).click()
    page.locator(".result").wait_for()
    command = page.locator(".command code").text_content()
    assert re.search(r"--region \S+mask-\w+\.png=\S+mosaic-\w+\.jpg", command)
    assert "--content-mask" in command
    expect(page.locator(".card small").first).to_have_text(re.compile(r":\d\d:\d\d"))

    page.locator("#content-file").set_input_files(sample_path("mosaic"))
    expect(page.locator("#easel img")).to_have_attribute("alt", re.compile("mosaic"))
    expect(page.locator("#regions li")).to_have_count(2)
    expect(page.get_by_role("alert")).to_contain_text(
        "drawn on harbour.jpg are stretched"
    )
    page.locator(".card").first.click()
    page.get_by_role("button", name="Use its settings").click()
    expect(page.locator("#photograph")).to_contain_text("harbour.jpg")
    expect(page.locator("#paintings")).to_contain_text("swirls.jpg")


def test_parts_are_found_and_then_corrected(visit):
    page = visit()
    choose(page)
    page.locator("#regions-box summary").click()
    page.get_by_role("button", name="Add a region").click()
    inked = """canvas => {
        const { width, height } = canvas
        const { data } = canvas.getContext("2d").getImageData(0, 0, width, height)
        return data.filter((x, i) => i % 4 === 3 && x > 128).length / (width * height)
    }"""
    canvas = page.get_by_label("Mask on the photograph")
    page.get_by_role("button", name="Find the edge").click()
    expect(page.get_by_role("alert")).to_contain_text("nothing is painted over")

    def select_sky():
        with page.expect_response("**/parts/sky"):
            page.get_by_role("button", name="Select sky").click()
        expect(page.locator("body")).not_to_have_class(re.compile("busy"))
        page.wait_for_timeout(100)  # it is drawn
        assert canvas.evaluate(inked) > 0.3

    select_sky()
    expect(page.get_by_role("alert")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    assert canvas.evaluate(inked) == 0
    select_sky()
    page.get_by_role("button", name="Use it").click()
    page.locator("#regions img").first.wait_for()


def test_what_is_wrong_is_said(visit, tmp_path):
    page = visit()
    page.get_by_role("button", name="Paint", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Choose a photograph first")
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    page.locator("#content-file").set_input_files(text)
    expect(page.get_by_role("alert")).to_contain_text("notes.txt")
    check_accessible(page)
    choose(page)
    set_steps(page, -1)
    page.get_by_role("button", name="Paint", exact=True).click()
    expect(page.locator("#set-wrong")).to_contain_text("give a whole number")
    page.get_by_label("Long edge").fill("10")
    expect(page.get_by_label("Long edge")).to_have_attribute("min", "16")
    field = page.get_by_label("Fields of the recipe")
    field.fill("style_wieght=3")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#set-wrong")).to_contain_text("did you mean style_weight=")
    expect(page.locator("#size-wrong")).to_contain_text("size from 16 to 20000")
    expect(page.get_by_label("Long edge")).to_be_focused()
    check_accessible(page)
    assert not page.locator(".job").count()  # nothing was started
    page.get_by_label("Long edge").fill("48")
    field.fill("style_weight=3")
    field.blur()
    expect(page.locator("p.failed")).to_have_count(0)
    page.context.set_offline(True)
    page.get_by_role("button", name="Paint", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    page.context.set_offline(False)


def test_sliders_without_an_effect_are_off_and_the_preview_varies_the_other(visit):
    page = visit()
    choose(page)
    strokes = page.locator("#style-scale")
    expect(strokes).to_be_enabled()
    strokes.fill("1")
    page.locator("#recipe").select_option("gatys2016")
    expect(strokes).to_be_disabled()
    expect(page.locator("#style-scale-shown")).to_contain_text("no effect")
    expect(page.locator("#preview-about")).to_contain_text("3 small")
    check_accessible(page)
    set_steps(page, 1)
    page.get_by_role("button", name="Preview").click()
    cells = page.locator("button.cell")
    cells.nth(2).click()
    expect(cells).to_have_count(3)
    expect(cells.nth(2)).to_have_attribute("aria-pressed", "true")
    card = page.locator(".group", has_text="3 variations").locator(".mosaic")
    for image in card.locator("img").all():  # a row of three fills the card
        assert box(image)["height"] == pytest.approx(box(card)["height"], abs=1)
    page.get_by_role("button", name="Paint", exact=True).click()
    page.locator(".result").wait_for()
    assert "--style-scale" not in page.locator(".command code").text_content()


HIDE = """hidden => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden })
  document.dispatchEvent(new Event("visibilitychange"))
}"""


def test_a_hidden_tab_shows_no_percentage_and_goes_on_when_it_is_seen(visit):
    page = visit()
    choose(page)
    set_steps(page, 10**6)
    page.get_by_role("button", name="Paint", exact=True).click()
    percentage = re.compile(r"\d %")
    expect(page).to_have_title(percentage)
    page.evaluate(HIDE, True)
    expect(page).not_to_have_title(percentage)
    assert page.title().endswith("jaxnst studio")
    frames = int(page.locator("#easel .frame").get_attribute("data-frames") or 0)
    page.evaluate(HIDE, False)
    expect(page).to_have_title(percentage)
    more = re.compile("|".join(str(frames + i) for i in range(1, 30)))
    expect(page.locator("#easel .frame")).to_have_attribute("data-frames", more)
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator(".result")).to_contain_text("Stopped early")


def test_tabs_of_a_run_that_are_hidden_leave_connections_to_others(chromium, tmp_path):
    """A browser has six for each server."""
    told = []
    with served(tmp_path, title="a.png", tell=told.append):
        context = chromium.new_context()
        address = told[0]
        for _ in range(8):
            page = context.new_page()
            page.set_default_timeout(PATIENCE)
            page.goto(address)
            expect(page).to_have_title("a.png – jaxnst live")
            page.evaluate(HIDE, True)
            address = address.partition("?")[0]
        page.evaluate(HIDE, False)
        reader = tmp_path / "lines.jsonl"
        line = {"scale": 0, "scales": 1, "step": 7, "steps": 9, "size": [8, 6]}
        line |= {"left": None, "done": 0.5, "terms": {}, "frame": 0}
        reader.write_text(json.dumps(line) + "\n")
        expect(page.locator("#status")).to_contain_text("step 7 of 9")
        context.close()


def test_a_page_of_a_thousand_results_is_ready_and_shows_what_changes(visit, studio):
    folder = studio.folder / "studio"
    folder.mkdir(exist_ok=True)
    picture = sample_path("swirls").read_bytes()
    names = [f"many-{i}.jpg" for i in range(1000)]
    for name in names:
        (folder / name).write_bytes(picture)
        (folder / f"{name}.json").write_text(json.dumps(MANIFEST))
    page = visit()
    many = page.locator(".card", has_text="many-")
    expect(many).to_have_count(1000)
    assert seen(page, ".card:has-text('many-') img >> nth=0")
    for name in names[1:]:
        (folder / f"{name}.json").unlink()
        (folder / name).unlink()
    expect(many).to_have_count(1)
    loaded = page.evaluate("performance.getEntriesByType('resource').length")
    assert loaded < 400  # those out of sight are not fetched
    (folder / f"{names[0]}.json").unlink()
    (folder / names[0]).unlink()
    expect(many).to_have_count(0)


LONG = "woman-with-hat-and-green-gloves-matisse-1905.jpg"

MEASURE = """async names => {
  const { html, Named } = await import("./page/base.js")
  const { render } = await import("./page/vendor/preact-11.2.0.js")
  return names.map(name => {
    const place = document.createElement("div")
    document.querySelector("#stage").append(place)
    render(html`<${Named} name=${name} kind="name tag" />`, place)
    const shown = place.firstChild
    shown.style.width = "9rem"
    const [start, end] = [...shown.children].map(x => x.getBoundingClientRect())
    const fits = end.right <= shown.getBoundingClientRect().right
    return [shown.lastChild.textContent, fits, start.width]
  })
}"""


def test_long_names_stay_in_their_places(visit, tmp_path):
    for name in (LONG, LONG.replace("1905", "1906")):
        shutil.copy(sample_path("swirls"), tmp_path / name)
    page = visit()
    page.locator("#content-file").set_input_files(sample_path("harbour"))
    page.locator("#style-file").set_input_files(list(tmp_path.glob("*.jpg")))
    expect(page.locator("#panel img.chosen")).to_have_count(3)
    page.locator("#regions-box summary").click()
    for number in (1, 2):
        page.get_by_role("button", name="Add a region").click()
        expect(page.get_by_label("Mask on the photograph")).to_be_focused()
        page.keyboard.press("Space")
        page.get_by_role("button", name="Use it").click()
        page.get_by_label(f"Painting of region {number}").select_option(label=LONG)
    for row in page.locator("#regions li").all():
        control, remove = box(row.get_by_role("combobox")), box(row.get_by_text("✕"))
        assert control["x"] + control["width"] <= remove["x"]
    panel = page.locator("#panel")
    assert panel.evaluate("panel => panel.scrollWidth <= panel.clientWidth")
    # What tells names apart is never cut.
    ends = page.evaluate(MEASURE, [LONG, "a.png"])
    (long, whole, before), short = ends
    assert LONG.endswith(long)
    assert "1905" in long
    assert whole
    assert before > 0
    assert short == ["a.png", True, 0]


def test_recipes_are_pictured_and_sliders_keep_their_places(visit):
    page = visit()
    options = page.locator("#recipe option")
    expect(options.locator("svg path")).not_to_have_count(0)
    pictures = {x.inner_html() for x in options.locator("svg").all()}
    assert len(pictures) == options.count() == len(LOOKS)
    page.locator("#content-weight").fill("1")
    expect(page.locator("#content-weight-shown")).to_have_text("0.6")
    page.locator("#recipe").select_option("kaggle")
    expect(page.locator("#content-weight-shown")).to_have_text("2")
    expect(page.locator("#content-weight")).to_have_value("1")
    expect(page.locator("#recipe-about")).to_contain_text(LOOKS["kaggle"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_telephone_shows_all_of_it(visit, studio, scheme):
    folder = studio.folder / "studio"
    folder.mkdir(exist_ok=True)
    shutil.copy(sample_path("swirls"), folder / "painted.jpg")
    (folder / "painted.jpg.json").write_text(json.dumps(MANIFEST))
    page = visit(NARROW, color_scheme=scheme)
    check_accessible(page)
    choose(page)
    check_accessible(page)
    page.locator(".card", has_text="painted").click()
    assert seen(page, "#easel img")
    check_accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    assert box(page.locator("#history"))["y"] < NARROW["height"]
    views = page.locator("#views")
    views.evaluate(  # four of them, as after a painting
        "(views, names) => names.forEach(name => {"
        "views.append(views.lastChild.cloneNode()); views.lastChild.append(name) })",
        ["Variations", "Painting"],
    )
    expect(views.get_by_role("button")).to_have_count(4)
    assert views.evaluate("views => views.scrollWidth <= views.clientWidth")


def test_everything_is_reached_with_the_keyboard(visit):
    page = visit()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the settings")).to_be_focused()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    wanted = {"content-file", "content-sample", "style-file", "content-weight"}
    wanted |= {"style-scale", "colors", "size", "recipe", "preview", "paint"}
    assert wanted <= reached
