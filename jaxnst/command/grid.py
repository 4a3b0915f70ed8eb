"""`jaxnst grid`: find the pictures, divide the lanes, save what is painted."""

import argparse
import contextlib
import json
import shlex
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

from jaxnst.command.describe import (
    describe_result,
    first_line,
    make_manifest,
    write_manifest,
)
from jaxnst.command.expand import Item, expand, make_lanes
from jaxnst.command.find import find_pictures
from jaxnst.command.flags import (
    Parser,
    add_face_flag,
    add_look_flags,
    add_machine_flags,
    add_mask_flags,
    add_recipe_flags,
    add_run_flags,
    painting_from,
    positive,
    recipe_from,
    sweep,
)
from jaxnst.command.machines import join, leave, union_done
from jaxnst.command.reporter import GridReporter, complain, say
from jaxnst.command.sheet import PAGE_MARK, Cell, save_page, save_sheet
from jaxnst.disk import check_folder, check_regular
from jaxnst.live import LiveLines
from jaxnst.painting.checkpoint import difference
from jaxnst.painting.grid import paint_lanes
from jaxnst.painting.inputs import load_content
from jaxnst.painting.lanes import Lane, lane_mesh, plan_batches, share_of_lanes
from jaxnst.painting.measurer import Measurer
from jaxnst.painting.scene import Masks, Style
from jaxnst.painting.stages import Result
from jaxnst.pictures.files import Cutout, save_image
from jaxnst.request.defaults import PREVIEW, QUALITY, default_recipe, with_steps
from jaxnst.request.faces import with_faces
from jaxnst.request.manifest import Manifest, manifest_path, read_manifest
from jaxnst.request.painting import Painting
from jaxnst.request.read import check_painting, read_masks, read_style
from jaxnst.request.terminal import as_command
from jaxnst.weights import registry
from jaxnst.weights.format import sha256


def add_grid_flags(p: Parser) -> None:
    """Add the flags of `jaxnst grid`."""
    p.usage = "%(prog)s --content PATH … --style PATH … [-o FOLDER] [options]"
    add = p.add_argument
    where = "pictures: files, folders or patterns such as 'photos/*.jpg'"
    add("--content", nargs="+", required=True, metavar="PATH", help=where)
    add("--style", nargs="+", default=[], metavar="PATH", help=where)
    out = "folder (default: grid)"
    add("-o", "--out", type=Path, default=Path("grid"), metavar="FOLDER", help=out)
    add(
        "--vary",
        type=sweep,
        action="append",
        default=[],
        metavar="NAME=VALUE,VALUE,…",
        help="values to try of a field of the recipe, or of recipe, seed, blend or "
        "region; repeatable: all combinations; use ; between values that contain "
        "commas: blend='1,0;0.5,0.5'",
    )
    add("--seeds", type=positive, metavar="N", help="try N seeds, from --seed on")
    quick = f"paint quickly at {PREVIEW} px into OUT/preview, to choose from"
    add("--preview", action="store_true", help=quick)
    add_run_flags(p, size=None, quality=None)
    add_look_flags(p)
    add_mask_flags(p)
    add_face_flag(p)
    add_recipe_flags(p)
    add_machine_flags(p)
    batch = "pictures on a device at a time (default: as many as fit and save time)"
    p.group("machine")("--batch", type=positive, metavar="N", help=batch)
    add = p.group("several machines: the same command on each, and a shared folder")
    find = "let JAX find the machines: under SLURM, Kubernetes or on TPUs"
    add("--distributed", action="store_true", help=find)
    add("--coordinator", metavar="HOST:PORT", help="address of machine 0")
    add("--machines", type=positive, metavar="N", help="how many")
    add("--machine", type=int, metavar="I", help="which one: 0 … N-1")


PAGE, SHEET = "index.html", "sheet.png"
"""Names of the page and the contact sheet."""

SHOWN = 4096
"""Pictures on the page and the contact sheet, at most: browsers fail with more."""

LARGER = 2
"""How much larger the commands on the page paint a picture; those of a preview paint
the size of `jaxnst stylize` without --size."""


def make_items(
    args: argparse.Namespace, contents: Sequence[Path], styles: Sequence[Path]
) -> list[Item]:
    """The pictures that the flags ask for, of contents and styles that were found."""
    size = args.size or (PREVIEW if args.preview else None)
    base = replace(painting_from(args, contents[0], styles), size=size)
    if base.labels:
        raise ValueError("expected --labels for one picture; use jaxnst stylize")
    vary: dict[str, list[Any]] = dict(args.vary)
    if len(vary) < len(args.vary):
        raise ValueError("expected --vary once for each name, got one twice")
    if "size" in vary and size is not None:
        raise ValueError("size changes nothing with --size or --preview")
    if args.seeds is not None:
        if "seed" in vary:
            raise ValueError("expected --seeds or --vary seed=…, got both")
        vary["seed"] = list(range(args.seed, args.seed + args.seeds))
    if "recipe" in vary:
        vary["recipe"] = [recipe_from(args, name) for name in vary["recipe"]]
    return expand(base, contents, vary, args.out)


