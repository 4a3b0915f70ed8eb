"""`jaxnst stylize` paints one picture; `jaxnst plan` prints how it would."""

import argparse
import contextlib
import dataclasses
import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxnst.command.defaults import times_path
from jaxnst.command.flags import (
    Files,
    add_mask_flags,
    add_recipe_flags,
    add_run_flags,
    byte_count,
    numbers,
    one_file,
    one_name,
    positive,
    recipe_from,
    same_names,
)
from jaxnst.command.live import watched
from jaxnst.command.manifest import (
    SAME,
    compile_timer,
    describe_device,
    describe_result,
    description,
    first_line,
    make_manifest,
    manifest_path,
    write_manifest,
)
from jaxnst.command.masks import check_masks, mask_files, read_masks, read_style
from jaxnst.command.records import Records, check_records
from jaxnst.command.reporter import PictureReporter, complain, say
from jaxnst.command.request import STARTS, StylizeRequest
from jaxnst.disk import check_regular, check_target, held, numbered
from jaxnst.messages import gigabytes
from jaxnst.network.vgg import Backbone
from jaxnst.objective import check_blend
from jaxnst.painting.checkpoint import Checkpoint, load_checkpoint
from jaxnst.painting.inputs import load_content
from jaxnst.painting.memory import (
    largest_size,
    mask_bytes,
    process_bytes,
    usable_memory,
)
from jaxnst.painting.multiscale import Options, stylize
from jaxnst.painting.plan import Stage, plan_run
from jaxnst.painting.scales import content_size, style_shape
from jaxnst.painting.stages import Progress, Result
from jaxnst.painting.timing import expected_seconds, remember_times, step_key
from jaxnst.pictures.files import (
    has_alpha,
    image_shape,
    load_image,
    output_format,
    save_image,
)
from jaxnst.pictures.geometry import fit_shape
from jaxnst.recipes import Recipe
from jaxnst.studio.live import LiveWriter
from jaxnst.tiles import plan_tiles, tile_mesh
from jaxnst.transfer import make_transfer
from jaxnst.weights import registry
from jaxnst.weights.format import sha256


def add_stylize_flags(p: argparse.ArgumentParser) -> None:
    """Add the flags of `stylize`, which `plan` takes too."""
    add = p.add_argument
    add("content", type=one_file, help="the photograph")
    styles = "one or more pictures that give the style; none if regions have them all"
    add("style", type=Path, nargs="*", action=Files, help=styles)
    add("-o", "--out", type=Path, help="default: CONTENT-STYLE.png here")
    add_run_flags(p, size=None, quality="normal")
    add("--blend", type=numbers, help="a weight for each style: W,W,…")
    start = "start image: content, noise, style or a file, whose middle is used"
    add("--init", type=one_name, help=start)
    every = "keep a preview at every N steps of each scale"
    add("--save-every", type=positive, metavar="N", help=every)
    kept = "where a long run keeps its state until it is done (default: beside OUT)"
    add("--checkpoint", type=Path, metavar="FILE.npz", help=kept)
    bits = "bits per channel of a PNG or TIFF"
    add("--bits", type=int, choices=(8, 16), default=8, help=bits)
    add("--trace", type=Path, metavar="FILE.jsonl", help="a line for each few steps")
    terms = "plot the terms of the loss (needs jaxnst[plot])"
    add("--plot", type=Path, metavar="FILE.png|svg", help=terms)
    film = "an animated picture of how it was painted"
    add("--timelapse", type=Path, metavar="FILE.gif|webp|mp4", help=film)
    watch = "show the run on a page of this machine (needs jaxnst[studio])"
    add("--live", action="store_true", help=watch)
    add("--live-folder", type=Path, help=argparse.SUPPRESS)  # the studio reads it
    memory = "memory to use; tiles make larger pictures fit (default: what is free)"
    add("--memory", type=byte_count, metavar="8GB", help=memory)
    add_recipe_flags(p)
    add_mask_flags(p)
    add("--resume", action="store_true", help="continue from the checkpoint")


def stylize_request(args: argparse.Namespace) -> StylizeRequest:
    """What the flags ask for, checked."""
    recipe, masks = recipe_from(args), mask_files(args)
    styles = args.style or masks.paths[1:2]
    if args.init in STARTS:
        recipe = recipe.replace(init=args.init)
    native = image_shape(args.content)
    changes = {
        "styles": tuple(args.style),
        "masks": masks,
        "out": args.out or free_path(usual_path(args.content, styles)),
        "recipe": recipe,
        "shape": fit_shape(native, args.size or content_size(native, recipe)),
        "blend": None if args.blend is None else tuple(args.blend),
        "memory": usable_memory() if args.memory is None else args.memory,
    }
    request = StylizeRequest(**same_names(StylizeRequest, args) | changes)
    check_request(request)
    return planned(request)


