"""The server of the studio: it answers the requests of the page, and sends events."""

import asyncio
import contextlib
import gc
import json
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from jaxnst.disk import held
from jaxnst.foreign import parse_json
from jaxnst.live import SO_FAR
from jaxnst.painting.scales import check_content, content_size
from jaxnst.pictures.files import UNREAD, readable_suffixes, save_image
from jaxnst.pictures.geometry import fit_shape
from jaxnst.pictures.samples import SAMPLES
from jaxnst.pictures.select import PARTS
from jaxnst.pictures.source import open_source
from jaxnst.recipes import LOOKS, RECIPES
from jaxnst.request.defaults import QUALITY
from jaxnst.studio import pictures as uploads
from jaxnst.studio import settings as choices
from jaxnst.studio.guard import Access
from jaxnst.studio.history import Entry, History, groups, new_group, remove_group
from jaxnst.studio.jobs import Job, Queue, Worker
from jaxnst.studio.news import News, pack
from jaxnst.studio.serve import PAGE, application
from jaxnst.studio.settings import Settings

LOOK = 1.0
"""Seconds between two looks at the folder of results while a tab is open."""

HEARTBEAT = 15.0
"""Seconds after which the page is told that nothing has changed."""

LASTING = {"cache-control": "private, max-age=86400"}
"""Headers of pictures that never change, or whose address contains a version."""

PATIENCE = 60.0
"""Most seconds that the server waits at its end until a run has saved its state."""

MOST_STREAMS = 32
"""Most tabs that get events at a time."""


