"""`jaxnst stylize --live`: a page that shows a run, and nothing else."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jaxnst.checks import check_installed
from jaxnst.command.reporter import say
from jaxnst.live import LiveWriter
from jaxnst.recipes import Recipe
from jaxnst.request.run import Run


def check_studio(flag: str) -> None:
    """Raise a ValueError unless the extra `studio` is installed."""
    for module in ("starlette", "uvicorn"):
        check_installed(module, f"for {flag}", "studio")


@contextlib.contextmanager
def watched(run: Run, recipe: Recipe) -> Iterator[LiveWriter | None]:
    """What shows a run, if that was asked for; the page is served until the end."""
    if run.live_folder is not None:
        yield LiveWriter(run.live_folder, recipe)
        return
    if not run.live:
        yield None
        return
    check_studio("--live")
    from jaxnst.studio.watch import served

    with tempfile.TemporaryDirectory(prefix="jaxnst-live-") as name:
        writer = LiveWriter(Path(name), recipe)
        told: list[str] = []

        def tell(address: str) -> None:
            say(f"live view {'for another browser ' * bool(told)}at {address}")
            told.append(address)

        with served(writer.folder, title=run.out.name, tell=tell):
            yield writer
