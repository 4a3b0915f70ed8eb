"""`jaxnst grid`: find the pictures, share the lanes out, save what is painted."""

import argparse
import glob
import hashlib
import json
import re
import shlex
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxnst import disk
from jaxnst.command.flags import (
    add_recipe_flags,
    add_run_flags,
    as_text,
    default_recipe,
    positive,
    recipe_from,
)
from jaxnst.command.flags import sweep as sweep_text
from jaxnst.command.manifest import (
    SAME,
    describe_device,
    describe_result,
    make_manifest,
    manifest_path,
    write_manifest,
)
from jaxnst.command.reporter import GridReporter, say
from jaxnst.command.sheet import PAGE_MARK, Cell, save_page, save_sheet
from jaxnst.painting.checkpoint import difference
from jaxnst.painting.grid import Painted, paint_lanes
from jaxnst.painting.lanes import (
    Lane,
    lane_mesh,
    make_lanes,
    plan_batches,
    share_of_lanes,
)
from jaxnst.painting.multiscale import load_content, load_style
from jaxnst.painting.scales import content_size, style_shape
from jaxnst.pictures import files, geometry
from jaxnst.recipes import Recipe
from jaxnst.weights import format, registry

PREVIEW = 128
"""Long edge of the pictures of `--preview`."""

LARGER = 2
"""How much larger the page's commands paint a picture again; a preview becomes what
`jaxnst stylize` makes without --size."""


def add_grid_flags(p: argparse.ArgumentParser) -> None:
    """Add the flags of `jaxnst grid`."""
    for name in ("content", "style"):
        p.add_argument(
            f"--{name}",
            nargs="+",
            required=True,
            metavar="PATH",
            help="pictures: files, folders or patterns such as 'photos/*.jpg'",
        )
    p.add_argument(
        "-o", "--out", type=Path, default=Path("grid"), help="folder (default: grid)"
    )
    p.add_argument(
        "--vary",
        type=sweep_text,
        action="append",
        default=[],
        metavar="NAME=VALUE,VALUE,…",
        help="paint with each value of a field of the recipe, or of recipe, seed or "
        "blend; repeat it for all combinations; values that have commas take ; between "
        "them, as in blend='1,0;0.5,0.5'",
    )
    p.add_argument("--seeds", type=positive, metavar="N", help="N seeds from --seed on")
    p.add_argument(
        "--preview",
        action="store_true",
        help=f"paint quickly at {PREVIEW} px into OUT/preview, to choose from",
    )
    p.add_argument(
        "--batch",
        type=positive,
        metavar="N",
        help="pictures on a device at a time (default: as many as fit and pay)",
    )
    add_run_flags(p, size=None, quality=None)
    add_recipe_flags(p)
    machines = p.add_argument_group(
        "several machines", "the same command on each, with a folder that all can see"
    )
    machines.add_argument(
        "--distributed",
        action="store_true",
        help="where JAX detects the machines, as under SLURM, Kubernetes or on TPUs",
    )
    machines.add_argument("--coordinator", metavar="HOST:PORT", help="of machine 0")
    machines.add_argument("--machines", type=positive, metavar="N", help="how many")
    machines.add_argument("--machine", type=int, metavar="I", help="which one: 0 … N-1")


SHOWN = 4096
"""Pictures on the page and the contact sheet, at most: a browser can bear no more."""


class Job(NamedTuple):
    """A lane with the place of its picture, and what makes its manifest."""

    lane: Lane
    out: Path
    manifest: Callable[[], dict[str, Any]]


