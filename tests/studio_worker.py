"""Stands in for the process that paints: obeys the words of a picture's seed.

It speaks as `jaxnst.command.worker` does, but needs no JAX and takes no time. Its
argument is the recipe of variations.
"""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

MANIFEST = {
    "content": "sources/a.jpg",
    "styles": ["sources/b.jpg"],
    "pictures_sha256": ["0", "1"],
    "blend": None,
    "init": "content",
    "masks": {
        "regions": [],
        "keep_rest": False,
        "style_masks": [],
        "style_scales": [],
        "labels": [],
        "hold": None,
        "palette": None,
    },
    "recipe": {"name": "painterly"},
    "size": [8, 6],
    "seed": 0,
    "weights": "embedded",
    "weights_sha256": "0",
    "status": "done",
}
"""A manifest of what is painted here."""

SLOW, FAILS, DIES = "1", "2", "3"
"""Seeds: paint until stopped, refuse, and crash."""


def paint(arguments):
    value = lambda flag: arguments[arguments.index(flag) + 1]
    out, seed = Path(value("-o")), value("--seed") if "--seed" in arguments else "0"
    if seed == FAILS:
        say("jaxnst: error: expected more, got less")
        return 2
    if seed == DIES:
        os.kill(os.getpid(), signal.SIGSEGV)
    if arguments[0] == "grid":
        return paint_variation(arguments, out)
    live = Path(value("--live-folder"))
    shutil.copy(arguments[1], live / "frame.jpg")
    line = {"scale": 0, "step": 1, "terms": {"style": [1.0]}, "frame": 1, "done": 0.5}
    (live / "lines.jsonl").write_text(json.dumps(line) + "\n")
    if seed == SLOW:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            shutil.copy(arguments[1], live / "so-far.png")
            Path(f"{out}.checkpoint.npz").write_bytes(b"state")
            return 130
    from PIL import Image

    Image.open(arguments[1]).resize((8, 6)).save(out)
    Path(f"{out}.json").write_text(json.dumps(MANIFEST))
    return 0


def paint_variation(arguments, folder):
    """The second one of a preview: the least content weight, strokes as chosen."""
    varied = dict(x.split("=") for x in arguments if "=" in x)
    recipe = json.loads(sys.argv[1])
    for name, number in (("content_weight", 0), ("style_scale", 1)):
        recipe[name] = float(varied[name].split(",")[number])
    shutil.copy(arguments[2], folder / "a.png")
    (folder / "a.png.json").write_text(json.dumps(MANIFEST | {"recipe": recipe}))
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
