"""The process in which the studio paints one job after the other.

It reads each job, a picture or the variations of a preview, as a line of JSON. After
the output of the job, it prints a line with the exit code. Compiled programs stay in
memory for the next job, and a crash does not reach the server. When standard input
ends, the server is gone. Then the job stops as if interrupted, and keeps its state.
"""

import _thread
import json
import signal
import sys
import traceback
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from jaxnst.command.cli import guarded
from jaxnst.command.grid import exit_code, paint_items
from jaxnst.command.stylize import paint, with_networks
from jaxnst.compiled import clear_compiled
from jaxnst.foreign import convert
from jaxnst.live import LiveWriter
from jaxnst.request.defaults import default_recipe
from jaxnst.request.expand import Item
from jaxnst.request.manifest import painting_of
from jaxnst.request.painting import Run
from jaxnst.studio.jobs import END

MANY = 20_000
"""Number of memory maps above which compiled programs are freed. On a CPU, each program
has several, and Linux allows a process 65,530."""


def work() -> None:
    """Run the jobs that standard input gives, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # between two jobs
    lines: SimpleQueue[str] = SimpleQueue()
    Thread(target=listen, args=(lines,), daemon=True).start()
    for line in iter(lines.get, ""):
        code = run(json.loads(line))
        print(f"{END}{code}", flush=True)
        maps = Path("/proc/self/maps")
        if maps.exists() and maps.read_bytes().count(b"\n") > MANY:
            clear_compiled()


def listen(lines: SimpleQueue[str]) -> None:
    """Queue the lines of standard input; when it ends, interrupt the job."""
    for line in sys.stdin:
        lines.put(line)
    _thread.interrupt_main()
    lines.put("")


def run(job: dict[str, Any]) -> int:
    """Run a job as a command in a terminal would; return its exit code."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return guarded(partial(paint_job, job))
    except KeyboardInterrupt:
        return 130
    except Exception:  # a bug; the studio shows the last line
        traceback.print_exc()
        return 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def paint_job(job: dict[str, Any]) -> int:
    """Paint the picture of a job, or its variations."""
    pictures = job["pictures"]
    paintings = [painting_of(x["painting"], default_recipe) for x in pictures]
    runs = [convert(x["run"], Run, "a run") for x in pictures]
    if job["kind"] == "picture":
        return paint(paintings[0], runs[0])
    pairs = zip(with_networks(paintings, quiet=True), runs, strict=True)
    items = [Item(painting, "", run.out) for painting, run in pairs]
    missing = [x for x in items if not x.out.exists()]
    paint_items(missing, LiveWriter(runs[0].live_folder))
    return exit_code(items, [])


if __name__ == "__main__":
    work()
