"""`jaxnst grid`: find the pictures, divide the lanes, save what is painted."""

import argparse
import contextlib
import sys
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from cachetools import LRUCache, cached

from jaxnst.command.defaults import PREVIEW, QUALITY, default_recipe, with_steps
from jaxnst.command.find import find_pictures
from jaxnst.command.flags import (
    add_mask_flags,
    add_recipe_flags,
    add_run_flags,
    positive,
    recipe_from,
    same_names,
    sweep,
)
from jaxnst.command.jobs import (
    GridRequest,
    Job,
    as_setting,
    is_painted,
    make_cell,
    make_jobs,
)
from jaxnst.command.machines import join, leave, union_done
from jaxnst.command.manifest import (
    describe_result,
    description,
    first_line,
    manifest_path,
    write_manifest,
)
from jaxnst.command.masks import (
    check_masks,
    mask_files,
    read_masks,
    read_style,
    with_region_style,
)
from jaxnst.command.reporter import GridReporter, say
from jaxnst.command.request import MaskFiles
from jaxnst.command.sheet import PAGE_MARK, save_page, save_sheet
from jaxnst.disk import check_folder, check_regular
from jaxnst.painting.grid import paint_lanes
from jaxnst.painting.inputs import load_content
from jaxnst.painting.lanes import Lane, lane_mesh, plan_batches, share_of_lanes
from jaxnst.painting.manifest import read_manifest
from jaxnst.painting.measurer import Measurer
from jaxnst.painting.scene import Masks, Style
from jaxnst.painting.stages import Result
from jaxnst.pictures.files import Cutout, save_image
from jaxnst.studio.live import LiveLines
from jaxnst.types import Mask
from jaxnst.weights import registry
from jaxnst.weights.format import sha256


def add_grid_flags(p: argparse.ArgumentParser) -> None:
    """Add the flags of `jaxnst grid`."""
    add = p.add_argument
    where = "pictures: files, folders or patterns such as 'photos/*.jpg'"
    add("--content", nargs="+", required=True, metavar="PATH", help=where)
    add("--style", nargs="+", default=[], metavar="PATH", help=where)
    out = "folder (default: grid)"
    add("-o", "--out", type=Path, default=Path("grid"), help=out)
    add(
        "--vary",
        type=sweep,
        action="append",
        default=[],
        metavar="NAME=VALUE,VALUE,…",
        help="values to try for a field of the recipe, or for recipe, seed, blend or "
        "the style of a region; "
        "repeat it for all combinations; separate values that contain commas by ;, as "
        "in blend='1,0;0.5,0.5'",
    )
    add("--seeds", type=positive, metavar="N", help="N seeds from --seed on")
    add("--live-folder", type=Path, help=argparse.SUPPRESS)  # the studio reads it
    quick = f"paint quickly at {PREVIEW} px into OUT/preview, to choose from"
    add("--preview", action="store_true", help=quick)
    batch = "pictures on a device at a time (default: as many as fit and save time)"
    add("--batch", type=positive, metavar="N", help=batch)
    add_run_flags(p, size=None, quality=None)
    add_recipe_flags(p)
    add_mask_flags(p)
    add = p.add_argument_group(
        "several machines", "the same command on each, with a folder that all can see"
    ).add_argument
    find = "let JAX find the machines: under SLURM, Kubernetes or on TPUs"
    add("--distributed", action="store_true", help=find)
    add("--coordinator", metavar="HOST:PORT", help="of machine 0")
    add("--machines", type=positive, metavar="N", help="how many")
    add("--machine", type=int, metavar="I", help="which one: 0 … N-1")


SHOWN = 4096
"""Pictures on the page and the contact sheet, at most: browsers fail with more."""