def grid_command(args: argparse.Namespace) -> int:
    """Paint every content in every style with every setting; return the exit code."""
    _meet(args)
    args.quality = args.quality or ("draft" if args.preview else "normal")
    if args.preview:
        args.size, args.out = args.size or PREVIEW, args.out / "preview"
    contents, unreadable = find_pictures(args.content, "content")
    styles, more = find_pictures(args.style, "style")
    unreadable += more
    if args.out.resolve() in {path.resolve().parent for path in contents + styles}:
        raise ValueError(
            f"expected an output folder of its own, got {args.out}, where pictures to "
            "paint from are; choose another one"
        )
    page, sheet = args.out / "index.html", args.out / "sheet.png"
    check_page(page, sheet)
    args.weights, reason = registry.choose(args.weights, quiet=args.quiet)
    path = registry.locate(args.weights)
    jobs = make_jobs(args, contents, styles, format.sha256(path))
    painted = [is_painted(job) for job in jobs]
    if args.out.exists() and not args.out.is_dir():
        raise ValueError(f"expected a folder at {args.out}, got a file")
    done = _agree(jobs, path, painted)
    missing = [job for job, there in zip(jobs, done, strict=True) if not there]
    index, count = jax.process_index(), jax.process_count()
    _part()
    mine = share_of_lanes([job.lane for job in missing], index, count)
    tell = partial(say, quiet=args.quiet)
    tell(f"device {describe_device()}; weights {args.weights} ({reason})")
    tell(
        f"{len(jobs)} pictures: {len(contents)} contents, {len(styles)} styles, "
        f"{len({as_setting(job.lane.setting) for job in jobs})} settings; "
        f"{sum(done)} are there already"
        + (f"; {len(mine)} are for machine {index} of {count}" if count > 1 else "")
    )
    # What does not fit is refused before anything is written.
    plan_batches(mine, lane_mesh(), batch=args.batch)
    args.out.mkdir(parents=True, exist_ok=True)
    disk.check_folder(args.out)
    cells = [make_cell(args, job, contents, styles) for job in jobs[:SHOWN]]
    first = f"the first {SHOWN} of " if len(jobs) > SHOWN else ""
    save_page(page, cells, f"{args.out.name}: {first}{len(jobs)} pictures")
    began = time.perf_counter()
    if mine:
        _paint(args, mine, jobs, contents, styles, path)
    # Of several machines, the one that finishes last finds everything there.
    last = count == 1 or all(cell.out.exists() for cell in cells)
    if last:
        save_sheet(sheet, cells)
    tell(
        f"painted {len(mine)} pictures in {time.perf_counter() - began:.0f} s; "
        f"see {page}" + (f" and {sheet}" if last else "")
    )
    return _exit_code(jobs, unreadable)


def check_page(page: Path, sheet: Path) -> None:
    """Raise a ValueError if there is a page or a sheet that no grid has made."""
    ours = page.exists() and PAGE_MARK.encode() in page.read_bytes()
    for path in (page, sheet):
        if path.exists() and not ours:
            raise ValueError(
                f"expected nothing or the page of a grid at {path}, got another file; "
                "choose another output folder"
            )


def _meet(args: argparse.Namespace) -> None:
    """Join the other machines, if there are any."""
    if args.coordinator is None and (args.machines, args.machine) != (None, None):
        raise ValueError("expected --coordinator HOST:PORT beside --machines, got none")
    if args.coordinator is not None:
        if args.machines is None or args.machine not in range(args.machines):
            raise ValueError(
                "expected --machines N and --machine 0 … N-1 beside --coordinator, got "
                f"{args.machines} and {args.machine}"
            )
        if not re.fullmatch(r".+:\d+", args.coordinator):
            raise ValueError(
                f"expected --coordinator HOST:PORT, got {args.coordinator!r}"
            )
        try:
            jax.distributed.initialize(args.coordinator, args.machines, args.machine)
        except RuntimeError as error:
            raise ValueError(
                f"expected machine 0 to answer at {args.coordinator}, got {error}"
            ) from error
    elif args.distributed:
        try:
            jax.distributed.initialize()
        except ValueError as error:
            raise ValueError(
                "expected machines that JAX detects, as under SLURM, Kubernetes or on "
                f"TPUs, got none ({error}); use --coordinator instead"
            ) from error


def _agree(jobs: list[Job], weights_path: Path, done: list[bool]) -> list[bool]:
    """What any machine sees as painted, so that all share out the same rest.

    Raises:
        ValueError: On all machines, if they see other pictures or weights.
    """
    if jax.process_count() == 1:
        return done
    told = [format.sha256(weights_path), *(job.out.name for job in jobs)]
    digest = hashlib.sha256("\n".join(told).encode()).digest()
    digests = multihost_utils.process_allgather(np.frombuffer(digest, np.uint8))
    if len({row.tobytes() for row in digests}) > 1:
        raise ValueError(
            "expected the same pictures and weights on all machines, got others; give "
            "all the same command, folders that all can see, and the same --weights"
        )
    seen = multihost_utils.process_allgather(np.array(done))
    return [bool(x) for x in np.any(seen, axis=0)]


def _part() -> None:
    """Leave the other machines; from here on none waits for, or dies with, another."""
    if jax.distributed.is_initialized():
        jax.distributed.shutdown()


