"""`jaxnst stylize` paints one picture; with `--dry-run` it prints how it would."""

import argparse
import contextlib
import dataclasses
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxnst.command.describe import (
    compile_timer,
    describe_device,
    describe_result,
    first_line,
    make_manifest,
    write_manifest,
)
from jaxnst.command.flags import (
    Parser,
    add_face_flag,
    add_look_flags,
    add_machine_flags,
    add_mask_flags,
    add_memory_flag,
    add_pictures,
    add_recipe_flags,
    add_run_flags,
    add_start_flags,
    painting_from,
    positive,
    run_from,
)
from jaxnst.command.records import Records, check_records
from jaxnst.command.reporter import PictureReporter, complain, say
from jaxnst.command.watched import watched
from jaxnst.disk import check_regular, check_target, held, numbered
from jaxnst.live import LiveWriter
from jaxnst.messages import gigabytes
from jaxnst.network.vgg import Backbone
from jaxnst.painting.checkpoint import Checkpoint, load_checkpoint
from jaxnst.painting.inputs import load_content
from jaxnst.painting.memory import (
    largest_size,
    mask_bytes,
    process_bytes,
    usable_memory,
)
from jaxnst.painting.multiscale import Options, stylize
from jaxnst.painting.plan import Stage, Stages, plan_run
from jaxnst.painting.scene import Masks
from jaxnst.painting.stages import Progress, Result
from jaxnst.painting.timing import expected_seconds, remember_times, step_key
from jaxnst.pictures.files import has_alpha, load_image, output_format, save_image
from jaxnst.recipes import Recipe
from jaxnst.request.defaults import times_path
from jaxnst.request.faces import with_faces
from jaxnst.request.manifest import manifest_path
from jaxnst.request.painting import Painting
from jaxnst.request.read import check_painting, mask_count, read_masks, read_style
from jaxnst.request.run import Run
from jaxnst.tiles import plan_tiles, tile_mesh
from jaxnst.transfer import make_transfer
from jaxnst.weights import registry
from jaxnst.weights.format import sha256


def add_stylize_flags(p: Parser) -> None:
    """Add the flags of `stylize`, which `plan` takes too."""
    p.usage = "%(prog)s CONTENT STYLE … [-o FILE] [options]"
    add_pictures(p)
    add = p.add_argument
    add("-o", "--out", type=Path, metavar="FILE", help="default: CONTENT-STYLE.png")
    add_run_flags(p, size=None, quality="normal")
    add_look_flags(p)
    add("--resume", action="store_true", help="continue an interrupted run")
    add("--dry-run", action="store_true", help="show scales, memory and time; stop")
    add_mask_flags(p)
    add_face_flag(p)
    add_start_flags(p)
    add_recipe_flags(p)
    add = p.group("output")
    bits = "bits per channel of a PNG or TIFF (default: 8)"
    add("--bits", type=int, choices=(8, 16), default=8, help=bits)
    every = "keep a preview every N steps of each scale"
    add("--save-every", type=positive, metavar="N", help=every)
    film = "write an animation of how it was painted"
    add("--timelapse", type=Path, metavar="FILE.gif|webp|mp4", help=film)
    terms = "plot the terms of the loss (needs jaxnst[plot])"
    add("--plot", type=Path, metavar="FILE.png|svg", help=terms)
    trace = "write a line of numbers every few steps"
    add("--trace", type=Path, metavar="FILE.jsonl", help=trace)
    kept = "where an interrupted run keeps its state (default: beside the result)"
    add("--checkpoint", type=Path, metavar="FILE.npz", help=kept)
    watch = "show the run in a browser (needs jaxnst[studio])"
    add("--live", action="store_true", help=watch)
    add_machine_flags(p)
    add_memory_flag(p)


def stylize_command(args: argparse.Namespace) -> int:
    """Paint one picture; return the exit code."""
    painting = painting_from(args, args.content, args.style)
    usual = usual_path(painting) if args.out is None else None
    run = run_from(args, args.out or free_path(usual_path(painting)))
    if args.dry_run:
        return describe_run(painting, run)
    return paint(painting, run, usual=usual)


def plan_command(args: argparse.Namespace) -> int:
    """`stylize --dry-run` under another name."""
    args.dry_run = True
    return stylize_command(args)


def usual_path(painting: Painting) -> Path:
    """`CONTENT-STYLE.png` in the current folder."""
    styles = painting.styles or painting.all_styles[:1]
    stem = "-".join(x.stem for x in (painting.content, *(y.path for y in styles)))
    whole = os.fsencode(stem)[:100].decode(errors="ignore")  # no half of a character
    return Path(f"{os.fsdecode(whole.encode())}.png")