def check_items(items: Sequence[Item]) -> None:
    """Raise a ValueError if the pictures of a grid cannot be painted in its folder."""
    out, paths = items[0].out.parent, {y for x in items for y in x.painting.paths}
    if out.resolve() in {path.resolve().parent for path in paths}:
        raise ValueError(
            f"expected an output folder of its own, got {out}, where pictures to paint "
            "from are; choose another one"
        )
    if out.exists() and not out.is_dir():
        raise ValueError(f"expected a folder at {out}, got a file")
    page, sheet = out / PAGE, out / SHEET
    for path in (page, sheet):
        check_regular(path)
    ours = page.exists() and PAGE_MARK.encode() in page.read_bytes()
    for path in (page, sheet):
        if path.exists() and not ours:
            raise ValueError(
                f"expected nothing, or the page of a grid at {path}, got another file; "
                "choose another output folder"
            )
    shape = cached({}, key=lambda x: (x.content, x.size, x.recipe))(Painting.shape)
    check = cached({}, key=lambda x, shape: (replace(x, seed=0), shape))(check_painting)
    found = (check(x.painting, shape(x.painting)) for x in items)
    for line in dict.fromkeys(line for lines in found for line in lines):
        complain(line)


def grid_command(args: argparse.Namespace) -> int:
    """Paint every content in every style with every setting; return the exit code."""
    join(args.distributed, args.coordinator, args.machines, args.machine)
    args.quality = args.quality or ("draft" if args.preview else "normal")
    args.out = args.out / "preview" if args.preview else args.out
    contents, unreadable = find_pictures(args.content, "content")
    styles, more = find_pictures(args.style, "style") if args.style else ([], [])
    items = make_items(args, contents, styles)
    check_items(items)
    name, reason = registry.choose(args.weights, quiet=args.quiet)
    using = lambda x: x._replace(painting=replace(with_faces(x.painting), weights=name))
    items = list(map(using, items))
    weights_sha256 = sha256(registry.locate(name))
    names = [weights_sha256, *(item.out.name for item in items)]
    done = union_done(names, [is_painted(item, weights_sha256) for item in items])
    lanes = make_lanes([item.painting for item in items])
    missing = [lane for lane, there in zip(lanes.lanes, done, strict=True) if not there]
    index, count = jax.process_index(), jax.process_count()
    leave()
    mine = share_of_lanes(missing, index, count)
    tell = partial(say, quiet=args.quiet)
    paintings = [item.painting for item in items]
    faces = {(x.content, box) for x in paintings for box in x.faces or ()}
    tell(first_line(name, reason, len(faces)))
    tell(
        f"{len(items)} pictures: {len(contents)} contents, {len(styles)} styles, "
        f"{len({item.setting for item in items})} settings; "
        f"{sum(done)} are there already"
        + (f"; {len(mine)} are for machine {index} of {count}" if count > 1 else "")
    )
    # Reject what does not fit before anything is written.
    plan_batches(mine, lane_mesh(), batch=args.batch)
    args.out.mkdir(parents=True, exist_ok=True)
    check_folder(args.out)
    page, sheet = args.out / PAGE, args.out / SHEET
    cells = [make_cell(args, item) for item in items[:SHOWN]]
    first = f"the first {SHOWN} of " if len(items) > SHOWN else ""
    save_page(page, cells, f"{args.out.name}: {first}{len(items)} pictures")
    began = time.perf_counter()
    wanted = {id(lane) for lane in mine}
    pairs = zip(items, lanes.lanes, strict=True)
    paint_items([x for x, lane in pairs if id(lane) in wanted], args.batch, args.quiet)
    # Of several machines, the one that finishes last finds everything there.
    last = count == 1 or all(cell.out.exists() for cell in cells)
    if last:
        save_sheet(sheet, cells)
    tell(
        f"painted {len(mine)} pictures in {time.perf_counter() - began:.0f} s; "
        f"see {page}" + (f" and {sheet}" if last else "")
    )
    return exit_code(items, [*unreadable, *more])


def is_painted(item: Item, weights_sha256: str) -> bool:
    """Whether a picture exists; it must have a manifest that matches the item."""
    out = item.out
    for path in (out, manifest_path(out)):
        check_regular(path)
    if not out.exists():
        return False
    before, got = None, "without a manifest"
    with contextlib.suppress(OSError, ValueError):
        before = read_manifest(manifest_path(out))
    if before is not None:
        now = manifest_of(item.painting, weights_sha256)
        other = difference(before.identity, now.identity)
        if not other:
            return True
        got = f"with {other}"
    raise ValueError(
        f"expected nothing or a picture of this grid at {out}, got one {got}; paint "
        "into another folder, or remove it"
    )


