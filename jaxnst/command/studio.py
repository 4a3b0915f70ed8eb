"""`jaxnst studio`: choose, watch and compare in the browser."""

import argparse
import contextlib
import signal
import sys
import webbrowser
from pathlib import Path

from jaxnst.checks import check_installed
from jaxnst.command.flags import WEIGHTS, Parser, folder, whole
from jaxnst.command.reporter import say
from jaxnst.disk import check_folder, held
from jaxnst.weights import registry


def add_flags(p: Parser) -> None:
    """Add the flags of `studio`."""
    p.set_defaults(call=studio_command)
    add = p.add_argument
    where = "folder of the results and their inputs"
    studio = {"type": folder, "default": Path("studio")}
    add("--folder", help=f"{where} (default: studio)", **studio)
    host = "address to listen on; 0.0.0.0 lets in other machines"
    add("--host", default="127.0.0.1", help=f"{host} (default: 127.0.0.1)")
    port = whole(1, 65535)
    add("--port", type=port, default=0, metavar="N", help="default: a free one")
    add("--weights", metavar="NAME|FILE", help=WEIGHTS)
    add("--open", action="store_true", help="open the page in the browser")


def studio_command(args: argparse.Namespace) -> int:
    """Serve the studio until it is interrupted; return the exit code."""
    check_installed("uvicorn", "jaxnst studio", "studio")
    check_folder(args.folder)
    if args.weights is not None:
        registry.locate(args.weights)
    from jaxnst.studio.guard import LOOPBACK, Access
    from jaxnst.studio.jobs import Worker
    from jaxnst.studio.serve import Server, listen
    from jaxnst.studio.server import Studio

    with listen(args.host, args.port) as listener, held(args.folder / "studio") as ours:
        if not ours:
            raise ValueError(
                f"another studio serves {args.folder}; open that studio, or choose "
                "another --folder"
            )
        if args.host not in LOOPBACK:
            say("other machines can reach this page; anyone with its address can paint")
        access = Access(args.host, listener.getsockname()[1])
        say(f"open {access.address}\nresults go to {args.folder}; Ctrl-C ends it")
        again = "opened; for another browser, open"
        access.on_use = lambda: say(f"{again} {access.address}")
        if args.open:
            webbrowser.open(access.address)
        # A closed terminal sends it; nohup ignores it.
        hangup = getattr(signal, "SIGHUP", None)
        if hangup and signal.getsignal(hangup) is not signal.SIG_IGN:
            end = lambda *_: signal.raise_signal(signal.SIGTERM)
            signal.signal(hangup, end)
        with contextlib.suppress(KeyboardInterrupt):
            worker = Worker((sys.executable, "-m", "jaxnst.command.worker"))
            studio = Studio(args.folder, worker, args.weights)
            server = Server(studio.app(access), studio.leave)
            server.run(sockets=[listener])
    say(f"ended; the results are in {args.folder}")
    return 0
