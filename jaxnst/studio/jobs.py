"""Jobs: one is painted at a time, in a process that keeps its compiled programs."""

import asyncio
import contextlib
import json
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jaxnst.live import LiveReader
from jaxnst.request.manifest import manifest_path, read_manifest
from jaxnst.studio.history import remove_group
from jaxnst.studio.settings import Settings

END = "\x1e"
"""Start of the line with which the process reports the exit code of a job."""

LOOK, IDLE = 0.4, 600.0
"""Seconds between two looks at the progress of a run, and until an idle process ends,
which frees the memory of the device."""

MOST_WAITING = 50
"""Most jobs that wait."""

LONGEST = 1000
"""Characters of a message, at most."""

State = Literal["waiting", "painting", "stopping", "done", "stopped", "failed"]


@dataclass(kw_only=True)
class Job:
    """Something to paint: a picture, or the variations of a preview.

    Attributes:
        name: Name of the result; for a preview, name of the photograph.
        settings: Settings of the picture, or those around which a preview varies.
        pictures: A painting and a run of each picture, as JSON.
        folder: Private folder for frames and lines.
        group: Folder of the pictures of a preview.
        cells: Varied settings of each picture of a preview, row by row.
        time: Time of the request, in seconds since 1970.
        message: The last line that the command printed.
        found: Paths of the painted cells, by their numbers.
    """

    kind: Literal["picture", "preview"]
    name: str
    settings: Settings
    pictures: list[dict[str, Any]]
    folder: Path
    group: Path | None = None
    cells: list[dict[str, float]] = field(default_factory=list)
    time: float = field(default_factory=time.time)
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    state: State = "waiting"
    message: str = ""
    found: dict[int, Path] = field(default_factory=dict)

    def __post_init__(self):
        self.live = LiveReader(self.folder)

    @property
    def over(self) -> bool:
        """Whether the job has ended."""
        return self.state in ("done", "stopped", "failed")

    def look(self) -> None:
        """Read the progress since the last look."""
        self.live.read()
        for number in range(len(self.cells)):
            path = Path(self.pictures[number]["run"]["out"])
            if number in self.found or path.is_symlink() or not path.exists():
                continue
            with contextlib.suppress(OSError, ValueError):
                read_manifest(manifest_path(path))
                self.found[number] = path

    def as_json(self, place: int) -> dict[str, Any]:
        """The fields that the page gets; `place` counts the jobs before this one."""
        own = ("id", "kind", "name", "time", "state", "message")
        return {
            **{key: getattr(self, key) for key in own},
            **self.live.as_json(),
            "content": self.settings.content,
            "place": place,
            "cells": [
                {**cell, "there": number in self.found}
                for number, cell in enumerate(self.cells)
            ],
        }


