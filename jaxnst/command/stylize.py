"""`jaxnst stylize` paints one picture, or prints the plan of a `--dry-run`."""

import argparse
import contextlib
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NoReturn

import jax
import jax.numpy as jnp

from jaxnst import disk
from jaxnst.checks import check_installed
from jaxnst.command import describe, flags
from jaxnst.command.mask import with_parts
from jaxnst.command.records import check_records
from jaxnst.command.reporter import PictureReporter, complain, say
from jaxnst.foreign import write_json
from jaxnst.live import LiveWriter
from jaxnst.messages import gigabytes, with_hint
from jaxnst.network.vgg import Backbone
from jaxnst.painting.checkpoint import load_checkpoint
from jaxnst.painting.memory import largest_size, mask_bytes, process_bytes
from jaxnst.painting.multiscale import Options, stylize
from jaxnst.painting.plan import Stage, Stages, plan_run
from jaxnst.painting.scene import Masks
from jaxnst.painting.stages import Result
from jaxnst.painting.timing import expected_seconds, remember_times, step_key
from jaxnst.pictures.files import (
    has_alpha,
    image_shape,
    is_picture,
    load_cutout,
    load_image,
    output_format,
    save_image,
)
from jaxnst.recipes import Recipe
from jaxnst.request import read
from jaxnst.request.defaults import times_path
from jaxnst.request.faces import with_faces
from jaxnst.request.manifest import Manifest, manifest_path
from jaxnst.request.painting import Painting, Run
from jaxnst.request.terminal import flag_of
from jaxnst.tiles import plan_tiles, tile_mesh
from jaxnst.transfer import make_transfer
from jaxnst.weights import registry


def add_flags(p: flags.Parser) -> None:
    """Add the flags of `stylize`, which `plan` takes too."""
    p.usage = "%(prog)s CONTENT STYLE … [-o FILE] [options]"
    p.set_defaults(call=stylize_command)
    flags.add_pictures(p)
    add = p.add_argument
    file = "file to write (default: CONTENT-STYLE.png)"
    add("-o", "--out", type=Path, metavar="FILE", help=file)
    flags.add_run_flags(p, size=None, quality="normal")
    flags.add_look_flags(p)
    add("--resume", action="store_true", help="continue an interrupted run")
    shown = "show the steps, memory and time that painting needs, and stop"
    add("--dry-run", action="store_true", help=shown)
    drop = "paint each photo that is put into FOLDER; give styles, but no CONTENT"
    add("--watch", type=Path, metavar="FOLDER", help=drop)
    flags.add_mask_flags(p)
    flags.add_recipe_flags(p)
    add = p.add_argument_group("output").add_argument
    bits = "bits per channel of a PNG or TIFF (default: 8)"
    add("--bits", type=int, choices=(8, 16), default=8, help=bits)
    every = "save a preview every N steps of each size"
    add("--save-every", type=flags.positive, metavar="N", help=every)
    film = "save an animation of how it was painted"
    add("--timelapse", type=Path, metavar="FILE.gif|webp|mp4", help=film)
    terms = "plot the loss over the steps (needs jaxnst[plot])"
    add("--plot", type=Path, metavar="FILE.png|svg", help=terms)
    trace = "save the loss, time and memory every few steps"
    add("--trace", type=Path, metavar="FILE.jsonl", help=trace)
    kept = "where to save an interrupted run (default: next to the result)"
    add("--checkpoint", type=Path, metavar="FILE.npz", help=kept)
    watch = "show the run in a browser (needs jaxnst[studio])"
    add("--live", action="store_true", help=watch)
    flags.add_machine_flags(p, memory=True)


def add_plan_flags(p: flags.Parser) -> None:
    """Add the flags of `plan`: `stylize --dry-run` under another name."""
    add_flags(p)
    p.set_defaults(dry_run=True)


def stylize_command(args: argparse.Namespace) -> int:
    """Paint one picture, or those of a folder; return the exit code."""
    if args.watch is not None:
        paint_folder(args)
    painting = flags.painting_from(args, args.content, args.style)
    usual = usual_path(painting)
    run = flags.run_from(args, args.out or disk.free_path(usual))
    if args.dry_run:
        with tempfile.TemporaryDirectory() as folder:
            (painting,) = with_parts([painting], quiet=True, folder=Path(folder))
            return describe_run(painting, run)
    return paint(painting, run, usual=None if args.out else usual)


LOOK = 1.0
"""Seconds between two looks at the folder. A file that changes in between is still
being written."""

OF_ONE_PICTURE = ("trace", "plot", "timelapse", "checkpoint", "live", "dry_run")
"""Flags that only work with one picture."""


