"""`jaxnst grid`: find the pictures, divide the lanes, save the results."""

import argparse
import contextlib
import math
import os
import shlex
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import jax

from jaxnst.background import background_map
from jaxnst.command import flags
from jaxnst.command.describe import describe_result, make_manifest
from jaxnst.command.machines import join, leave, union_done
from jaxnst.command.mask import with_parts
from jaxnst.command.reporter import GridReporter, complain, say
from jaxnst.command.sheet import PAGE_MARK, Cell, draw_sheet, save_page
from jaxnst.command.stylize import (
    first_words,
    pictures_in,
    save_result,
    with_networks,
)
from jaxnst.disk import (
    check_folder,
    check_readable,
    check_regular,
    matches,
    write_whole,
)
from jaxnst.live import LiveWriter
from jaxnst.network.vgg import Backbone
from jaxnst.painting.checkpoint import difference
from jaxnst.painting.grid import paint_lanes
from jaxnst.painting.lanes import Lane, lane_mesh, plan_batches, share_of_lanes
from jaxnst.painting.measurer import Measurer
from jaxnst.painting.scene import Masks
from jaxnst.painting.stages import Result
from jaxnst.pictures.files import load_cutout, load_image
from jaxnst.recipes import Recipe
from jaxnst.request.defaults import PREVIEW, default_recipe
from jaxnst.request.expand import Item, expand, lanes_of
from jaxnst.request.manifest import manifest_path, read_manifest
from jaxnst.request.painting import Painting
from jaxnst.request.read import check_painting, read_masks, read_style, with_alpha
from jaxnst.request.terminal import as_command
from jaxnst.weights import registry
from jaxnst.weights.format import sha256


def add_flags(p: flags.Parser) -> None:
    """Add the flags of `jaxnst grid`."""
    p.usage = "%(prog)s --content PATH … --style PATH … [-o FOLDER] [options]"
    p.set_defaults(call=grid_command)
    add, positive = p.add_argument, flags.positive
    where = "pictures: files, folders or patterns such as 'photos/*.jpg'"
    add("--content", nargs="+", required=True, metavar="PATH", help=where)
    add("--style", nargs="+", default=[], metavar="PATH", help=where)
    out = {"type": flags.folder, "default": Path("grid"), "metavar": "FOLDER"}
    add("-o", "--out", help="folder for the results (default: grid)", **out)
    sweeps = (
        "values to try; NAME is a field of the recipe, or 'recipe', 'seed', 'blend' or "
        "'region'. If repeated, all combinations are painted. If a value itself "
        "contains a comma, put semicolons between the values: blend='1,0;0.5,0.5'"
    )
    form = "NAME=VALUE,VALUE,…"
    add("--vary", type=flags.sweep, metavar=form, help=sweeps, **flags.REPEATABLE)
    seeds = "paint with N seeds; --seed is the first"
    add("--seeds", type=positive, metavar="N", help=seeds)
    quick = f"paint quickly at {PREVIEW} px, into FOLDER/preview"
    add("--preview", action="store_true", help=quick)
    flags.add_run_flags(p, size=None, quality=None)
    flags.add_look_flags(p)
    flags.add_mask_flags(p, labels=False)
    flags.add_recipe_flags(p, starts=False)
    add = flags.add_machine_flags(p).add_argument
    batch = "pictures that a device paints at a time (default: the fastest that fits)"
    add("--batch", type=positive, metavar="N", help=batch)
    several = "several machines, which run the same command and share a folder"
    add = p.add_argument_group(several).add_argument
    find = "let JAX find the machines: under SLURM, Kubernetes or on TPUs"
    add("--distributed", action="store_true", help=find)
    add("--coordinator", metavar="HOST:PORT", help="address of machine 0")
    add("--machines", type=positive, metavar="N", help="number of machines")
    add("--machine", type=int, metavar="I", help="number of this machine: 0 … N-1")


PAGE, SHEET = "index.html", "sheet.png"
"""Names of the page and the contact sheet."""

SHOWN = 4096
"""Pictures on the page and the contact sheet, at most: browsers fail with more."""

LARGER = 2
"""Factor by which the commands on the page enlarge a picture. The commands of a preview
paint at the default size of `jaxnst stylize`."""


UNSAVED_BYTES = 2**30
"""Most bytes of painted pictures that wait to be written."""