class Worker:
    """The process that paints, started when it is needed.

    It runs in its own session. So Ctrl-C in the terminal reaches only the server, which
    then stops this process cleanly.
    """

    def __init__(self, command: Sequence[str]):
        self.command = command
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> asyncio.subprocess.Process:
        """The process, started if it is not running."""
        if self.process is None or self.process.returncode is not None:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                limit=2**20,
            )
        return self.process

    async def run(self, job: dict[str, Any], tell: Callable[[str], None]) -> int:
        """Run a job; `tell` gets its lines. Return its exit code, or minus a signal."""
        process = await self.start()
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(ConnectionError):
            process.stdin.write(json.dumps(job).encode() + b"\n")
            await process.stdin.drain()
        async for line in process.stdout:
            text = line.decode(errors="replace").rstrip()
            if text.startswith(END):
                return int(text.removeprefix(END))
            if text:
                tell(text)
        return await process.wait()

    def interrupt(self, *, now: bool = False) -> None:
        """Stop the job after its current step; with `now`, kill the whole process."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL if now else signal.SIGINT)

    async def end(self) -> None:
        """End the process; it is killed if it does not end within a second."""
        if self.process is None or self.process.returncode is not None:
            return
        assert self.process.stdin is not None
        self.process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), 1.0)
        self.interrupt(now=True)
        await self.process.wait()


class Queue:
    """The jobs, in the order in which they are painted.

    Attributes:
        changed: Event that is set at the next change, and then replaced.
        on_end: Called in a thread with each job that has ended.
    """

    def __init__(self, worker: Worker, on_end: Callable[[Job], None]):
        self.worker, self.on_end = worker, on_end
        self.jobs: list[Job] = []
        self.changed = asyncio.Event()

    def touch(self) -> None:
        """Wake all who wait for a change."""
        self.changed.set()
        self.changed = asyncio.Event()

    @property
    def waiting(self) -> list[Job]:
        """Jobs that have not begun."""
        return [job for job in self.jobs if job.state == "waiting"]

    @property
    def names(self) -> list[str]:
        """Names of the jobs that are not over."""
        return [job.name for job in self.jobs if not job.over]

    def check_room(self) -> None:
        """Raise a ValueError if the queue is full."""
        if len(self.waiting) >= MOST_WAITING:
            raise ValueError(
                f"at most {MOST_WAITING} pictures can wait; wait, or remove one"
            )

    def add(self, job: Job) -> None:
        """Put a job at the end."""
        self.jobs.append(job)
        self.touch()

    async def cancel(self, job: Job) -> None:
        """Remove a job that waits, or stop a job that is being painted.

        A job stops after its current step. It stops at once if there is nothing to keep
        yet, such as during compilation, or at the second call.
        """
        if job.state == "waiting":
            job.state = "stopped"  # so that nobody begins it
            await self.finish(job, "stopped")
        elif not job.over:
            shown = job.live.lines or job.found
            self.worker.interrupt(now=job.state == "stopping" or not shown)
            job.state = "stopping"
        self.touch()

    async def work(self) -> None:
        """Paint one job after the other, for ever."""
        with contextlib.suppress(OSError):
            await self.worker.start()  # loads JAX before the first job
        while True:
            if not self.waiting:
                try:
                    await asyncio.wait_for(self.changed.wait(), IDLE)
                except TimeoutError:
                    await self.worker.end()
                continue
            job = self.waiting[0]
            try:
                await self.paint(job)
            except Exception as error:
                # Such as a full disk; the next job must still be painted.
                job.state = "failed"
                job.message = f"the studio could not continue: {error}"
            self.touch()

    async def paint(self, job: Job) -> None:
        """Paint a job, and follow its progress."""
        job.state, job.message = "painting", "Starting"
        self.touch()
        complaints = []

        def tell(line: str) -> None:
            line = line.replace(str(job.folder), job.name)  # the folder is private
            job.message = line.removeprefix("jaxnst: ")[:LONGEST]
            if line.startswith("jaxnst: error: "):
                complaints.append(line.removeprefix("jaxnst: error: ")[:LONGEST])

        todo = {"kind": job.kind, "pictures": job.pictures}
        running = asyncio.create_task(self.worker.run(todo, tell))
        try:
            await self.follow(job, running)
        except Exception:
            self.worker.interrupt(now=True)
            await asyncio.wait([running])  # so that the next job reads only its lines
            raise
        try:
            code = running.result()
        except OSError as error:
            code, complaints = 2, [f"the process that paints did not start: {error}"]
        if code == 0:
            state, job.message = "done", ""
        elif code == 130 or job.state == "stopping":
            state = "stopped"
        else:
            how = f"exit code {code}" if code >= 0 else signal.strsignal(-code)
            died = f"the process that paints ended ({how}); try again"
            state, job.message = "failed", complaints[-1] if complaints else died
        await self.finish(job, state)

    async def follow(self, job: Job, running: asyncio.Task[int]) -> None:
        """Look at the progress of a job until it ends, and once after that."""
        seen: Any = None
        done = False
        while not done:
            await asyncio.wait([running], timeout=LOOK)
            done = running.done()
            await asyncio.to_thread(job.look)
            live = len(job.live.lines), job.live.doing
            now = *live, job.message, len(job.found), job.state
            if now != seen:
                seen = now
                self.touch()

    async def finish(self, job: Job, state: State) -> None:
        """End a job. Of jobs that ended without variations, keep only the latest 20."""
        await asyncio.to_thread(self.on_end, job)
        job.state = state
        for old in [x for x in self.jobs if x.over and not x.found][:-20]:
            await self.forget(old)

    async def forget(self, job: Job) -> None:
        """Forget a job that has ended, and delete its frames and variations."""
        self.jobs = [x for x in self.jobs if x is not job]  # perhaps forgotten already
        await asyncio.to_thread(shutil.rmtree, job.folder, ignore_errors=True)
        if job.group is not None:
            await asyncio.to_thread(remove_group, job.group)

    def gone(self) -> list[Job]:
        """Jobs of variations whose folder somebody has deleted."""
        painted = [job for job in self.jobs if job.over and job.found]
        return [job for job in painted if job.group and not job.group.is_dir()]

    def as_json(self) -> list[dict[str, Any]]:
        """All jobs, with their places in the queue."""
        waiting = self.waiting
        busy = sum(job.state in ("painting", "stopping") for job in self.jobs)
        place = lambda job: busy + waiting.index(job) if job in waiting else 0
        return [job.as_json(place(job)) for job in self.jobs]