def planned(
    request: StylizeRequest, tiles: list[int | None] | None = None
) -> StylizeRequest:
    """A request with the stages of its run, of tiles that were used before."""
    count = mask_count(request)
    memory = request.memory - mask_bytes(request.shape, request.recipe, count)
    stages = plan_run(request.shape, request.recipe, memory, tiles=tiles)
    return dataclasses.replace(request, stages=stages)


def mask_count(request: StylizeRequest) -> int:
    """How many masks a run keeps: of regions, the rest, the content, and alpha."""
    masks = request.masks
    regions = len(masks.regions) + bool(masks.regions) + 4 * bool(masks.labels)
    return regions + (masks.hold is not None) + has_alpha(request.content)


def check_request(request: StylizeRequest) -> None:
    """Raise a ValueError if a request cannot be met, whatever the memory."""
    inputs = request.pictures
    if request.init_path is not None:
        if not request.init_path.exists():
            raise ValueError(
                f"expected --init {', '.join(STARTS)} or a file, got {request.init!r}, "
                "where nothing is"
            )
        image_shape(request.init_path)
    if request.weights != "auto":
        inputs.append(registry.locate(request.weights))
    for target in filter(None, (request.out, request.checkpoint, *request.records)):
        check_target(target)
        if target.resolve() in {path.resolve() for path in inputs}:
            raise ValueError(
                f"expected an output that is none of the inputs, got {target}"
            )
    beside = [manifest_path(request.out), request.checkpoint_path]
    for path in beside:
        check_regular(path)
    written = [x.resolve() for x in (request.out, *beside, *request.records)]
    for path in written:
        if written.count(path) > 1:
            raise ValueError(f"expected outputs of different names, got {path} twice")
    if request.checkpoint is not None and request.checkpoint.suffix != ".npz":
        raise ValueError(f"expected --checkpoint FILE.npz, got {request.checkpoint}")
    if request.blend is not None:
        check_blend(request.blend, len(request.styles))
    check_records(request)
    check_masks(request.masks, request.styles)
    output_format(request.out, request.shape, bits=request.bits)
    for path in request.all_styles:
        style_shape(image_shape(path), request.shape, request.recipe)


def usual_path(content: Path, styles: Sequence[Path]) -> Path:
    """`CONTENT-STYLE.png` in the current folder."""
    stem = "-".join(path.stem for path in (content, *styles))
    whole = os.fsencode(stem)[:100].decode(errors="ignore")  # no half of a character
    return Path(f"{os.fsdecode(whole.encode())}.png")


def free_path(path: Path) -> Path:
    """The path, numbered if it exists."""
    return next(x for x in numbered(path) if not x.exists())


def stylize_command(args: argparse.Namespace) -> int:
    """Paint one picture; return the exit code."""
    request = stylize_request(args)
    if args.out is not None:
        return paint(request)
    styles = request.styles or request.masks.paths[1:2]
    return paint(request, usual=usual_path(request.content, styles))


def paint(request: StylizeRequest, *, usual: Path | None = None) -> int:
    """Paint a picture and write it with its manifest; return the exit code.

    Args:
        request: What to paint.
        usual: Path of the output if none was asked for, before it was numbered; it is
            numbered again if another run has taken the number.

    Raises:
        ValueError: If another run writes one of the outputs.
    """
    with reserved(request, usual) as request, watched(request) as live:
        return paint_shown(request, live)


@contextlib.contextmanager
def reserved(request: StylizeRequest, usual: Path | None) -> Iterator[StylizeRequest]:
    """A request whose outputs no other run may write until the end; see `paint`."""
    with contextlib.ExitStack() as stack:
        others = [request.checkpoint, *request.records]
        for path in filter(None, others):
            if not stack.enter_context(held(path)):
                raise ValueError(in_use(path))
        for out in numbered(usual) if usual else [request.out]:
            with held(out) as ours:
                if ours and not (usual and out.exists()):
                    yield dataclasses.replace(request, out=out)
                    return
        raise ValueError(in_use(request.out))


def in_use(path: Path) -> str:
    """Message about an output that another run writes."""
    return (
        f"expected an output of this run alone, got {path}, which another run writes; "
        "wait for it, or choose another name"
    )