class Studio:
    """The handlers of the page's requests, and what they share.

    Handlers that are not coroutines use files, so Starlette calls them in a thread.

    Args:
        folder: Folder of the results and of their inputs.
        worker: The process that paints.
        weights: Name or path of the network's weights. Default: the recipe's.
    """

    def __init__(self, folder: Path, worker: Worker, weights: str | None = None):
        self.folder, self.sources, self.weights = folder, folder / "sources", weights
        self.pictures = uploads.Pictures(self.sources)
        self.history = History(folder, weights)
        self.queue = Queue(worker, self.on_end)
        self.streams, self.leaving = 0, False
        self.naming = asyncio.Lock()  # two pictures never get the same name

    def app(self, access: Access) -> Starlette:
        """The application."""
        post = lambda path, call: Route(path, call, methods=["POST"])
        delete = lambda path, call: Route(path, call, methods=["DELETE"])
        routes = [
            Route("/", lambda request: FileResponse(PAGE / "index.html")),
            Route("/options", self.options),
            Route("/events", self.events),
            post("/pictures", self.add_picture),
            Route("/pictures/{id}", self.about_picture),
            Route("/pictures/{id}/{kind}", self.show_picture),
            post("/pictures/{id}/parts/{part}", self.select_part),
            post("/check", self.check),
            post("/jobs", self.add_job),
            delete("/jobs/{id}", self.cancel_job),
            Route("/jobs/{id}/settings", self.show_settings),
            Route("/jobs/{id}/frame", self.show_frame),
            Route("/jobs/{id}/cells/{cell:int}", self.show_cell),
            Route("/history", self.all_results),
            Route("/history/{name}/{kind}", self.show_result),
            post("/history/{name}/resume", self.resume),
            delete("/history/{name}", self.remove),
        ]
        return application(routes, access, self.live)

    @contextlib.asynccontextmanager
    async def live(self, app: Starlette) -> AsyncIterator[None]:
        """Paint while the server runs; at its end, stop the painting cleanly."""
        # Collecting garbage among all imports would stop the loop for 0.1 s.
        gc.freeze()
        # The first thread of Starlette makes imports that would stop the loop later.
        await run_in_threadpool(self.find_groups)
        tasks = [
            asyncio.create_task(self.queue.work()),
            asyncio.create_task(self.follow_folder()),
        ]
        try:
            yield
        finally:
            await self.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.pictures.close()
            gc.unfreeze()

    async def follow_folder(self) -> None:
        """Tell open tabs of all changes in the folder, whoever makes them."""
        told = 0  # requests refresh the history, too, so its changes are counted here
        while True:
            with contextlib.suppress(OSError):  # it may be readable again later
                if self.streams or not told:
                    await asyncio.to_thread(self.history.refresh)
            gone = await asyncio.to_thread(self.queue.gone)
            for job in gone:
                await self.queue.forget(job)
            if self.history.revision != told or gone:
                told = self.history.revision
                self.queue.touch()
            await asyncio.sleep(LOOK)

    async def stop(self) -> None:
        """Keep the state of the current painting, and end the process that paints."""
        for job in reversed(self.queue.jobs):  # first those that wait
            if job.state in ("waiting", "painting"):
                await self.queue.cancel(job)
        ended = time.monotonic() + PATIENCE
        while time.monotonic() < ended and not all(x.over for x in self.queue.jobs):
            await asyncio.sleep(0.1)
        await self.queue.worker.end()

    # ---- options and events

    def options(self, request: Request) -> Response:
        """All choices, defaults and limits of the page."""
        recipes = [
            {
                "name": recipe.name,
                "look": LOOKS[recipe.name],
                "summary": recipe.summary,
                "size": recipe.sizes.size if recipe.paints else "as the photo",
                **{name: recipe.values()[name] for name in choices.SLIDERS},
            }
            for recipe in RECIPES.values()
        ]
        return JSONResponse(
            {
                "recipes": recipes,
                "samples": [self.pictures.find(name).as_json() for name in SAMPLES],
                "suffixes": sorted(readable_suffixes() | UNREAD.keys()),
                "qualities": list(QUALITY),
                "colors": choices.COLORS,
                "defaults": Settings(content="").as_json() | {"content": None},
                "limits": choices.LIMITS,
                "most": {
                    "bytes": uploads.MOST_BYTES,
                    "mask": uploads.MASK_EDGE,
                    "styles": choices.MOST_STYLES,
                    "regions": choices.MOST_REGIONS,
                },
                "variations": {x: len(y) for x, (_, y) in choices.SLIDERS.items()},
            }
        )

    def all_results(self, request: Request) -> Response:
        """All results, and their revision, after which `events` tells of changes."""
        self.history.refresh()
        revision, results, _ = self.history.since(0)
        text = json.dumps({"revision": revision, "results": results})
        return Response(text, media_type="application/json")

    async def events(self, request: Request) -> Response:
        """Tell a tab of every change since a revision, as server-sent events."""
        if self.streams >= MOST_STREAMS:
            raise HTTPException(503, f"more than {MOST_STREAMS} tabs are open")
        asked = request.headers.get("last-event-id", request.query_params.get("since"))
        since = int(asked) if asked and re.fullmatch(r"\d{1,15}", asked) else 0
        return StreamingResponse(self.changes(since), media_type="text/event-stream")

    async def changes(self, revision: int) -> AsyncIterator[str]:
        """Events with the changes, each time that there are some."""
        self.streams += 1
        try:
            yield "retry: 1000\n\n"
            news = News()  # at first, it always tells an order
            while not self.leaving:
                changed = self.queue.changed  # before anything is read
                items = list(news.of_jobs(self.queue.as_json()))
                if self.history.revision != revision:
                    since = self.history.since
                    revision, new, gone = await asyncio.to_thread(since, revision)
                    items = [("history", [x]) for x in new] + items
                    items += [("gone", [x]) for x in gone]
                # In a thread, since it takes long to write a thousand results as JSON.
                write = lambda items: list(map(json.dumps, pack(items)))
                events = await asyncio.to_thread(write, items)
                for event in events[:-1]:
                    yield f"data: {event}\n\n"
                for event in events[-1:]:  # a tab that reconnects has all until here
                    yield f"id: {revision}\ndata: {event}\n\n"
                while not await _happens(changed, HEARTBEAT):
                    yield ": nothing new\n\n"
        finally:
            self.streams -= 1

    def leave(self) -> None:
        """End the event streams, since the server is about to end."""
        self.leaving = True
        self.queue.touch()

    # ---- pictures to choose

    async def add_picture(self, request: Request) -> Response:
        """Register an upload: the body is the file, and the address has its name.

        Such a body needs no parser, and is written to disk as it arrives.
        """
        given = request.query_params.get("name", "").replace("\\", "/")
        name = Path(given).name[:200] or "picture"
        found = await self.pictures.add(request.stream(), name)
        return JSONResponse(found.as_json(), 201)

    def picture(self, request: Request) -> uploads.Picture:
        """The picture that a request names."""
        return self.pictures.find(request.path_params["id"])

    def about_picture(self, request: Request) -> Response:
        """Name and size of a picture."""
        return JSONResponse(self.picture(request).as_json())

    def show_picture(self, request: Request) -> Response:
        """A small copy of a picture, to look at."""
        if (kind := request.path_params["kind"]) not in uploads.EDGES:
            raise HTTPException(404, "no such copy of a picture")
        copy = self.pictures.copy(self.picture(request).path, kind)
        return FileResponse(copy, headers=LASTING)

    async def select_part(self, request: Request) -> Response:
        """The mask of a part of a picture; the body is the part as roughly painted."""
        part, ink = request.path_params["part"], await request.body()
        if part not in (*PARTS, "painted"):
            raise HTTPException(404, "no such part of a picture")
        select = lambda: uploads.select_part(self.picture(request).path, part, ink)
        return Response(await asyncio.to_thread(select), media_type="image/png")

    # ---- jobs

    async def check(self, request: Request) -> Response:
        """The problems of settings, by name, and the sliders without effect."""
        values, wrong, recipe = choices.check_settings(parse_json(await request.body()))
        picture = self.pictures.known.get(values.get("content", ""))
        if picture is not None and not wrong:
            native = picture.height, picture.width
            size = values.get("size") or content_size(native, recipe)
            try:
                check_content(fit_shape(native, size), recipe)
            except ValueError as error:
                wrong["size"] = str(error)
        idle = [name for name in choices.SLIDERS if not recipe.uses(name)]
        return JSONResponse({"wrong": wrong, "idle": idle})

    async def add_job(self, request: Request) -> Response:
        """Put a picture, or a preview, into the queue."""
        match parse_json(await request.body()):
            case {"kind": "picture", "settings": chosen}:
                make = self.picture_job
            case {"kind": "preview", "settings": chosen}:
                make = self.preview_job
            case _:
                raise ValueError("a job is a picture or a preview, and has settings")
        return await self.enqueue(partial(make, choices.read_settings(chosen)))

    async def enqueue(self, make: Callable[[], Job]) -> Response:
        """Make a job, and put it into the queue."""
        async with self.naming:
            self.queue.check_room()
            job = await asyncio.to_thread(make)
            self.queue.add(job)
        return JSONResponse({"id": job.id, "name": job.name}, 201)

    def picture_job(self, settings: Settings, resume: str | None = None) -> Job:
        """A job that paints a picture, or resumes the stopped picture of that name.

        The settings of a new picture are recorded at once.
        """
        parts = settings.content, *settings.styles
        names = [self.pictures.find(x).name for x in parts]
        name = resume or self.history.free_name(names, self.queue.names)
        settings = settings.renamed(self.pictures.keep)
        if resume is None:
            self.history.record(name, settings)
        painting = choices.painting_of(settings, self.sources, self.weights)
        folder = self.scratch()
        run = {
            "out": str(self.folder / name),
            "bits": settings.bits,
            "resume": resume is not None,
            "live_folder": str(folder),
        }
        return Job(
            kind="picture",
            name=name,
            settings=settings,
            pictures=[{"painting": painting, "run": run}],
            folder=folder,
        )

    def preview_job(self, settings: Settings, group: Path | None = None) -> Job:
        """A job that paints variations to choose from, in `group` or a new folder."""
        name = self.pictures.find(settings.content).name
        settings = settings.renamed(self.pictures.keep)
        group, folder = group or new_group(self.folder, settings), self.scratch()
        cells = choices.variations(settings)
        draft = replace(settings, size=settings.preview_size, quality="draft")
        painting = choices.painting_of(draft, self.sources, self.weights)
        pictures = [
            {
                "painting": painting | {"recipe": painting["recipe"] | cell},
                "run": {"out": str(group / f"{i}.png"), "live_folder": str(folder)},
            }
            for i, cell in enumerate(cells)
        ]
        return Job(
            kind="preview",
            name=name,
            settings=settings,
            pictures=pictures,
            folder=folder,
            group=group,
            cells=cells,
        )

    def scratch(self) -> Path:
        """A new private folder."""
        return Path(tempfile.mkdtemp(prefix="job-", dir=self.pictures.private))

    def find_groups(self) -> None:
        """Add the variations in the folder to the jobs, as done."""
        for when, group, settings in groups(self.folder):
            with contextlib.suppress(OSError, ValueError):
                job = self.preview_job(settings, group)
                job.look()
                job.state, job.time = "done", when
                self.queue.jobs += [job] if job.found else []

    def on_end(self, job: Job) -> None:
        """Keep the remains of a stopped run; if there are none, delete its record."""
        if job.group is not None:
            if not job.found:
                remove_group(job.group)
            return
        with contextlib.suppress(OSError), held(self.folder / job.name):
            pass  # deletes the lock of a process that was killed
        so_far = self.history.so_far(job.name)
        if (job.folder / SO_FAR).exists():
            shutil.move(job.folder / SO_FAR, so_far)
        entry = self.history.find(job.name)
        if entry is not None and entry.state == "unpainted":
            self.history.remove(entry)
        elif entry is not None and entry.state == "done":
            so_far.unlink(missing_ok=True)
            self.history.look(job.name)

    def job(self, request: Request) -> Job:
        """The job that a request names."""
        for job in self.queue.jobs:
            if job.id == request.path_params["id"]:
                return job
        raise HTTPException(404, "no such job")

    async def cancel_job(self, request: Request) -> Response:
        """Stop a job, remove it from the queue, or delete variations."""
        job = self.job(request)
        if job.over and job.kind == "preview":
            await self.queue.forget(job)
            self.queue.touch()
        else:
            await self.queue.cancel(job)
        return Response(status_code=204)

    def show_settings(self, request: Request) -> Response:
        """The settings of a job, such as those that variations are painted around."""
        return JSONResponse(self.job(request).settings.as_json())

    def show_frame(self, request: Request) -> Response:
        """The picture so far."""
        frame = self.job(request).live.frame()
        if frame is None:
            raise HTTPException(404, "no frame yet")
        return Response(frame, media_type="image/jpeg")

    def show_cell(self, request: Request) -> Response:
        """A variation of a preview."""
        path = self.job(request).found.get(request.path_params["cell"])
        if path is None or not path.is_file():
            raise HTTPException(404, "no such variation yet")
        return FileResponse(path)

    # ---- results

    def entry(self, request: Request) -> Entry:
        """The result that a request names."""
        entry = self.history.find(request.path_params["name"])
        if entry is None:
            raise HTTPException(404, "no such result")
        return entry

    def show_result(self, request: Request) -> Response:
        """A result, its photograph or its manifest, to look at or to download."""
        entry, kind = self.entry(request), request.path_params["kind"]
        path = entry.content if kind == "before" else entry.picture
        if path is not None:
            if kind in ("thumb", "view", "before"):
                copy = self.pictures.copy(path, "thumb" if kind == "thumb" else "view")
                return FileResponse(copy, headers=LASTING)
            if kind == "file":
                return FileResponse(path, filename=entry.name)
            if kind == "tiff":
                return self.send_tiff(path, Path(entry.name).stem)
            if kind == "manifest" and entry.state == "done":
                return FileResponse(f"{path}.json", filename=f"{entry.name}.json")
        raise HTTPException(404, "nothing to see yet")

    def send_tiff(self, path: Path, name: str) -> Response:
        """A TIFF with the same levels and the same manifest inside, to download."""
        target = self.scratch() / "result.tif"
        with uploads.decoding, open_source(path, profiled=False) as source:
            bits = 16 if source.bits == 16 else 8
            save_image(target, source.read(), bits=bits, description=source.description)
        delete = BackgroundTask(shutil.rmtree, target.parent)
        return FileResponse(target, filename=f"{name}.tif", background=delete)

    async def resume(self, request: Request) -> Response:
        """Resume a stopped run."""
        entry = await asyncio.to_thread(self.entry, request)
        busy = entry.name in self.queue.names
        if busy or not entry.resumable or entry.settings is None:
            raise ValueError("this run has no state to resume from; paint it again")
        return await self.enqueue(partial(self.picture_job, entry.settings, entry.name))

    async def remove(self, request: Request) -> Response:
        """Delete a result."""
        entry = await asyncio.to_thread(self.entry, request)
        if entry.name in self.queue.names:
            raise HTTPException(409, "this picture is still being painted")
        await asyncio.to_thread(self.history.remove, entry)
        self.queue.touch()
        return Response(status_code=204)


async def _happens(event: asyncio.Event, patience: float) -> bool:
    """Whether an event is set within some seconds."""
    with contextlib.suppress(TimeoutError):
        return await asyncio.wait_for(event.wait(), patience)
    return False