def free_path(path: Path) -> Path:
    """The path, numbered if it exists."""
    return next(x for x in numbered(path) if not x.exists())


def plan(
    painting: Painting, run: Run, tiles: Sequence[int | None] | None = None
) -> Stages:
    """The stages of a run, of tiles that were used before."""
    memory = usable_memory() if run.memory is None else run.memory
    shape, memory = painting.shape(), memory - masks_take(painting)
    return plan_run(shape, painting.recipe, memory, tiles=tiles)


def masks_take(painting: Painting) -> int:
    """Bytes that the masks of a painting take."""
    count = mask_count(painting) + has_alpha(painting.content)
    return mask_bytes(painting.shape(), painting.recipe, count)


def check(painting: Painting, run: Run) -> None:
    """Raise a ValueError if a painting cannot be made, whatever the memory."""
    inputs, shape = painting.paths, painting.shape()
    if painting.weights != "auto":
        inputs = [*inputs, registry.locate(painting.weights)]
    check_outputs(run, inputs)
    check_records(run)
    output_format(run.out, shape, bits=run.bits)
    for line in check_painting(painting, shape):
        complain(line)


def check_outputs(run: Run, inputs: Sequence[Path]) -> None:
    """Raise a ValueError unless all outputs can be written, and are no inputs."""
    for target in filter(None, (run.out, run.checkpoint, *run.records)):
        check_target(target)
        if target.resolve() in {path.resolve() for path in inputs}:
            raise ValueError(
                f"expected an output that is none of the inputs, got {target}"
            )
    beside = [manifest_path(run.out), run.checkpoint_path]
    for path in beside:
        check_regular(path)
    written = [x.resolve() for x in (run.out, *beside, *run.records)]
    for path in written:
        if written.count(path) > 1:
            raise ValueError(f"expected outputs of different names, got {path} twice")
    if run.checkpoint is not None and run.checkpoint.suffix != ".npz":
        raise ValueError(f"expected --checkpoint FILE.npz, got {run.checkpoint}")


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
        run: How.
        usual: Path of the output if none was asked for, before it was numbered; it is
            numbered again if another run has taken the number.
        tiles: Size of the tiles of each scale, if they were chosen before.

    Raises:
        ValueError: If it cannot be painted, or another run writes one of the outputs.
    """
    check(painting, run)
    painting = with_faces(painting)
    stages = plan(painting, run, tiles)
    with reserved(run, usual) as run, watched(run, painting.recipe) as live:
        return paint_shown(painting, run, stages, live)


@contextlib.contextmanager
def reserved(run: Run, usual: Path | None) -> Iterator[Run]:
    """A run whose outputs no other one may write until the end; see `paint`."""
    with contextlib.ExitStack() as stack:
        for path in filter(None, (run.checkpoint, *run.records)):
            if not stack.enter_context(held(path)):
                raise ValueError(in_use(path))
        for out in numbered(usual) if usual else [run.out]:
            with held(out) as ours:
                if ours and not (usual and out.exists()):
                    yield dataclasses.replace(run, out=out)
                    return
        raise ValueError(in_use(run.out))


def in_use(path: Path) -> str:
    """Message about an output that another run writes."""
    return (
        f"expected an output of this run alone, got {path}, which another run writes; "
        "wait for it, or choose another name"
    )


def paint_shown(
    painting: Painting, run: Run, stages: Stages, live: LiveWriter | None
) -> int:
    """Paint as `paint` does, and show the picture on the way."""
    if run.checkpoint_path.exists() and not run.resume:
        raise ValueError(
            f"expected --resume, since {run.checkpoint_path} holds an unfinished "
            "run; pass --resume or delete it"
        )
    name, reason = registry.choose(painting.weights, quiet=run.quiet)
    weights = registry.locate(name)
    backbone = registry.load_backbone(weights)
    painting = dataclasses.replace(painting, weights=name)
    found = make_manifest(painting, stages[-1].shape, sha256(weights))
    manifest, resume = found.beside(run.out), None
    if run.resume:
        transfer = make_transfer(painting.recipe.program)
        resume = load_checkpoint(run.checkpoint_path, transfer, found.identity)
        stages = plan(painting, run, resume.tiles)
        manifest["resumed"] = {"scale": resume.scale, "taken": resume.taken}
    about = found.inside() | {"tiles": [x.tile for x in stages]}
    faces = len(painting.faces or ())
    say(first_line(name, reason, faces), quiet=run.quiet)
    started = time.perf_counter()
    before = resume and resume.records
    records = Records(run, painting.recipe, stages[-1].shape, live, before)
    if resume is not None and run.timelapse is not None and not records.frames:
        complain(
            f"{run.timelapse} shows the rest of the run: it was begun without "
            "--timelapse"
        )
    given = run, painting.recipe, stages, found.identity, resume
    reporter = PictureReporter(*given, recorded=records.state)

    def on_chunk(progress: Progress) -> None:
        with reporter.tolerate_write_errors("record"):
            records(progress, last=reporter.interrupts.seen)
        reporter(progress)

    def on_wait(program: str, seconds: float) -> None:
        if live is not None:
            live.wait(program, seconds)
        reporter.wait(program, seconds)

    if live is not None:
        live.say(f"Compiling for {max(stages[-1].shape)} px, once for this size")
    with compile_timer() as compiling, reporter:
        hooks = {"stages": stages, "on_chunk": on_chunk, "on_wait": on_wait}
        hooks["chunk"] = run.save_every or (4 if run.timelapse else 50)
        result = stylize_files(painting, backbone, hooks, resume)
    seconds = time.perf_counter() - started
    manifest |= describe_result(result, seconds, math.fsum(x for _, x in compiling))
    save_result(run, result, manifest, about)
    records.finish(result.image[..., :3], reporter.tolerate_write_errors)
    key = step_key(describe_device(), painting.recipe.program)
    remember_times(times_path(), key, reporter.step_seconds)
    height, width = result.image.shape[:2]
    place = f"{run.out} ({width} x {height} px)"
    say(f"wrote {place} in {seconds:.0f} s", quiet=run.quiet)
    if result.status == "diverged":
        complain(
            f"error: a step was not finite; {run.out} is the last finite picture; "
            "lower --learning-rate or the loss weights"
        )
        return 3
    if stood_still(result):
        complain("the loss did not fall at the last scale; lower --learning-rate")
    return 0


def stood_still(result: Result) -> bool:
    """Whether no step of the last scale lowered the loss."""
    losses = result.infos[-1].loss if result.infos else []
    return len(losses) > 1 and bool(min(losses[1:]) >= losses[0])


def save_result(
    run: Run, result: Result, manifest: dict[str, Any], about: dict[str, Any]
) -> None:
    """Write a picture, what it carries and its manifest; forget the checkpoint."""
    try:
        text = json.dumps(about, allow_nan=False)
        save_image(run.out, result.image, bits=run.bits, description=text)
        write_manifest(manifest_path(run.out), manifest)
    except (OSError, ValueError) as error:
        raise OSError(f"{error}; {rescue(run, result)}") from error
    run.checkpoint_path.unlink(missing_ok=True)


def rescue(run: Run, result: Result) -> str:
    """Save a result where there is room, and say where."""
    folder = Path(tempfile.mkdtemp(prefix="jaxnst-"))
    try:
        save_image(folder / run.out.name, result.image, bits=run.bits)
    except OSError as error:
        return f"the picture is lost: {error}"
    return f"the picture is in {folder / run.out.name}"


def stylize_files(
    painting: Painting,
    backbone: Backbone,
    hooks: Mapping[str, Any],
    resume: Checkpoint | None,
) -> Result:
    """Read the pictures of a painting and paint it; hooks are of `Options`."""
    recipe = painting.recipe
    content, alpha = load_content(painting.content, painting.size, recipe)
    shape = content.shape
    styles = [read_style(style, shape, recipe) for style in painting.styles]
    masks = read_masks(painting, styles, alpha, shape)
    more = {"resume": resume, "throw": False, **hooks}
    options = read_options(painting, masks, max(shape), more)
    key, styles = jax.random.key(painting.seed), [] if painting.labels else styles
    result = stylize(backbone, content, styles, recipe, key=key, options=options)
    if alpha is None:
        return result
    return result._replace(image=jnp.concatenate([result.image, alpha], axis=-1))


def read_options(
    painting: Painting, masks: Masks, size: int, hooks: Mapping[str, Any]
) -> Options:
    """Options of a painting, with its start image, of that long edge, and its masks."""
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
    memory = usable_memory() if run.memory is None else run.memory
    peak = max(process_bytes(s.shape, recipe, s.tile) for s in stages)
    peak += masks_take(painting)
    print(
        f"{gigabytes(peak)} at its peak, of {gigabytes(memory)}; "
        f"the largest that fits: --size {largest_size(shape, recipe, memory)}"
    )
    key = step_key(describe_device(), recipe.program)
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
    how = "on the whole picture"
    if stage.tile is not None:
        layers = recipe.program.layers
        (high, wide), starts, _ = plan_tiles(stage.shape, layers, stage.tile)
        how = f"in {len(starts)} tile{'s' * (len(starts) > 1)} of {wide} x {high}"
    then = ", then repainted" if recipe.look.repaint else ""
    return f"{f'{width} x {height} px':<18} {stage.steps:>5} steps {how}{then}"