def paint_folder(args: argparse.Namespace) -> NoReturn:
    """Paint each photograph that is put into a folder, until it is interrupted.

    Results in the output folder are not painted again, so a second call continues where
    the first one stopped.
    """
    folder, styles = args.watch, [args.content, *args.style]
    for name in OF_ONE_PICTURE:
        if getattr(args, name):
            raise ValueError(f"--watch paints many pictures; leave {flag_of(name)} out")
    if not folder.is_dir():
        raise ValueError(f"expected a folder at {folder}; make it, or check the path")
    out = args.out or Path("painted")
    if out.is_file():
        raise ValueError(f"{out} is a file; choose a folder with --out")
    disk.check_folder(out.parent)
    if out.resolve() == folder.resolve():
        raise ValueError(f"{out} has the photographs; choose another one with --out")
    for style in flags.painting_from(args, args.content, styles).all_styles:
        image_shape(style.path)  # fail now if a style cannot be read
    out.mkdir(exist_ok=True)
    say(f"watching {folder}; results go to {out}; Ctrl-C ends it", quiet=args.quiet)
    before: dict[Path, tuple[int, int]] = {}
    tried: dict[Path, tuple[int, int]] = {}
    stamp_of = lambda about: (about.st_size, about.st_mtime_ns)
    while True:
        now = {x: stamp_of(x.stat()) for x in pictures_in(folder)}
        for path, stamp in now.items():
            result = out / f"{path.stem}.png"
            ready = before.get(path) == stamp != tried.get(path)
            if not ready or result.exists():
                continue
            tried[path] = stamp
            try:
                painting = flags.painting_from(args, path, styles)
                run = flags.run_from(args, result)
                run = replace(run, resume=run.checkpoint_path.exists())
                paint(painting, run)
            except (OSError, ValueError) as error:
                complain(f"error: {path} is left out: {with_hint(str(error))}")
        before = now
        time.sleep(LOOK)


def pictures_in(folder: Path) -> list[Path]:
    """The pictures in a folder, without subfolders, sorted."""
    files = (x for x in folder.iterdir() if x.name[0] != "." and x.is_file())
    return sorted(filter(is_picture, files))


def usual_path(painting: Painting) -> Path:
    """`CONTENT-STYLE.png` in the current folder."""
    styles = painting.styles or painting.all_styles[:1]
    stem = "-".join(x.stem for x in (painting.content, *(y.path for y in styles)))
    whole = os.fsencode(stem)[:100].decode(errors="ignore")  # drop a cut character
    return Path(f"{os.fsdecode(whole.encode())}.png")


def plan(
    painting: Painting, run: Run, tiles: Sequence[int | None] | None = None
) -> Stages:
    """The stages of a run; `tiles` are those of an earlier run, by scale."""
    memory = run.usable_memory - masks_take(painting)
    return plan_run(painting.shape(), painting.recipe, memory, tiles=tiles)


def masks_take(painting: Painting) -> int:
    """Bytes that the masks of a painting take."""
    count = read.mask_count(painting) + has_alpha(painting.content)
    return mask_bytes(painting.shape(), painting.recipe, count)


def check(painting: Painting, run: Run) -> None:
    """Raise a ValueError if a painting cannot be made, except for lack of memory."""
    shape = painting.shape()
    for path in run.outputs:
        disk.check_target(path)
    check_inputs_stay(run.outputs, painting)
    written = [run.out, manifest_path(run.out), run.checkpoint_path, *run.records]
    for path in written:
        disk.check_regular(path)
        if [x.resolve() for x in written].count(path.resolve()) > 1:
            raise ValueError(f"two outputs are {path}; give them different names")
    if run.checkpoint is not None and run.checkpoint.suffix != ".npz":
        raise ValueError(f"--checkpoint {run.checkpoint} is no .npz; add that ending")
    check_records(run)
    if not painting.recipe.paints and (run.plot or run.trace or run.save_every):
        complain("no steps are taken, so there is nothing to plot, trace or preview")
    output_format(run.out, shape, bits=run.bits)
    for line in read.check_painting(painting, shape):
        complain(line)


def check_inputs_stay(outputs: Sequence[Path], painting: Painting) -> None:
    """Raise a ValueError if an output is an input, or the network does not exist."""
    inputs = painting.paths
    if painting.weights is not None:
        inputs = [*inputs, registry.locate(painting.weights)]
    for path in outputs:
        if path.resolve() in {x.resolve() for x in inputs}:
            raise ValueError(f"the output {path} is an input, too; choose another name")