def grid_request(args: argparse.Namespace) -> GridRequest:
    """What the flags ask for, checked."""
    quality = args.quality or ("draft" if args.preview else "normal")
    flags = argparse.Namespace(**vars(args) | {"quality": quality})
    contents, unreadable = find_pictures(args.content, "content")
    styles, more = find_pictures(args.style, "style") if args.style else ([], [])
    vary, masks = _vary(flags), (mask_files(args),)
    if "region" in vary:
        masks = tuple(with_region_style(masks[0], x) for x in vary.pop("region"))
    for each in masks:
        check_masks(each, styles)
    if masks[0].labels:
        raise ValueError("expected --labels for one picture; use jaxnst stylize")
    changes = {
        "contents": tuple(contents),
        "styles": tuple(styles),
        "unreadable": (*unreadable, *more),
        "out": args.out / "preview" if args.preview else args.out,
        "recipe": recipe_from(flags),
        "usual": lambda name: with_steps(default_recipe(name), QUALITY[quality]),
        "vary": vary,
        "masks": masks,
        "size": args.size or (PREVIEW if args.preview else None),
    }
    request = GridRequest(**same_names(GridRequest, args) | changes)
    check_request(request)
    weights, reason = registry.choose(args.weights, quiet=args.quiet)
    return replace(request, weights=weights, weights_reason=reason)


def check_request(request: GridRequest) -> None:
    """Raise a ValueError if a request cannot be met."""
    pictures = request.contents + request.styles
    if request.out.resolve() in {path.resolve().parent for path in pictures}:
        raise ValueError(
            f"expected an output folder of its own, got {request.out}, where pictures "
            "to paint from are; choose another one"
        )
    if request.out.exists() and not request.out.is_dir():
        raise ValueError(f"expected a folder at {request.out}, got a file")
    for path in (request.page, request.sheet):
        check_regular(path)
    ours = request.page.exists() and PAGE_MARK.encode() in request.page.read_bytes()
    for path in (request.page, request.sheet):
        if path.exists() and not ours:
            raise ValueError(
                f"expected nothing, or the page of a grid at {path}, got another file; "
                "choose another output folder"
            )
    if "size" in request.vary and request.size is not None:
        raise ValueError("size changes nothing with --size or --preview")


def _vary(args: argparse.Namespace) -> dict[str, list[Any]]:
    """Values by name, recipes in the place of their names."""
    vary: dict[str, list[Any]] = dict(args.vary)
    if len(vary) < len(args.vary):
        raise ValueError("expected --vary once for each name, got one twice")
    if args.seeds is not None:
        if "seed" in vary:
            raise ValueError("expected --seeds or --vary seed=…, got both")
        vary["seed"] = list(range(args.seed, args.seed + args.seeds))
    if "recipe" in vary:
        vary["recipe"] = [recipe_from(args, name) for name in vary["recipe"]]
    return vary


def grid_command(args: argparse.Namespace) -> int:
    """Paint every content in every style with every setting; return the exit code."""
    join(args.distributed, args.coordinator, args.machines, args.machine)
    request = grid_request(args)
    weights_sha256 = sha256(registry.locate(request.weights))
    jobs = make_jobs(request, weights_sha256)
    names = [weights_sha256, *(job.asked.out.name for job in jobs)]
    done = union_done(names, [is_painted(job) for job in jobs])
    missing = [job.lane for job, there in zip(jobs, done, strict=True) if not there]
    index, count = jax.process_index(), jax.process_count()
    leave()
    mine = share_of_lanes(missing, index, count)
    tell = partial(say, quiet=request.quiet)
    tell(first_line(request.weights, request.weights_reason))
    settings = {as_setting(job.lane.setting) for job in jobs}
    tell(
        f"{len(jobs)} pictures: {len(request.contents)} contents, "
        f"{len(request.styles)} styles, {len(settings)} settings; "
        f"{sum(done)} are there already"
        + (f"; {len(mine)} are for machine {index} of {count}" if count > 1 else "")
    )
    # Reject what does not fit before anything is written.
    plan_batches(mine, lane_mesh(), batch=request.batch)
    request.out.mkdir(parents=True, exist_ok=True)
    check_folder(request.out)
    cells = [make_cell(request, job) for job in jobs[:SHOWN]]
    first = f"the first {SHOWN} of " if len(jobs) > SHOWN else ""
    save_page(request.page, cells, f"{request.out.name}: {first}{len(jobs)} pictures")
    began = time.perf_counter()
    if mine:
        paint(request, mine, jobs)
    # Of several machines, the one that finishes last finds everything there.
    last = count == 1 or all(cell.out.exists() for cell in cells)
    if last:
        save_sheet(request.sheet, cells)
    tell(
        f"painted {len(mine)} pictures in {time.perf_counter() - began:.0f} s; "
        f"see {request.page}" + (f" and {request.sheet}" if last else "")
    )
    return exit_code(jobs, request.unreadable)


