"""Ctrl-C during the import of the command, which takes a second."""

import os
import signal
import sys
from pathlib import Path


def leave(*_: object) -> None:
    """End the process at once, without a traceback."""
    os._exit(130)


def leave_quietly() -> None:
    """Let Ctrl-C end the process silently, if the process is the command `jaxnst`."""
    name = Path(*sys.argv[:1]).name
    module = name == "-m" and "jaxnst" in sys.orig_argv
    ours = module or name in ("jaxnst", "jaxnst.exe")
    if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)


def raise_again() -> None:
    """Let Ctrl-C raise a KeyboardInterrupt again, if `leave_quietly` changed that."""
    if signal.getsignal(signal.SIGINT) is leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