def with_networks(paintings: Sequence[Painting], *, quiet: bool) -> list[Painting]:
    """Find the faces and networks of paintings; print them and the device."""
    found = list(map(with_faces, paintings))
    faces = len({(x.content, box) for x in found for box in x.faces or ()})
    asked = dict.fromkeys((x.weights, x.recipe.network) for x in found)
    chosen = {each: registry.choose(*each, quiet=quiet) for each in asked}
    networks = ", ".join(f"{name} ({reason})" for name, reason in chosen.values())
    unused = describe.unused_gpu()
    device = describe.describe_device() + (f"; {unused}" if unused else "")
    held = f"; {faces} face{'s' * (faces > 1)} preserved (--no-faces)" if faces else ""
    say(f"device {device}; weights {networks}{held}", quiet=quiet)
    of = lambda x: chosen[x.weights, x.recipe.network][0]
    return [replace(x, weights=of(x)) for x in found]


def paint(
    painting: Painting,
    run: Run,
    *,
    usual: Path | None = None,
    tiles: Sequence[int | None] | None = None,
) -> int:
    """Paint a picture and write it with its manifest; return the exit code.

    Args:
        painting: What to paint.
        run: How to paint it.
        usual: Default path of the output, without a number; None if the user chose the
            output. If another run has taken this path, the next free number is used.
        tiles: Size of the tiles of each scale, to paint as an earlier run did.
    """
    (painting,) = with_parts([painting], quiet=run.quiet)
    check(painting, run)
    painting = with_faces(painting)
    stages = plan(painting, run, tiles)
    with reserved(run, usual) as run, watched(run) as live:
        return paint_shown(painting, run, stages, live)


@contextlib.contextmanager
def reserved(run: Run, usual: Path | None = None) -> Iterator[Run]:
    """Reserve the outputs of a run against other runs; `usual` is as in `paint`."""
    with contextlib.ExitStack() as stack:
        for path in run.outputs[1:]:
            stack.enter_context(reserved_path(path))
        for out in disk.numbered(usual) if usual else ():
            with disk.held(out) as ours:
                if ours and not out.exists():
                    yield replace(run, out=out)
                    return
        with reserved_path(run.out):
            yield run


@contextlib.contextmanager
def reserved_path(path: Path) -> Iterator[None]:
    """Reserve an output against other runs; a ValueError if another run has it."""
    with disk.held(path) as ours:
        if not ours:
            raise ValueError(
                f"another run is writing {path}; wait for it, or choose another name"
            )
        yield


@contextlib.contextmanager
def watched(run: Run) -> Iterator[LiveWriter]:
    """A writer that shows a run; with `--live`, its page is served until the end."""
    if not run.live:
        yield LiveWriter(run.live_folder)
        return
    check_installed("uvicorn", "--live", "studio")
    from jaxnst.studio.watch import served

    with tempfile.TemporaryDirectory(prefix="jaxnst-live-") as name:
        folder = Path(name)
        told: list[str] = []

        def tell(address: str) -> None:
            say(f"live view {'for another browser ' * bool(told)}at {address}")
            told.append(address)

        with served(folder, title=run.out.name, tell=tell):
            yield LiveWriter(folder)


def paint_shown(painting: Painting, run: Run, stages: Stages, live: LiveWriter) -> int:
    """Paint as `paint` does, and show the picture on the way."""
    if run.checkpoint_path.exists() and not run.resume:
        raise ValueError(
            f"{run.checkpoint_path} holds an unfinished run; pass --resume or delete it"
        )
    (painting,) = with_networks([painting], quiet=run.quiet)
    backbone = registry.load_backbone(painting.network)
    manifest, resume, found = describe.make_manifest(painting), None, {}
    if run.resume:
        transfer = make_transfer(painting.recipe.program)
        resume = load_checkpoint(run.checkpoint_path, transfer, manifest.identity)
        stages = plan(painting, run, resume.tiles)
        found = {"resumed": {"scale": resume.scale, "taken": resume.taken}}
    started = time.perf_counter()
    given = run, painting.recipe, stages, manifest.identity, resume
    reporter = PictureReporter(*given, live)
    live.say(first_words(painting.recipe, stages[-1].shape))
    with describe.compile_timer() as compiling, reporter:
        hooks = {"stages": stages, "on_chunk": reporter, "on_wait": reporter.wait}
        hooks |= {"chunk": run.save_every or (4 if run.timelapse else 50)}
        hooks |= {"resume": resume, "throw": False}
        result = stylize_files(painting, backbone, hooks)
    seconds = time.perf_counter() - started
    spent = seconds, math.fsum(x for _, x in compiling)
    found |= describe.describe_result(result, *spent)
    save_result(run.out, result, manifest, found, bits=run.bits)
    run.checkpoint_path.unlink(missing_ok=True)
    reporter.finish(result.image[..., :3])
    key = step_key(describe.describe_device(), painting.recipe.program)
    remember_times(times_path(), key, reporter.records.step_seconds)
    height, width = result.image.shape[:2]
    place = f"{run.out} ({width} x {height} px)"
    say(f"wrote {place} in {seconds:.0f} s", quiet=run.quiet)
    if result.status == "diverged":
        complain(
            f"error: the run diverged; {run.out} is the last finite picture; "
            "lower --learning-rate or the loss weights"
        )
        return 3
    losses = result.infos[-1].loss if result.infos else []
    if len(losses) > 1 and min(losses[1:]) >= losses[0]:
        complain("the loss did not fall at the last scale; lower --learning-rate")
    return 0


