"""The process in which the studio paints: one job after the other, programs kept.

It reads a line of JSON for each job, a picture or the variations of a preview, and
answers with a line of its own after what is printed. A second picture of a size needs
no compiling, and nothing that goes wrong here reaches the server. Once standard input
ends, the server is gone: the job stops, as if it was interrupted, and keeps its state.
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
from jaxnst.command.expand import Item
from jaxnst.command.grid import exit_code, paint_items
from jaxnst.command.stylize import paint, with_networks
from jaxnst.compiled import clear_compiled
from jaxnst.foreign import convert
from jaxnst.live import LiveWriter
from jaxnst.request.defaults import default_recipe
from jaxnst.request.manifest import painting_of
from jaxnst.request.painting import Run
from jaxnst.studio.jobs import END

MANY = 20_000
"""Memory maps from which on compiled programs are freed. On a CPU, each program has
several, and Linux gives a process 65,530."""


def work() -> None:
    """Do the jobs of standard input until it ends."""
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
    """Pass the lines of standard input on; at its end, stop the job."""
    for line in sys.stdin:
        lines.put(line)
    _thread.interrupt_main()
    lines.put("")


def run(job: dict[str, Any]) -> int:
    """Do a job as a terminal would; return its exit code."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return guarded(partial(paint_job, job))
    except KeyboardInterrupt:
        return 130
    except Exception:  # a mistake of ours; the studio shows its last line
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
