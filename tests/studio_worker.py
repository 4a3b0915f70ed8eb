"""Stands in for the process that paints: obeys the words of a picture's seed.

It speaks as `jaxnst.command.worker` does, but needs no JAX and takes no time. Its
argument is the recipe of what it paints.
"""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    recipe = json.loads(sys.argv[1])
else:  # the tests have JAX already
    from jaxnst.recipes import get_recipe

    recipe = json.loads(json.dumps(get_recipe("painterly").values()))

MANIFEST = {
    "content": "sources/a.jpg",
    "styles": [{"path": "sources/b.jpg"}],
    "recipe": recipe,
    "size": [8, 6],
    "seed": 0,
    "weights": "embedded",
    "pictures_sha256": ["0", "1"],
    "weights_sha256": "0",
    "status": "done",
}
"""A manifest of what is painted here."""

SLOW, FAILS, DIES = 1, 2, 3
"""Seeds: paint until stopped, refuse, and crash."""


def paint(job):
    first = job["pictures"][0]
    painting, run = first["painting"], first["run"]
    out, seed, content = Path(run["out"]), painting["seed"], painting["content"]
    if seed == FAILS:
        say("jaxnst: error: expected more, got less")
        return 2
    if seed == DIES:
        os.kill(os.getpid(), signal.SIGSEGV)
    if job["kind"] == "preview":
        return paint_variation(job["pictures"][1])
    live = Path(run["live_folder"])
    shutil.copy(content, live / "frame.jpg")
    line = {"scale": 0, "step": 1, "terms": {"style": [1.0]}, "frame": 1, "done": 0.5}
    (live / "lines.jsonl").write_text(json.dumps(line) + "\n")
    if seed == SLOW:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            shutil.copy(content, live / "so-far.png")
            Path(f"{out}.checkpoint.npz").write_bytes(b"state")
            return 130
    from PIL import Image

    Image.open(content).resize((8, 6)).save(out)
    Path(f"{out}.json").write_text(json.dumps(MANIFEST))
    return 0


def paint_variation(picture):
    """The second one of a preview: the least content weight, strokes as chosen."""
    out = picture["run"]["out"]
    shutil.copy(picture["painting"]["content"], out)
    Path(f"{out}.json").write_text(json.dumps(MANIFEST))
    return 0


def say(text):
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def work():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for text in sys.stdin:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = paint(json.loads(text))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        say(f"\x1e{code}")


if __name__ == "__main__":
    work()