def first_words(recipe: Recipe, shape: tuple[int, int]) -> str:
    """The progress text that is shown before the first step."""
    if not recipe.paints:
        return "Changing the colours"
    return f"Compiling for {max(shape)} px, once for this size"


def save_result(
    out: Path,
    result: Result,
    manifest: Manifest,
    found: dict[str, Any],
    *,
    bits: Literal[8, 16] = 8,
) -> None:
    """Write a picture with its manifest inside, and a manifest with `found` beside it.

    If this fails, the picture is written to a temporary folder that the OSError names.
    """
    about = json.dumps(manifest.inside() | {"tiles": found["tiles"]})
    try:
        # The manifest comes first, so that every picture on disk has one.
        write_json(manifest_path(out), manifest.beside(out) | found)
        save_image(out, result.image, bits=bits, description=about)
    except (OSError, ValueError) as error:
        rescued = Path(tempfile.mkdtemp(prefix="jaxnst-")) / out.name
        kept = f"the picture is in {rescued}"
        try:
            save_image(rescued, result.image, bits=bits)
        except OSError as another:
            kept = f"the picture is lost: {another}"
        raise OSError(f"{error}; {kept}") from error


def stylize_files(
    painting: Painting, backbone: Backbone, hooks: Mapping[str, Any]
) -> Result:
    """Read the pictures of a painting and paint it; `hooks` are fields of `Options`."""
    recipe, size = painting.recipe, max(painting.shape())
    content, alpha = load_cutout(painting.content, size=size, enlarge=True)
    shape = content.shape
    styles = [read.read_style(style, shape, recipe) for style in painting.styles]
    masks = read.read_masks(painting, styles, alpha, shape)
    options = read_options(painting, masks, max(shape), hooks)
    key, styles = jax.random.key(painting.seed), [] if painting.labels else styles
    result = stylize(backbone, content, styles, recipe, key=key, options=options)
    return result._replace(image=read.with_alpha(result.image, alpha))


def read_options(
    painting: Painting, masks: Masks, size: int, hooks: Mapping[str, Any]
) -> Options:
    """Options of a painting: its blend, its masks, and its start image at this size."""
    start = painting.start
    return Options(
        blend=None if painting.blend is None else jnp.array(painting.blend),
        masks=masks,
        init=None if start is None else load_image(start, size=size),
        mesh=tile_mesh(),
        **hooks,
    )


def describe_run(painting: Painting, run: Run) -> int:
    """Print how a picture would be painted: its scales, memory and time."""
    check(painting, run)
    painting = with_faces(painting)
    stages, recipe, shape = plan(painting, run), painting.recipe, painting.shape()
    for stage in stages:
        print(describe_stage(stage, recipe))
    memory = run.usable_memory
    peak = max(process_bytes(s.shape, recipe, s.tile) for s in stages)
    peak += masks_take(painting)
    print(
        f"memory: {gigabytes(peak)} at its peak, of {gigabytes(memory)}; "
        f"the largest that fits: --size {largest_size(shape, recipe, memory)}"
    )
    if not recipe.paints:
        return 0
    key = step_key(describe.describe_device(), recipe.program)
    seconds = expected_seconds(times_path(), key, stages)
    print(
        "time unknown: this machine has timed no such steps yet"
        if seconds is None
        else f"about {seconds:.0f} s of steps, from earlier runs on this machine, "
        "plus the time to compile"
    )
    return 0


def describe_stage(stage: Stage, recipe: Recipe) -> str:
    """A stage in one line."""
    height, width = stage.shape
    if not recipe.paints:
        return f"{f'{width} x {height} px':<18} new colours, no steps"
    how = "on the whole picture"
    if stage.tile is not None:
        layers = recipe.program.layers
        (high, wide), starts, _ = plan_tiles(stage.shape, layers, stage.tile)
        how = f"in {len(starts)} tile{'s' * (len(starts) > 1)} of {wide} x {high}"
    then = ", then patches" if recipe.look.repaint else ""
    if not stage.steps:
        return f"{f'{width} x {height} px':<18} patches, no steps"
    return f"{f'{width} x {height} px':<18} {stage.steps:>5} steps {how}{then}"
