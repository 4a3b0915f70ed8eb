"""`jaxnst grid`: find the pictures, divide the lanes, save what is painted."""

import argparse
import contextlib
import itertools
import json
import math
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from cachetools import LRUCache, cached

from jaxnst.background import background_map
from jaxnst.command.describe import (
    content_hash,
    describe_result,
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
from jaxnst.command.mask import with_parts
from jaxnst.command.reporter import GridReporter, complain, say
from jaxnst.command.sheet import PAGE_MARK, Cell, draw_sheet, save_page
from jaxnst.command.stylize import first_words, with_networks
from jaxnst.disk import check_folder, check_regular, write_whole
from jaxnst.live import LiveLines
from jaxnst.network.vgg import Backbone
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
from jaxnst.request.manifest import manifest_path, read_manifest
from jaxnst.request.painting import Painting
from jaxnst.request.read import check_painting, read_masks, read_style
from jaxnst.request.terminal import as_command
from jaxnst.weights import registry


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
    add_face_flag(add_mask_flags(p))
    add_recipe_flags(p, starts=False)
    add = add_machine_flags(p).add_argument
    batch = "pictures on a device at a time (default: as many as fit and save time)"
    add("--batch", type=positive, metavar="N", help=batch)
    several = "several machines: the same command on each, and a shared folder"
    add = p.add_argument_group(several).add_argument
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


UNSAVED_BYTES = 2**30
"""Painted pictures that may wait to be written, at most."""


def make_items(
    args: argparse.Namespace, contents: Sequence[Path], styles: Sequence[Path]
) -> list[Item]:
    """The pictures that the flags ask for, of contents and styles that were found."""
    size = args.size or (PREVIEW if args.preview else None)
    base = replace(painting_from(args, contents[0], styles), size=size)
    if base.labels:
        raise ValueError("a grid takes no --labels; use jaxnst stylize")
    vary: dict[str, list[Any]] = {}
    for name, values in args.vary:
        if name in vary:
            raise ValueError(f"--vary names {name} twice; give all its values at once")
        vary[name] = values
    if "size" in vary and size is not None:
        raise ValueError("size changes nothing with --size or --preview")
    if args.seeds is not None:
        if "seed" in vary:
            raise ValueError("--seeds and --vary seed=… say the same; leave one out")
        vary["seed"] = list(range(args.seed, args.seed + args.seeds))
    if "recipe" in vary:
        vary["recipe"] = [recipe_from(args, name) for name in vary["recipe"]]
    return expand(base, contents, vary, args.out)


def check_items(items: Sequence[Item]) -> None:
    """Raise a ValueError if the pictures of a grid cannot be painted in its folder."""
    out, paths = items[0].out.parent, {y for x in items for y in x.painting.paths}
    if out.resolve() in {path.resolve().parent for path in paths}:
        raise ValueError(f"{out} has pictures to paint from; choose another --out")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; choose a folder")
    page, sheet = out / PAGE, out / SHEET
    for path in (page, sheet):
        check_regular(path)
    ours = page.exists() and PAGE_MARK.encode() in page.read_bytes()
    for path in (page, sheet):
        if path.exists() and not ours:
            raise ValueError(f"{path} is of no grid; choose another output folder")
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
    masked = with_parts([item.painting for item in items], quiet=args.quiet)
    items = [x._replace(painting=own) for x, own in zip(items, masked, strict=True)]
    check_items(items)
    looked = [with_faces(item.painting) for item in items]
    faces = {(x.content, box) for x in looked for box in x.faces or ()}
    ready = with_networks(looked, faces=len(faces), quiet=args.quiet)
    pairs = zip(items, ready, strict=True)
    items = [item._replace(painting=painting) for item, painting in pairs]
    networks = dict.fromkeys(registry.locate(x.network) for x in ready)
    names = [*map(content_hash, networks), *(item.out.name for item in items)]
    done = union_done(names, list(map(is_painted, items)))
    lanes = make_lanes([item.painting for item in items])
    missing = [lane for lane, there in zip(lanes.lanes, done, strict=True) if not there]
    index, count = jax.process_index(), jax.process_count()
    leave()
    mine = share_of_lanes(missing, index, count)
    tell = partial(say, quiet=args.quiet)
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
        with write_whole(sheet) as file:
            draw_sheet(cells).save(file, "PNG")
    tell(
        f"painted {len(mine)} pictures in {time.perf_counter() - began:.0f} s; "
        f"see {page}" + (f" and {sheet}" if last else "")
    )
    return exit_code(items, [*unreadable, *more])


def is_painted(item: Item) -> bool:
    """Whether a picture exists; it must have a manifest that matches the item."""
    out = item.out
    for path in (out, manifest_path(out)):
        check_regular(path)
    if not out.exists():
        return False
    try:
        before = read_manifest(manifest_path(out))
    except (OSError, ValueError):
        other = "without a manifest"
    else:
        now = make_manifest(item.painting)
        if not (found := difference(before.identity, now.identity)):
            return True
        other = f"with {found}"
    raise ValueError(
        f"{out} is no picture of this grid, but one {other}; paint into another "
        "folder, or remove it"
    )


def make_cell(args: argparse.Namespace, item: Item) -> Cell:
    """A picture as the page shows it, with the command that paints it larger."""
    painting, setting, out = item
    recipe = painting.recipe
    larger = (LARGER if recipe.paints else 1) * max(painting.shape())
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
    """Paint the pictures of a grid, network after network.

    Args:
        items: The pictures, with weights that are there.
        batch: Pictures on a device at a time. Default: as many as fit and save time.
        quiet: Whether to print errors only.
        live: Where the progress is shown, for who watches it.
    """
    for name in dict.fromkeys(item.painting.network for item in items):
        same = [item for item in items if item.painting.network == name]
        paint_alike(same, registry.load_backbone(name), batch, quiet, live)


def paint_alike(
    items: Sequence[Item],
    backbone: Backbone,
    batch: int | None,
    quiet: bool,
    live: LiveLines | None,
) -> None:
    """Paint pictures of one network, and write each as soon as it is there."""
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

    def with_alpha(lane: Lane, result: Result) -> tuple[Lane, Result]:
        alpha = load_photograph(lane).alpha
        if alpha is not None:
            image = np.concatenate([result.image, alpha], axis=-1)
            result = result._replace(image=image)
        return lane, result

    def save(painted: tuple[Lane, Result]) -> None:
        lane, result = painted
        item = of_lane[id(lane)]
        is_painted(item)  # an error if another run has painted another
        manifest = make_manifest(item.painting)
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
    if live is not None:
        live.say(first_words(lanes[0].recipe, lanes[0].shape))
    with GridReporter(lanes, live, quiet=quiet) as reporter:
        given = measurer_of, backbone, lanes
        painted = paint_lanes(*given, batch=batch, on_chunk=reporter)
        # Pictures are encoded while the next batch is painted.
        whole = itertools.starmap(with_alpha, painted)
        largest = max(12 * math.prod(lane.shape) for lane in lanes)
        for _ in background_map(save, whole, most=max(1, UNSAVED_BYTES // largest)):
            pass


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