def manifest_of(painting: Painting, weights_sha256: str) -> Manifest:
    """The manifest of a picture of a grid."""
    return make_manifest(painting, painting.shape(), weights_sha256)


def make_cell(args: argparse.Namespace, item: Item) -> Cell:
    """A picture as the page shows it, with the command that paints it larger."""
    painting, setting, out = item
    larger, recipe = LARGER * max(painting.shape()), painting.recipe
    if args.preview:
        # Its few steps are not those of the large picture, unless asked for.
        named = default_recipe(recipe.name)
        own, few = named.values(), with_steps(named, QUALITY[args.quality]).values()
        steps = {x for x in ("first_steps", "steps") if recipe.values()[x] == few[x]}
        recipe = recipe.replace(**{x: own[x] for x in steps})
        painting = replace(painting, size=None, recipe=recipe)
        larger = max(painting.shape())
    else:
        painting = replace(painting, size=larger)
    painting = replace(painting, faces=args.faces)
    command = [
        "jaxnst",
        *as_command(painting, Path(f"{out.stem}-large.png"), default_recipe),
    ]
    text = shlex.join(command + ["--allow-huge"] * args.allow_huge)
    styles = tuple(style.path for style in painting.styles)
    return Cell(painting.content, styles, setting, out, text, larger)


def paint_items(
    items: Sequence[Item],
    batch: int | None = None,
    quiet: bool = False,
    live: LiveLines | None = None,
) -> None:
    """Paint the pictures of a grid, and write each as soon as it is there.

    Args:
        items: The pictures, with weights that are there.
        batch: Pictures on a device at a time. Default: as many as fit and save time.
        quiet: Whether to print errors only.
        live: Where the progress is shown, for who watches it.
    """
    if not items:
        return
    weights = items[0].painting.weights
    weights_sha256 = sha256(registry.locate(weights))
    contents, styles, lanes = make_lanes([item.painting for item in items])
    of_lane = {id(lane): item for lane, item in zip(lanes, items, strict=True)}

    @cached(
        LRUCache(maxsize=16),
        key=lambda j, lane: (j, lane.shape, lane.recipe.program, lane.recipe.sizes),
    )
    def load(j: int, lane: Lane) -> Style:
        return read_style(styles[j], lane.shape, lane.recipe)

    @cached(LRUCache(maxsize=4), key=lambda lane: (lane.content, lane.shape))
    def load_photograph(lane: Lane) -> Cutout:
        return load_content(contents[lane.content], max(lane.shape), lane.recipe)

    def load_masks(lane: Lane) -> Masks:
        alpha = load_photograph(lane).alpha
        return read_masks(of_lane[id(lane)].painting, [], alpha, lane.shape)

    def save(lane: Lane, result: Result) -> None:
        item = of_lane[id(lane)]
        is_painted(item, weights_sha256)  # an error if another run has painted another
        manifest = manifest_of(item.painting, weights_sha256)
        found = describe_result(result, sum(result.seconds))
        # The manifest comes first, so that every picture on disk has one.
        write_manifest(manifest_path(item.out), manifest.beside(item.out) | found)
        about = json.dumps(manifest.inside() | {"tiles": found["tiles"]})
        save_image(item.out, result.image, description=about)

    measurer_of = partial(
        Measurer,
        load_content=lambda lane: load_photograph(lane).image,
        load_styles=lambda lane: [load(j, lane) for j in lane.styles],
        load_masks=load_masks,
    )
    backbone = registry.load_backbone(weights)
    if live is not None:
        live.say(f"Compiling for {max(lanes[0].shape)} px, once for this size")
    # Pictures are encoded while the next batch is painted; up to 256 may wait.
    saving: deque[Future] = deque()
    with (
        GridReporter(lanes, live, quiet=quiet) as reporter,
        ThreadPoolExecutor(max_workers=1) as saver,
    ):
        for lane, result in paint_lanes(
            measurer_of, backbone, lanes, batch=batch, on_chunk=reporter
        ):
            alpha = load_photograph(lane).alpha
            if alpha is not None:
                image = np.concatenate([result.image, alpha], axis=-1)
                result = result._replace(image=image)
            saving.append(saver.submit(save, lane, result))
            while saving and (saving[0].done() or len(saving) > 256):
                saving.popleft().result()
        for future in saving:
            future.result()


def exit_code(items: Sequence[Item], unreadable: Sequence[str]) -> int:
    """Print what went wrong, and return the exit code."""
    code = 0
    for out in (item.out for item in items if item.out.exists()):
        status = ""
        with contextlib.suppress(OSError, ValueError):  # changed meanwhile
            status = read_manifest(manifest_path(out)).status
        if status == "diverged":
            print(f"jaxnst: error: a step was not finite: {out}", file=sys.stderr)
            code = 3
    for problem in unreadable:
        print(f"jaxnst: error: left out: {problem}", file=sys.stderr)
    return 2 if unreadable else code