def find_pictures(patterns: Sequence[str], kind: str) -> tuple[list[Path], list[str]]:
    """Collect pictures from files, folders and patterns.

    Args:
        patterns: Paths of files or folders, or patterns. Folders are not searched
            deeper, and files in them that are no pictures by their suffix are left out.
        kind: `content` or `style`, for messages.

    Returns:
        Pictures that can be read, in the order given, folders sorted; and for each one
        that cannot, which is said at once, a line that tells why.

    Raises:
        ValueError: If nothing is found or can be read, or two names are the same.
    """
    found: dict[Path, Path] = {}
    suffixes = files.readable_suffixes()
    for pattern in patterns:
        path = Path(pattern)
        paths = [path]
        if path.is_dir():
            paths = sorted(
                x
                for x in path.iterdir()
                if x.suffix.lower() in suffixes and x.name[0] != "." and x.is_file()
            )
            if not paths:
                raise ValueError(
                    f"expected pictures in {path}, got none; {kind} needs one"
                )
        elif not path.exists() and glob.has_magic(pattern):
            paths = sorted(map(Path, glob.glob(pattern)))
            if not paths:
                raise ValueError(f"expected pictures like {pattern}, got none")
        elif not path.exists():
            raise ValueError(f"expected a picture at {path}, got nothing there")
        found |= {x.resolve(): x for x in paths if x.resolve() not in found}
    stems: dict[str, Path] = {}
    for path in found.values():
        other = stems.setdefault(path.stem.casefold(), path)
        if other is not path:
            raise ValueError(
                f"expected {kind}s of different names, got {other} and {path}; "
                "results are named after them, so rename one"
            )
    readable, problems = [], []
    for path in found.values():
        try:
            str(path).encode()
            files.load_image(path, size=16)
            readable.append(path)
        except ValueError as error:
            problems.append(str(error))
            print(f"jaxnst: left out: {error}", file=sys.stderr, flush=True)
    if not readable:
        raise ValueError(f"expected a {kind} that can be read, got none")
    return readable, problems


def make_jobs(
    args: argparse.Namespace,
    contents: list[Path],
    styles: list[Path],
    weights_sha256: str,
) -> list[Job]:
    """Lanes, names and manifests of all pictures.

    Raises:
        ValueError: If a sweep is bad, a picture too small, two results would get the
            same name, or the folder holds a picture of another run.
    """
    vary: dict[str, list[Any]] = dict(args.vary)
    if len(vary) < len(args.vary):
        raise ValueError("expected --vary once for each name, got one twice")
    if args.seeds is not None:
        if "seed" in vary:
            raise ValueError("expected --seeds or --vary seed=…, got both")
        vary["seed"] = list(range(args.seed, args.seed + args.seeds))
    if "size" in vary and args.size is not None:
        raise ValueError("size changes nothing beside --size or --preview")
    if "recipe" in vary:
        vary["recipe"] = [
            recipe_from(argparse.Namespace(**vars(args) | {"recipe": name}))
            for name in vary["recipe"]
        ]
    shapes = [files.image_shape(path) for path in contents]

    def shape(i: int, recipe: Recipe) -> tuple[int, int]:
        return geometry.fit_shape(
            shapes[i], args.size or content_size(shapes[i], recipe)
        )

    lanes = make_lanes(
        len(contents),
        len(styles),
        recipe_from(args),
        shape,
        key=jax.random.key(args.seed),
        vary=vary,
    )
    # Too small a style is found now, and not when its turn comes.
    native = [files.image_shape(path) for path in styles]
    for lane in lanes:
        for style in lane.styles:
            style_shape(native[style], lane.shape, lane.recipe)
    hashes = {path: format.sha256(path) for path in (*contents, *styles)}
    jobs: dict[str, Job] = {}
    for lane in lanes:
        pictures = [contents[lane.content], *(styles[j] for j in lane.styles)]
        manifest = partial(
            make_manifest,
            lane.recipe,
            content=pictures[0],
            styles=pictures[1:],
            hashes=[hashes[path] for path in pictures],
            blend=lane.blend,
            init=None,
            shape=lane.shape,
            seed=lane.setting.get("seed", args.seed),
            weights=args.weights,
            weights_sha256=weights_sha256,
        )
        parts = [path.stem for path in pictures] + [as_setting(lane.setting)]
        name = "__".join(filter(None, parts)).replace(":", "-").replace("/", "-")
        if len(name.encode()) + 4 > disk.LONGEST_NAME:
            raise ValueError(f"expected shorter names of pictures, got {name} together")
        job = Job(lane, args.out / f"{name}.png", manifest)
        if jobs.setdefault(name.casefold(), job) is not job:
            raise ValueError(
                f"expected names that differ, got {name} twice; rename one"
            )
    return list(jobs.values())


def as_setting(setting: dict[str, Any]) -> str:
    """A setting in a few words, such as `style_weight=100,seed=2`."""
    texts = (
        f"{name}={value.name if name == 'recipe' else as_text(value)}"
        for name, value in setting.items()
    )
    return ",".join(texts)