def find_pictures(patterns: Sequence[str], kind: str) -> tuple[list[Path], list[str]]:
    """Pictures in files, folders (not subfolders) and patterns, in order.

    Also returns, and prints at once, a line about each picture that cannot be read.
    """
    found: dict[Path, Path] = {}
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            if not (paths := pictures_in(path)):
                raise ValueError(
                    f"the folder {path} has no pictures; --{kind} needs one"
                )
        elif not (paths := matches(path, "pictures"))[0].exists():
            raise ValueError(f"no picture at {path}; check the path")
        found |= {x.resolve(): x for x in paths if x.resolve() not in found}
    readable, problems = [], []
    for path in found.values():
        try:
            check_readable(path)
            load_image(path, size=16)
            os.fsencode(path).decode()  # so that a page can show the name
            readable.append(path)
        except ValueError as error:
            named = f"the name {path} is not in UTF-8; rename it"
            problems.append(named if isinstance(error, UnicodeError) else str(error))
            complain(f"left out: {problems[-1]}")
    if not readable:
        raise ValueError(f"no {kind} can be read; replace the files named above")
    return readable, problems


def make_items(
    args: argparse.Namespace, contents: Sequence[Path], styles: Sequence[Path]
) -> list[Item]:
    """The pictures that the flags ask for, from the contents and styles found."""
    base = flags.painting_from(args, contents[0], styles)
    if base.labels:
        raise ValueError("a grid takes no --labels; use jaxnst stylize")
    vary: dict[str, list[Any]] = {}
    for name, values in args.vary:
        if name in vary:
            raise ValueError(f"--vary names {name} twice; give all its values at once")
        vary[name] = values
    if "size" in vary and args.size is not None:
        raise ValueError("--vary size changes nothing with --size; leave one out")
    if args.seeds is not None:
        if "seed" in vary:
            raise ValueError("--seeds and --vary seed=… say the same; leave one out")
        vary["seed"] = list(range(args.seed, args.seed + args.seeds))
    if "recipe" in vary:
        vary["recipe"] = [flags.recipe_from(args, name) for name in vary["recipe"]]
    return expand(base, contents, vary, args.out)


def check_grid(out: Path, paintings: Sequence[Painting]) -> None:
    """Raise a ValueError if the pictures of a grid cannot be painted in its folder."""
    paths = {path for painting in paintings for path in painting.paths}
    if out.resolve() in {path.resolve().parent for path in paths}:
        raise ValueError(f"{out} contains inputs; choose another --out")
    page, sheet = out / PAGE, out / SHEET
    check_regular(page)
    check_regular(sheet)
    ours = page.exists() and PAGE_MARK.encode() in page.read_bytes()
    if (page.exists() or sheet.exists()) and not ours:
        raise ValueError(f"{page} belongs to no grid; choose another output folder")
    check = cache(lambda x: check_painting(x, x.shape()))
    notes = [note for x in paintings for note in check(replace(x, seed=0))]
    for note in dict.fromkeys(notes):
        complain(note)


def grid_command(args: argparse.Namespace) -> int:
    """Paint every content in every style with every setting; return the exit code."""
    join(args.distributed, args.coordinator, args.machines, args.machine)
    contents, unreadable = find_pictures(args.content, "content")
    styles, more = find_pictures(args.style, "style") if args.style else ([], [])
    whole = argparse.Namespace(**vars(args))
    if args.preview:
        args.size, args.out = args.size or PREVIEW, args.out / "preview"
        args.quality, whole.size = args.quality or "draft", None
    items = make_items(args, contents, styles)
    recipes = [x.painting.recipe for x in make_items(whole, contents, styles)]
    paintings = with_parts([item.painting for item in items], quiet=args.quiet)
    check_grid(args.out, paintings)
    paintings = with_networks(paintings, quiet=args.quiet)
    items = [x._replace(painting=y) for x, y in zip(items, paintings, strict=True)]
    networks = dict.fromkeys(x.network for x in paintings)
    hashes = [sha256(registry.locate(network)) for network in networks]
    names = [*hashes, *(item.out.name for item in items)]
    done = union_done(names, list(map(is_painted, items)))
    missing = [item for item, there in zip(items, done, strict=True) if not there]
    index, count = jax.process_index(), jax.process_count()
    leave()
    lanes = lanes_of([item.painting for item in missing])
    of_lane = {id(lane): item for lane, item in zip(lanes, missing, strict=True)}
    mine = share_of_lanes(lanes, index, count)
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
    cells = [make_cell(args, *x) for x in zip(items[:SHOWN], recipes, strict=False)]
    first = f"the first {SHOWN} of " if len(items) > SHOWN else ""
    save_page(page, cells, f"{args.out.name}: {first}{len(items)} pictures")
    began = time.perf_counter()
    own = [of_lane[id(lane)] for lane in mine]
    paint_items(own, LiveWriter(None), batch=args.batch, quiet=args.quiet)
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
    """Whether a picture exists; a ValueError if its manifest is of another picture."""
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
        f"{out} does not belong to this grid: it is a picture {other}; choose another "
        "folder, or remove the picture"
    )


