"""The server of the studio: what the page asks for, and what it is told."""

import asyncio
import contextlib
import gc
import hashlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import MISSING, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from jaxnst.disk import held
from jaxnst.foreign import parse_json
from jaxnst.live import SO_FAR
from jaxnst.painting.scales import check_content, content_size
from jaxnst.pictures.files import UNREAD, readable_suffixes
from jaxnst.pictures.geometry import fit_shape
from jaxnst.pictures.samples import SAMPLES
from jaxnst.pictures.select import PARTS
from jaxnst.recipes import LOOKS, RECIPES, get_recipe
from jaxnst.request.defaults import QUALITY
from jaxnst.studio import pictures as uploads
from jaxnst.studio import settings as choices
from jaxnst.studio.assets import PAGE, REFUSALS
from jaxnst.studio.groups import groups, new_group, remove_group
from jaxnst.studio.guard import Guard, Keys
from jaxnst.studio.history import Entry, History, as_tiff
from jaxnst.studio.jobs import Job, Queue, Worker
from jaxnst.studio.news import News, pack
from jaxnst.studio.settings import Settings

LOOK = 1.0
"""Seconds between two looks at the folder of results while a tab is open."""

HEARTBEAT = 15.0
"""Seconds after which the page is told that nothing has changed."""

LASTING = {"cache-control": "private, max-age=86400"}
"""Of pictures whose address holds their time or their name for good."""

PATIENCE = 60.0
"""Seconds that a step may take at the end of the server, for its state to be kept."""

MOST_STREAMS = 32
"""Most tabs that are told of changes at a time."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a studio is: its address and its folder; and weights, if not a recipe's."""

    host: str
    port: int
    folder: Path
    weights: str | None = None


