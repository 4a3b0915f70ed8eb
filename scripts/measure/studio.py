"""Open the studio on a folder of many results, paint, and measure what a tab waits for.

    python scripts/measure/studio.py --results 1000 --size 512

Prints the seconds until the page can be used and until every picture of the history
that is on the screen is loaded; the seconds until the small copies of all results were
sent; the largest event that a tab got while a picture was painted; and for each of them
by how much a beat of the event loop was late at most. Needs Chromium, which competes
for the cores while the page opens.
"""

import argparse
import asyncio
import json
import multiprocessing
import shutil
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import httpx
from playwright.sync_api import sync_playwright
from shared import machine

from jaxnst.command.cli import main as jaxnst
from jaxnst.pictures.samples import sample_path
from jaxnst.studio.guard import Access
from jaxnst.studio.jobs import Worker
from jaxnst.studio.serve import Server, listen
from jaxnst.studio.server import Studio

HOST = "127.0.0.1"
TICK = 0.005
"""Seconds between two beats of the loop."""


def fill(folder: Path, results: int, size: int) -> None:
    """A picture of the command, and copies of it under other names."""
    first = folder / "0.png"
    quick = ["--recipe", "tf-blog", "--steps", "1", "--weights", "embedded", "--quiet"]
    pair = map(str, (sample_path("harbour"), sample_path("swirls")))
    run = ["stylize", *pair, "-o", str(first), "--size", str(size), *quick]
    if code := jaxnst(run):
        raise SystemExit(code)
    for i in range(1, results):
        shutil.copy(first, folder / f"{i}.png")
        shutil.copy(f"{first}.json", folder / f"{i}.png.json")


class Served:
    """A studio in a thread, whose loop notes how late each of its beats was."""

    def __init__(self, folder: Path):
        self.listener = listen(HOST, 0)
        self.access = Access(HOST, self.listener.getsockname()[1])
        worker = Worker([sys.executable, "-m", "jaxnst.command.worker"])
        studio = Studio(folder, worker, "embedded")
        self.server = Server(studio.app(self.access), studio.leave)
        self.late: list[float] = []
        self.thread = threading.Thread(target=lambda: asyncio.run(self.serve()))

    async def serve(self) -> None:
        """Serve, and beat."""
        beats = asyncio.create_task(self.beat())
        await self.server.serve([self.listener])
        beats.cancel()

    async def beat(self) -> None:
        """Note by how much each sleep of the loop was too long."""
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(TICK)
            self.late.append(time.perf_counter() - begun - TICK)

    def tell(self, what: str) -> None:
        """Print something, and how late the loop was meanwhile."""
        print(f"{what}; loop late by {max(self.late) * 1000:.0f} ms at most")
        self.late.clear()

    def __enter__(self) -> "Served":
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join()


def open_page(address: str) -> tuple[float, float, int]:
    """Seconds until the page is ready and its pictures are there, and their number."""
    with sync_playwright() as driver:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        begun = time.perf_counter()
        page.goto(address)
        page.locator("html[data-ready]").wait_for()
        ready = time.perf_counter() - begun
        asked = "img[src^='history/']"
        page.locator(asked).first.wait_for()
        page.wait_for_function(
            """selector => [...document.querySelectorAll(selector)].every(x => {
                 const box = x.getBoundingClientRect()
                 const seen = box.top < innerHeight && box.left < innerWidth
                 return !seen || x.complete && x.naturalWidth
               })""",
            arg=asked,
        )
        seen = time.perf_counter() - begun
        count = page.locator(asked).count()
        browser.close()
    return ready, seen, count


def copies(client: httpx.Client) -> tuple[float, int]:
    """Seconds until the small copies of all results were sent, and their number."""
    results = client.get("/history").json()["results"]
    begun = time.perf_counter()
    for entry in results:
        address = f"/history/{entry['name']}/thumb?at={entry['version']}"
        client.get(address).raise_for_status()
    return time.perf_counter() - begun, len(results)


def largest_event(client: httpx.Client, size: int) -> int:
    """Bytes of the largest event that a tab gets while a picture is painted."""
    since = client.get("/history").json()["revision"]
    settings = {"content": "harbour", "styles": ["woodcut"], "size": size}
    job = {"kind": "picture", "settings": settings}
    client.post("/jobs", json=job).raise_for_status()
    most = 0
    with client.stream("GET", f"/events?since={since}") as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                most = max(most, len(line))
                jobs = json.loads(line[6:]).get("jobs", [])
                if any(x.get("state") in ("done", "failed", "stopped") for x in jobs):
                    return most
    raise SystemExit("the stream ended before the picture was painted")


def main() -> None:
    """Print one measurement a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=int, default=1000)
    parser.add_argument("--size", type=int, default=512)
    args = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, args.results, args.size)
        # Elsewhere, since what starts a browser stops the threads of its own process.
        elsewhere = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        with elsewhere, Served(folder) as served:
            ready, seen, count = elsewhere.submit(
                open_page, served.access.address
            ).result()
            served.tell(
                f"page ready {ready:.2f} s, pictures in sight {seen:.2f} s ({count})"
            )
            base = served.access.address.partition("/?")[0]
            headers = {"origin": base}
            with httpx.Client(base_url=base, headers=headers, timeout=600) as client:
                client.get(served.access.address).raise_for_status()
                seconds, count = copies(client)
                served.tell(f"{count} small copies {seconds:.2f} s")
                most = largest_event(client, args.size)
                served.tell(f"largest event {most} bytes")


if __name__ == "__main__":
    main()