def make_cell(args: argparse.Namespace, item: Item, recipe: Recipe) -> Cell:
    """A picture as the page shows it, with the command that paints it larger.

    `recipe` is the recipe of that command; the recipe of a preview has fewer steps.
    """
    painting, setting, out = item
    edge = (LARGER if recipe.paints else 1) * max(painting.shape())
    size, name = None if args.preview else edge, Path(f"{out.stem}-large.png")
    large = replace(painting, recipe=recipe, size=size, faces=args.faces)
    command = ["jaxnst", *as_command(large, name, default_recipe)]
    text = shlex.join(command + ["--allow-huge"] * args.allow_huge)
    styles = tuple(style.path for style in painting.styles)
    return Cell(painting.content, styles, setting, out, text, max(large.shape()))


def paint_items(
    items: Sequence[Item],
    live: LiveWriter,
    *,
    batch: int | None = None,
    quiet: bool = False,
) -> None:
    """Paint the pictures of a grid, one network after the other.

    The weights must be on disk. `live` shows the progress; for `batch`, see
    `lanes.plan_batches`.
    """
    for name in dict.fromkeys(item.painting.network for item in items):
        same = [item for item in items if item.painting.network == name]
        paint_alike(same, registry.load_backbone(name), live, batch, quiet)


def paint_alike(
    items: Sequence[Item],
    backbone: Backbone,
    live: LiveWriter,
    batch: int | None,
    quiet: bool,
) -> None:
    """Paint pictures of one network, and write each as soon as it is painted."""
    lanes = lanes_of([item.painting for item in items])
    of_lane = {id(lane): item for lane, item in zip(lanes, items, strict=True)}

    load, load_style = lru_cache(4)(load_cutout), lru_cache(16)(read_style)
    photograph = lambda lane: load(lane.content, size=max(lane.shape), enlarge=True)

    def load_masks(lane: Lane) -> Masks:
        alpha = photograph(lane).alpha
        return read_masks(of_lane[id(lane)].painting, [], alpha, lane.shape)

    def save(painted: tuple[Lane, Result]) -> None:
        lane, result = painted
        item = of_lane[id(lane)]
        is_painted(item)  # an error if another run has written another picture
        found = describe_result(result, sum(result.seconds))
        save_result(item.out, result, make_manifest(item.painting), found)

    def whole(painted: tuple[Lane, Result]) -> tuple[Lane, Result]:
        lane, result = painted
        image = with_alpha(result.image, photograph(lane).alpha)
        return lane, result._replace(image=image)

    measurer = Measurer(
        load_content=lambda lane: photograph(lane).image,
        load_styles=lambda lane: [
            load_style(style, lane.shape, lane.recipe) for style in lane.styles
        ],
        load_masks=load_masks,
    )
    live.say(first_words(lanes[0].recipe, lanes[0].shape))
    with GridReporter(lanes, live, quiet=quiet) as reporter:
        given = measurer, backbone, lanes
        painted = paint_lanes(*given, batch=batch, on_chunk=reporter)
        # Pictures are encoded while the next batch is painted.
        largest = max(12 * math.prod(lane.shape) for lane in lanes)
        most = max(1, UNSAVED_BYTES // largest)
        deque(background_map(save, map(whole, painted), most=most), maxlen=0)


def exit_code(items: Sequence[Item], unreadable: Sequence[str]) -> int:
    """Print what went wrong, and return the exit code."""
    code = 0
    for out in (item.out for item in items if item.out.exists()):
        status = ""
        with contextlib.suppress(OSError, ValueError):  # changed meanwhile
            status = read_manifest(manifest_path(out)).status
        if status == "diverged":
            complain(f"error: the run diverged; {out} is the last finite picture")
            code = 3
    for problem in unreadable:
        complain(f"error: left out: {problem}")
    return 2 if unreadable else code
