"""The process in which the studio paints: one command after the other, programs kept.

It reads a line of JSON for each command, its arguments, and answers with a line of its
own after what the command prints. A second picture of a size needs no compiling, and
nothing that goes wrong here reaches the server. Once standard input ends, the server is
gone: the command stops, as if it was interrupted, and keeps its state.
"""

import _thread
import contextlib
import json
import signal
import sys
import traceback
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from jaxnst.command.cli import main
from jaxnst.compiled import forget_programs
from jaxnst.studio.jobs import END

MANY = 20_000
"""Memory maps from which on compiled programs are freed. On a CPU, each program has
several, and Linux gives a process 65,530."""


def work() -> None:
    """Run the commands of standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # between two commands
    lines: SimpleQueue[str] = SimpleQueue()
    Thread(target=listen, args=(lines,), daemon=True).start()
    for line in iter(lines.get, ""):
        code = run(json.loads(line))
        print(f"{END}{code}", flush=True)
        if memory_maps() > MANY:
            forget_programs()


def listen(lines: SimpleQueue[str]) -> None:
    """Pass the lines of standard input on; at its end, stop the command."""
    for line in sys.stdin:
        lines.put(line)
    _thread.interrupt_main()
    lines.put("")


def run(arguments: list[str]) -> int:
    """Run a command as a terminal would; return its exit code."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return main(arguments)
    except SystemExit as error:  # of argparse
        return error.code if isinstance(error.code, int) else 2
    except KeyboardInterrupt:
        return 130
    except Exception:  # a mistake of ours; the studio shows its last line
        traceback.print_exc()
        return 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def memory_maps() -> int:
    """How many memory maps this process has; 0 where the system does not tell."""
    with contextlib.suppress(OSError):
        return Path("/proc/self/maps").read_bytes().count(b"\n")
    return 0


if __name__ == "__main__":
    work()