def is_painted(job: Job) -> bool:
    """Whether a picture is there, with a manifest that says it is the one.

    Raises:
        ValueError: If what is there is of another run.
    """
    beside = manifest_path(job.out)
    if not job.out.exists():
        return False
    advice = "paint into another folder, or remove it"
    wanted = job.manifest()
    try:
        before = json.loads(beside.read_bytes())
        if not isinstance(before, dict):
            raise ValueError
    except (OSError, ValueError):
        raise ValueError(
            f"expected nothing or a picture of this grid at {job.out}, got one without "
            f"a manifest; {advice}"
        ) from None
    if other := difference(before, {key: wanted[key] for key in SAME}):
        raise ValueError(
            f"expected nothing or a picture of this grid at {job.out}, got one with "
            f"{other}; {advice}"
        )
    return True


def _paint(
    args: argparse.Namespace,
    mine: list[Lane],
    jobs: list[Job],
    contents: list[Path],
    styles: list[Path],
    path: Path,
) -> None:
    """Paint lanes, and write each picture as soon as it is there."""
    of_lane = {id(job.lane): job for job in jobs}

    @lru_cache(maxsize=16)
    def load(j: int, shape: tuple[int, int], recipe: Recipe):
        return load_style(styles[j], shape, recipe)

    def save(painted: Painted) -> None:
        job = of_lane[id(painted.lane)]
        result = describe_result(painted, sum(painted.seconds))
        # The picture comes last: one that is there has its manifest.
        write_manifest(manifest_path(job.out), job.manifest() | result)
        files.save_image(job.out, painted.image)

    # Pictures are encoded while the next batch is painted.
    saving: deque[Future] = deque()
    with (
        GridReporter(mine, quiet=args.quiet) as reporter,
        ThreadPoolExecutor(max_workers=1) as saver,
    ):
        for painted in paint_lanes(
            registry.load_backbone(path),
            mine,
            lambda lane: load_content(contents[lane.content], args.size, lane.recipe),
            lambda lane: [load(j, lane.shape, lane.recipe.sight) for j in lane.styles],
            batch=args.batch,
            on_chunk=reporter,
        ):
            saving.append(saver.submit(save, painted))
            while saving and (saving[0].done() or len(saving) > WAITING):
                saving.popleft().result()
        for future in saving:
            future.result()


WAITING = 256
"""Pictures that may wait for being saved."""


def make_cell(
    args: argparse.Namespace, job: Job, contents: list[Path], styles: list[Path]
) -> Cell:
    """A picture as the page shows it, with the command that paints it larger."""
    lane = job.lane
    chosen = tuple(styles[j] for j in lane.styles)
    out = f"{job.out.stem}-large.png"
    command = ["jaxnst", "stylize", contents[lane.content], *chosen, "-o", out]
    command += ["--recipe", lane.recipe.name, "--weights", args.weights]
    command += ["--seed", lane.setting.get("seed", args.seed)]
    if not args.preview:
        command += ["--size", max(lane.shape) * LARGER]
    if lane.blend is not None:
        command += [f"--blend={as_text(lane.blend)}"]
    if args.allow_huge:
        command += ["--allow-huge"]
    named = default_recipe(lane.recipe.name)
    # A preview's few steps are not those of the large picture, unless asked for.
    usual = recipe_from(
        argparse.Namespace(recipe=named.name, quality=args.quality, steps=None, set=[])
    )
    fewer = ("first_steps", "steps") if args.preview else ()
    for name in Recipe.__dataclass_fields__:
        value = getattr(lane.recipe, name)
        optimizer_differs = lane.recipe.optimizer != named.optimizer
        told = name == "learning_rate" and optimizer_differs
        default = getattr(usual if name in fewer else named, name)
        if value != default or told:
            command += ["--set", f"{name}={as_text(value)}"]
    return Cell(
        contents[lane.content],
        chosen,
        as_setting(lane.setting),
        job.out,
        shlex.join(map(str, command)),
    )


def _exit_code(jobs: list[Job], unreadable: list[str]) -> int:
    """Say what went wrong on the way, and tell it from success."""
    diverged = [
        str(job.out)
        for job in jobs
        if job.out.exists()
        and json.loads(manifest_path(job.out).read_bytes()).get("status") == "diverged"
    ]
    for name in diverged:
        print(f"jaxnst: error: a step was not finite: {name}", file=sys.stderr)
    for problem in unreadable:
        print(f"jaxnst: error: left out: {problem}", file=sys.stderr)
    return 2 if unreadable else 3 if diverged else 0