class Studio:
    """The routes, and what they share."""

    def __init__(self, place: Place, keys: Keys, worker: Worker):
        self.place, self.keys = place, keys
        self.pictures = uploads.Pictures(place.folder / "sources")
        self.history = History(place.folder, place.weights)
        self.queue = Queue(worker, self.on_end)
        self.streams, self.leaving = 0, False
        self.naming = asyncio.Lock()  # two pictures never get the same name
        self.decoding = asyncio.Lock()  # one large picture in memory at a time

    def app(self) -> Starlette:
        """The application."""
        post = lambda path, call: Route(path, call, methods=["POST"])
        delete = lambda path, call: Route(path, call, methods=["DELETE"])
        place = self.place
        guard = Middleware(Guard, host=place.host, port=place.port, keys=self.keys)
        return Starlette(
            routes=[
                Route("/", lambda request: FileResponse(PAGE / "index.html")),
                Mount("/page", StaticFiles(directory=PAGE)),
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
            ],
            middleware=[guard],
            exception_handlers=REFUSALS,
            lifespan=self.live,
        )

    @contextlib.asynccontextmanager
    async def live(self, app: Starlette) -> AsyncIterator[None]:
        """Paint while the server runs; stop what is painted in order at its end."""
        # Collecting garbage among all that is imported would stop the loop for 0.1 s.
        gc.freeze()
        # The first thread of Starlette imports what would stop the loop later on.
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
        """Tell the tabs that are open of what anybody puts into the folder."""
        while True:
            before = self.history.revision
            with contextlib.suppress(OSError):  # it may be readable again later
                if self.streams or not before:
                    await asyncio.to_thread(self.history.refresh)
            gone = await asyncio.to_thread(self.queue.gone)
            self.queue.jobs = [job for job in self.queue.jobs if job not in gone]
            if self.history.revision != before or gone:
                await self.queue.touch()
            await asyncio.sleep(LOOK)

    async def stop(self) -> None:
        """Keep the state of what is painted, and end the process that paints it."""
        for job in reversed(self.queue.jobs):  # first those that wait
            if job.state in ("waiting", "painting"):
                await self.queue.cancel(job)
        ended = time.monotonic() + PATIENCE
        while time.monotonic() < ended and not all(x.over for x in self.queue.jobs):
            await asyncio.sleep(0.1)
        await self.queue.worker.end()

    async def options(self, request: Request) -> Response:
        """What can be chosen."""
        recipes = [
            {
                "name": recipe.name,
                "look": LOOKS[recipe.name],
                "summary": recipe.summary,
                "size": recipe.sizes.size if recipe.paints else "as the photo",
                "content_weight": recipe.weights.content_weight,
                "style_scale": recipe.sizes.style_scale,
            }
            for recipe in RECIPES.values()
        ]
        unset = [x.name for x in fields(Settings) if x.default is not MISSING]
        return JSONResponse(
            {
                "recipes": recipes,
                "samples": [self.pictures.find(name).as_json() for name in SAMPLES],
                "suffixes": sorted(readable_suffixes() | UNREAD.keys()),
                "qualities": list(QUALITY),
                "colors": choices.COLORS,
                "defaults": {name: getattr(Settings, name) for name in unset},
                "limits": choices.LIMITS,
                "most": {
                    "bytes": uploads.MOST_BYTES,
                    "mask": uploads.MASK_EDGE,
                    "styles": choices.MOST_STYLES,
                    "regions": choices.MOST_REGIONS,
                },
                "variations": {
                    "content_weight": len(choices.CONTENT_STEPS),
                    "style_scale": len(choices.STROKE_STEPS),
                },
            }
        )

    def all_results(self, request: Request) -> Response:  # in a thread of Starlette
        """All results, and the revision from which on `events` tells of changes."""
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
        """What is new, each time that something is."""
        self.streams += 1
        try:
            yield "retry: 1000\n\n"
            news = News()  # which always has an order to tell at first
            while not self.leaving:
                seen = self.queue.changed
                items = list(news.of_jobs(self.queue.as_json()))
                if self.history.revision != revision:
                    since = self.history.since
                    revision, changed, gone = await asyncio.to_thread(since, revision)
                    items = [("history", [x]) for x in changed] + items
                    items += [("gone", [x]) for x in gone]
                # In a thread, since a thousand results take long to write as JSON.
                write = lambda items: list(map(json.dumps, pack(items)))
                events = await asyncio.to_thread(write, items)
                for event in events[:-1]:
                    yield f"data: {event}\n\n"
                for event in events[-1:]:  # who comes again has had all until here
                    yield f"id: {revision}\ndata: {event}\n\n"
                while await self.queue.wait(seen, HEARTBEAT) == seen:
                    yield ": nothing new\n\n"
        finally:
            self.streams -= 1

    async def leave(self) -> None:
        """End what tabs are told, since the server is about to end."""
        self.leaving = True
        await self.queue.touch()

    async def add_picture(self, request: Request) -> Response:
        """Take an upload up; its bytes are the body, and its name is in the address.

        A body needs no parser, and goes to the disk as it comes.
        """
        name = request.query_params.get("name", "")[:200] or "picture"
        try:
            path = await self.pictures.add(request.stream(), name)
        except OverflowError as error:
            closed = {"connection": "close"}  # the rest of it is not read
            raise HTTPException(413, str(error), closed) from error
        except ClientDisconnect:
            return Response(status_code=400)
        async with self.decoding:
            found = await asyncio.to_thread(self.pictures.accept, path, name)
        return JSONResponse(found.as_json(), 201)

    async def about_picture(self, request: Request) -> Response:
        """Name and size of a picture."""
        return JSONResponse((await self.picture(request)).as_json())

    async def picture(self, request: Request) -> uploads.Picture:
        """The picture that a request names."""
        return await asyncio.to_thread(self.pictures.find, request.path_params["id"])

    async def show_picture(self, request: Request) -> Response:
        """A small copy of a picture, for the eye."""
        kind = request.path_params["kind"]
        if kind not in uploads.EDGES:
            raise HTTPException(404, "no such copy of a picture")
        picture = await self.picture(request)
        return await self.send_copy(picture.path, picture.id, kind)

    async def select_part(self, request: Request) -> Response:
        """The mask of a part of a picture; the body is what was painted of it."""
        part = request.path_params["part"]
        if part not in (*PARTS, "painted"):
            raise HTTPException(404, "no such part of a picture")
        picture, ink = await self.picture(request), await request.body()
        async with self.decoding:
            data = await asyncio.to_thread(uploads.select_part, picture.path, part, ink)
        return Response(data, media_type="image/png")

    async def send_copy(self, path: Path, key: str, kind: str) -> Response:
        """A small copy of a picture, made once for a key."""
        found = self.pictures.copy_path(key, kind)
        if not await asyncio.to_thread(found.exists):
            async with self.decoding:
                await asyncio.to_thread(self.pictures.copy, path, key, kind)
        return FileResponse(found, media_type="image/jpeg", headers=LASTING)

    async def check(self, request: Request) -> Response:
        """What is wrong with settings, by their names, and sliders without effect."""
        values, wrong = choices.check_settings(parse_json(await request.body()))
        recipe = get_recipe(values.get("recipe", "painterly"))
        with contextlib.suppress(ValueError):
            recipe = choices.recipe_of(values)
        picture = self.pictures.known.get(values.get("content", ""))
        if picture is not None and not wrong:
            native = picture.height, picture.width
            size = values.get("size") or content_size(native, recipe)
            try:
                check_content(fit_shape(native, size), recipe)
            except ValueError as error:
                wrong["size"] = str(error)
        idle = [name for name in choices.CONTROL_LIMITS if not recipe.uses(name)]
        return JSONResponse({"wrong": wrong, "idle": idle})

    async def add_job(self, request: Request) -> Response:
        """Put a picture, or a preview, into the queue."""
        data = parse_json(await request.body())
        if not isinstance(data, dict) or data.keys() != {"kind", "settings"}:
            raise ValueError("a job has a kind and settings")
        settings = choices.read_settings(data["settings"])
        kinds = {"picture": self.picture_job, "preview": self.preview_job}
        if (make := kinds.get(str(data["kind"]))) is None:
            raise ValueError("a job is a picture or a preview")
        return await self.enqueue(make, settings)

    async def enqueue(self, make: Callable[..., Job], *given: Any) -> Response:
        """Put a job that is made of something into the queue."""
        async with self.naming:
            self.queue.check_room()
            job = await asyncio.to_thread(make, *given)
            await self.queue.add(job)
        return JSONResponse({"id": job.id, "name": job.name}, 201)

    def picture_job(self, settings: Settings) -> Job:
        """A job that paints a picture, whose record is in the history from now on."""
        waiting = [job.name for job in self.queue.jobs if not job.over]
        parts = settings.content, *settings.styles
        names = [self.pictures.find(x).name for x in parts]
        name = self.history.free_name(names, waiting)
        settings, paths = self.kept(settings)
        self.history.record(name, settings)
        return self.job_of(name, settings, paths)

    def job_of(
        self, name: str, settings: Settings, paths: dict[str, Path], **run: Any
    ) -> Job:
        """A job that paints the result of that name; `run` has fields of its `Run`."""
        painting = choices.painting_of(settings, paths, self.place.weights)
        run |= {"out": str(self.place.folder / name), "bits": settings.bits}
        pictures = [{"painting": painting, "run": run}]
        return Job("picture", name, pictures, self.scratch(name), settings.content)

    def preview_job(self, settings: Settings, group: Path | None = None) -> Job:
        """A job that paints variations to choose from, in a new folder or in theirs."""
        name = self.pictures.find(settings.content).name
        settings, paths = self.kept(settings)
        group = group or new_group(self.place.folder, settings)
        cells = choices.variations(settings)
        draft = replace(settings, size=settings.preview_size, quality="draft")
        painting = choices.painting_of(draft, paths, self.place.weights)
        pictures = [
            {
                "painting": painting | {"recipe": painting["recipe"] | cell},
                "run": {"out": str(group / f"{number}.png")},
            }
            for number, cell in enumerate(cells)
        ]
        place = self.scratch("preview"), settings.content, group
        return Job("preview", name, pictures, *place, settings, cells)

    def find_groups(self) -> None:
        """Take up the variations that were painted before, as jobs that are done."""
        found = groups(self.place.folder)
        for when, group, settings in sorted(found, key=lambda one: one[0]):
            with contextlib.suppress(OSError, ValueError):
                job = self.preview_job(settings, group)
                job.look()
                job.state, job.time = "done", when
                self.queue.jobs += [job] if job.found else []

    async def show_settings(self, request: Request) -> Response:
        """The settings that variations were painted around."""
        settings = self.job(request).settings
        if settings is None:
            raise HTTPException(404, "a picture has no variations")
        return JSONResponse(settings.as_json())

    def scratch(self, name: str) -> Path:
        """A new private folder."""
        folder = self.pictures.private / "jobs"
        folder.mkdir(exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder))

    def kept(self, settings: Settings) -> tuple[Settings, dict[str, Path]]:
        """The settings with the names of pictures in the sources, and their paths."""
        kept = {x: self.pictures.keep(self.pictures.find(x)) for x in settings.pictures}
        renamed = settings.renamed({name: path.name for name, path in kept.items()})
        return renamed, {path.name: path for path in kept.values()}

    async def cancel_job(self, request: Request) -> Response:
        """Stop a job, remove it from the queue, or delete variations."""
        job = self.job(request)
        if job.over and job.kind == "preview":
            await self.queue.forget(job)
            await self.queue.touch()
        else:
            await self.queue.cancel(job)
        return Response(status_code=204)

    def job(self, request: Request) -> Job:
        """The job that a request names."""
        try:
            return self.queue.find(request.path_params["id"])
        except KeyError:
            raise HTTPException(404, "no such job") from None

    async def show_frame(self, request: Request) -> Response:
        """The picture so far."""
        frame = await asyncio.to_thread(self.job(request).live.frame)
        if frame is None:
            raise HTTPException(404, "no frame yet")
        return Response(frame, media_type="image/jpeg")

    async def show_cell(self, request: Request) -> Response:
        """A variation of a preview."""
        path = self.job(request).found.get(request.path_params["cell"])
        if path is None or not await asyncio.to_thread(path.is_file):
            raise HTTPException(404, "no such variation yet")
        return FileResponse(path, media_type="image/png")

    def on_end(self, job: Job) -> None:
        """Keep what a stopped run had, and drop the record of one that had nothing."""
        if job.group is not None:
            if not job.found:
                remove_group(job.group)
            return
        with contextlib.suppress(OSError), held(self.place.folder / job.name):
            pass  # deletes the lock that a process which was killed has left
        so_far = job.folder / SO_FAR
        if so_far.exists():
            shutil.move(so_far, self.history.so_far(job.name))
        with contextlib.suppress(KeyError):
            entry = self.history.find(job.name)
            if entry.state == "unpainted":
                self.history.remove(entry)
            elif entry.state == "done":
                self.history.so_far(job.name).unlink(missing_ok=True)
                self.history.look(job.name)

    async def entry(self, request: Request) -> Entry:
        """The result that a request names."""
        name = request.path_params["name"]
        try:
            return await asyncio.to_thread(self.history.find, name)
        except KeyError:
            raise HTTPException(404, "no such result") from None

    async def show_result(self, request: Request) -> Response:
        """A result, its photograph or its manifest, to look at or to download."""
        entry, kind = await self.entry(request), request.path_params["kind"]
        path = entry.content if kind == "before" else entry.picture
        if kind == "thumb" and path is not None:
            key = f"{hashlib.sha256(entry.name.encode()).hexdigest()}-{entry.version}"
            return await self.send_copy(path, key, kind)
        shows: dict[str, Callable[[Path], Response]] = {
            "view": partial(self.show, kind="view"),
            "before": partial(self.show, kind="view"),
            "file": partial(FileResponse, filename=entry.name),
            "tiff": partial(self.send_tiff, name=Path(entry.name).stem),
            "manifest": partial(self.send_manifest, entry=entry),
        }
        if path is None or kind not in shows:
            raise HTTPException(404, "nothing to see yet")
        async with self.decoding:
            return await asyncio.to_thread(shows[kind], path)

    def show(self, path: Path, kind: str) -> Response:
        """A copy of a picture for the eye."""
        data = uploads.as_jpeg(path, uploads.EDGES[kind])
        return Response(data, media_type="image/jpeg", headers=LASTING)

    def send_tiff(self, path: Path, name: str) -> Response:
        """A picture as a TIFF, to download."""
        data = as_tiff(path, self.pictures.private)
        shown = f"attachment; filename*=utf-8''{quote(name)}.tif"
        headers = {"content-disposition": shown}
        return Response(data, media_type="image/tiff", headers=headers)

    def send_manifest(self, path: Path, entry: Entry) -> Response:
        """A manifest, to download."""
        if not entry.manifest:
            raise HTTPException(404, "no manifest yet")
        return FileResponse(f"{path}.json", filename=f"{entry.name}.json")

    async def resume(self, request: Request) -> Response:
        """Go on with a stopped run."""
        entry = await self.entry(request)
        busy = any(job.name == entry.name and not job.over for job in self.queue.jobs)
        if busy or not entry.resumable or entry.settings is None:
            raise ValueError("this run has no state to go on from")
        name, kept = entry.name, partial(self.kept, entry.settings)
        return await self.enqueue(lambda: self.job_of(name, *kept(), resume=True))

    async def remove(self, request: Request) -> Response:
        """Delete a result."""
        entry = await self.entry(request)
        if any(job.name == entry.name and not job.over for job in self.queue.jobs):
            raise HTTPException(409, "this picture is still being painted")
        await asyncio.to_thread(self.history.remove, entry)
        await self.queue.touch()
        return Response(status_code=204)