def paint(request: GridRequest, mine: list[Lane], jobs: list[Job]) -> None:
    """Paint lanes, and write each picture as soon as it is there."""
    of_lane = {id(job.lane): job for job in jobs}
    key_of = lambda j, lane: (j, lane.shape, lane.recipe.program, lane.recipe.sizes)

    def files_of(lane: Lane) -> MaskFiles:
        return of_lane[id(lane)].asked.masks

    @cached(LRUCache(maxsize=16), key=key_of)
    def load(j: int, lane: Lane) -> Style:
        return read_style(request.styles[j], files_of(lane), lane.shape, lane.recipe)

    @cached(LRUCache(maxsize=4), key=lambda lane: (lane.content, lane.shape))
    def load_photograph(lane: Lane) -> Cutout:
        return load_content(
            request.contents[lane.content], max(lane.shape), lane.recipe
        )

    def load_masks(lane: Lane) -> Masks:
        alpha = load_photograph(lane).alpha
        return read_masks(files_of(lane), [], alpha, lane.shape, lane.recipe)

    def save(lane: Lane, result: Result, alpha: Mask | None) -> None:
        job = of_lane[id(lane)]
        found = describe_result(result, sum(result.seconds))
        is_painted(job)  # raises an error if another run has painted another one
        # The manifest comes first, so that every picture on disk has one.
        manifest = job.manifest()
        about = description(manifest | {"tiles": found["tiles"]})
        write_manifest(manifest_path(job.asked.out), manifest | found)
        image = result.image
        if alpha is not None:
            image = np.concatenate([image, alpha], axis=-1)
        save_image(job.asked.out, image, description=about)

    measurer_of = partial(
        Measurer,
        load_content=lambda lane: load_photograph(lane).image,
        load_styles=lambda lane: [load(j, lane) for j in lane.styles],
        load_masks=load_masks,
    )
    live = None if request.live_folder is None else LiveLines(request.live_folder)
    backbone = registry.load_backbone(request.weights)
    if live is not None:
        live.say(f"Compiling for {max(mine[0].shape)} px, once for this size")
    # Pictures are encoded while the next batch is painted; up to 256 may wait.
    saving: deque[Future] = deque()
    with (
        GridReporter(mine, live, quiet=request.quiet) as reporter,
        ThreadPoolExecutor(max_workers=1) as saver,
    ):
        for lane, result in paint_lanes(
            measurer_of, backbone, mine, batch=request.batch, on_chunk=reporter
        ):
            alpha = load_photograph(lane).alpha
            saving.append(saver.submit(save, lane, result, alpha))
            while saving and (saving[0].done() or len(saving) > 256):
                saving.popleft().result()
        for future in saving:
            future.result()


def exit_code(jobs: list[Job], unreadable: Sequence[str]) -> int:
    """Print what went wrong, and return the exit code."""
    code = 0
    for out in (job.asked.out for job in jobs if job.asked.out.exists()):
        found: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):  # changed meanwhile
            found = read_manifest(manifest_path(out))
        if found.get("status") == "diverged":
            print(f"jaxnst: error: a step was not finite: {out}", file=sys.stderr)
            code = 3
    for problem in unreadable:
        print(f"jaxnst: error: left out: {problem}", file=sys.stderr)
    return 2 if unreadable else code