def paint_shown(request: StylizeRequest, live: LiveWriter | None) -> int:
    """Paint as `paint` does, and show the picture on the way."""
    if request.checkpoint_path.exists() and not request.resume:
        raise ValueError(
            f"expected --resume, since {request.checkpoint_path} holds an unfinished "
            "run; pass --resume or delete it"
        )
    name, reason = registry.choose(request.weights, quiet=request.quiet)
    weights = registry.locate(name)
    backbone = registry.load_backbone(weights)
    request = dataclasses.replace(request, weights=name)
    hashes = {path: sha256(path) for path in request.pictures}
    manifest = make_manifest(request, sha256(weights), hashes)
    inputs = {key: manifest[key] for key in SAME}
    resume = None
    if request.resume:
        transfer = make_transfer(request.recipe.program)
        resume = load_checkpoint(request.checkpoint_path, transfer, inputs)
        request = planned(request, resume.tiles)
    about = description(manifest | {"tiles": [x.tile for x in request.stages]})
    if resume is not None:
        manifest["resumed"] = {"scale": resume.scale, "taken": resume.taken}
    say(first_line(name, reason), quiet=request.quiet)
    started = time.perf_counter()
    records = Records(request, live, resume and resume.records)
    if resume is not None and request.timelapse is not None and not records.frames:
        complain(
            f"{request.timelapse} shows the rest of the run: it was begun without "
            "--timelapse"
        )
    reporter = PictureReporter(request, inputs, resume, records.state)

    def on_chunk(progress: Progress) -> None:
        with reporter.forgiven("record"):
            records(progress, last=reporter.interrupted)
        reporter(progress)

    def on_wait(program: str, seconds: float) -> None:
        if live is not None:
            live.wait(program, seconds)
        reporter.wait(program, seconds)

    if live is not None:
        live.say(f"Compiling for {max(request.shape)} px, once for this size")
    with compile_timer() as compiling, reporter:
        hooks = {"on_chunk": on_chunk, "on_wait": on_wait}
        result = run_request(request, backbone, hooks, resume)
    seconds = time.perf_counter() - started
    manifest |= describe_result(result, seconds, math.fsum(x for _, x in compiling))
    save_result(request, result, manifest, about)
    records.finish(result.image[..., :3], reporter.forgiven)
    key = step_key(describe_device(), request.recipe.program)
    remember_times(times_path(), key, reporter.step_seconds)
    height, width = result.image.shape[:2]
    place = f"{request.out} ({width} x {height} px)"
    say(f"wrote {place} in {seconds:.0f} s", quiet=request.quiet)
    if result.status == "diverged":
        complain(
            f"error: a step was not finite; {request.out} is the last finite picture; "
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
    request: StylizeRequest, result: Result, manifest: dict[str, Any], about: str
) -> None:
    """Write a picture, what it carries and its manifest; forget the checkpoint."""
    try:
        bits = request.bits
        save_image(request.out, result.image, bits=bits, description=about)
        write_manifest(manifest_path(request.out), manifest)
    except (OSError, ValueError) as error:
        raise OSError(f"{error}; {rescue(request, result)}") from error
    request.checkpoint_path.unlink(missing_ok=True)


def rescue(request: StylizeRequest, result: Result) -> str:
    """Save a result where there is room, and say where."""
    folder = Path(tempfile.mkdtemp(prefix="jaxnst-"))
    try:
        save_image(folder / request.out.name, result.image, bits=request.bits)
    except OSError as error:
        return f"the picture is lost: {error}"
    return f"the picture is in {folder / request.out.name}"


def run_request(
    request: StylizeRequest,
    backbone: Backbone,
    hooks: Mapping[str, Any],
    resume: Checkpoint | None,
) -> Result:
    """Read the pictures of a request and paint it; hooks are of `Options`."""
    recipe, start = request.recipe, request.init_path
    content, alpha = load_content(request.content, request.size, recipe)
    shape, files = content.shape, request.masks
    styles = [read_style(path, files, shape, recipe) for path in request.styles]
    masks = read_masks(files, styles, alpha, shape, recipe)
    options = Options(
        blend=None if request.blend is None else jnp.array(request.blend),
        masks=masks,
        init=None if start is None else load_image(start, size=max(content.shape)),
        resume=resume,
        stages=request.stages,
        mesh=tile_mesh(),
        **hooks,
        chunk=request.save_every or (4 if request.timelapse else 50),
        throw=False,
    )
    key, styles = jax.random.key(request.seed), [] if files.labels else styles
    result = stylize(backbone, content, styles, recipe, key=key, options=options)
    if alpha is None:
        return result
    return result._replace(image=jnp.concatenate([result.image, alpha], axis=-1))


def plan_command(args: argparse.Namespace) -> int:
    """Print how a picture would be painted: its scales, memory and time."""
    request = stylize_request(args)
    recipe, shape, memory = request.recipe, request.shape, request.memory
    for stage in request.stages:
        print(describe_stage(stage, recipe))
    peak = max(process_bytes(s.shape, recipe, s.tile) for s in request.stages)
    peak += mask_bytes(shape, recipe, mask_count(request))
    print(
        f"{gigabytes(peak)} at its peak, of {gigabytes(memory)}; "
        f"the largest that fits: --size {largest_size(shape, recipe, memory)}"
    )
    key = step_key(describe_device(), recipe.program)
    seconds = expected_seconds(times_path(), key, request.stages)
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
