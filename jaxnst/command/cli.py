"""The `jaxnst` command: parse, one call, save.

Exit codes: 0 done, 2 bad input or usage, 3 numerical failure, 130 interrupted.
"""

import argparse
import contextlib
import io
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxnst import disk
from jaxnst.command.bench import add_bench_flags, bench_command
from jaxnst.command.flags import (
    add_recipe_flags,
    add_run_flags,
    byte_count,
    numbers,
    positive,
    recipe_from,
)
from jaxnst.command.grid import add_grid_flags, grid_command
from jaxnst.command.manifest import (
    SAME,
    compile_timer,
    describe_result,
    make_manifest,
    manifest_path,
    write_manifest,
)
from jaxnst.command.reporter import Reporter, ignore_output, say
from jaxnst.objective import check_blend
from jaxnst.painting.checkpoint import load_checkpoint
from jaxnst.painting.memory import (
    choose_tile,
    host_bytes,
    in_gigabytes,
    largest_size,
    process_bytes,
    usable_memory,
)
from jaxnst.painting.multiscale import load_content, load_style, stylize
from jaxnst.painting.scales import (
    check_content,
    content_size,
    scale_shapes,
    scale_steps,
    style_shape,
)
from jaxnst.pictures import files, geometry, samples
from jaxnst.recipes import RECIPES, Recipe, get_recipe
from jaxnst.tiles import plan_tiles, tile_mesh
from jaxnst.types import Image
from jaxnst.weights import format, registry
from jaxnst.weights.convert import convert, read_foreign, to_backbone

STARTS = get_args(next(f.type for f in fields(Recipe) if f.name == "init"))
"""What a run may start from, beside a file."""


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the mistake and exit with 2."""
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def make_parser() -> Parser:
    """Build the parser of the whole command."""
    parser = Parser(prog="jaxnst", description="Paint a photograph in another's style.")
    parser.add_argument(
        "--version", action="version", version=f"jaxnst {version('jaxnst')}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    p = commands.add_parser("stylize", help="paint one picture")
    add_stylize_flags(p)
    p.set_defaults(call=stylize_command)

    p = commands.add_parser("plan", help="tell how much memory that would take")
    add_stylize_flags(p)
    p.set_defaults(call=plan_command)

    p = commands.add_parser("grid", help="paint contents × styles × settings")
    add_grid_flags(p)
    p.set_defaults(call=grid_command)

    p = commands.add_parser("demo", help="paint the sample pictures")
    p.add_argument(
        "-o", "--out", type=Path, default=Path("demo"), help="folder (default: demo)"
    )
    p.add_argument(
        "--style",
        choices=samples.SAMPLES[1:],
        nargs="+",
        default=samples.SAMPLES[1:3],
        help="samples to learn from (default: the first two)",
    )
    add_run_flags(p, size=256, quality="draft", weights="embedded")
    p.add_argument("--resume", action="store_true", help="go on where it stopped")
    p.set_defaults(call=demo_command)

    p = commands.add_parser("bench", help="time this machine")
    add_bench_flags(p)
    p.set_defaults(call=bench_command)

    p = commands.add_parser("recipes", help="list the recipes, or show some")
    p.add_argument("name", nargs="*", help="whose numbers to print")
    p.set_defaults(call=recipes_command)

    p = commands.add_parser("weights", help="weight files")
    actions = p.add_subparsers(required=True, metavar="ACTION")
    a = actions.add_parser("list", help="named weights and where they are")
    a.set_defaults(call=weights_list_command)
    a = actions.add_parser("pull", help="fetch weights and convert them, once")
    a.add_argument("name", choices=registry.ASSETS, help="see: jaxnst weights list")
    a.add_argument("--quiet", action="store_true", help="print errors only")
    a.set_defaults(call=weights_pull_command)
    a = actions.add_parser("convert", help="make a weights file of another project's")
    a.add_argument("source", type=Path, help="of Keras, PyTorch, MatConvNet, Caffe …")
    a.add_argument("target", type=Path, help="the .h5 file to write")
    a.add_argument(
        "--family",
        choices=("caffe", "torchvision"),
        help="input that the weights were trained on, where the file does not tell",
    )
    a.set_defaults(call=weights_convert_command)
    a = actions.add_parser("check", help="verify a file and describe it")
    a.add_argument("path", help="a path, or a name such as embedded")
    a.set_defaults(call=weights_check_command)
    return parser


def add_stylize_flags(p: argparse.ArgumentParser) -> None:
    """Add what `stylize` understands, and `plan` in its place."""
    p.add_argument("content", type=Path, help="the photograph")
    p.add_argument(
        "style", type=Path, nargs="+", help="one or more pictures to learn from"
    )
    p.add_argument("-o", "--out", type=Path, help="default: CONTENT-STYLE.png here")
    add_run_flags(p, size=None, quality="normal")
    p.add_argument("--blend", type=numbers, help="a weight for each style: W,W,…")
    p.add_argument("--init", help="start image: content, noise, style or a file")
    p.add_argument(
        "--save-every",
        type=positive,
        metavar="N",
        help="keep a preview at every N steps of each scale",
    )
    p.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE.npz",
        help="keep the state there every half minute, until the picture is done",
    )
    p.add_argument(
        "--bits", type=int, choices=(8, 16), default=8, help="of a PNG or TIFF"
    )
    p.add_argument(
        "--memory",
        type=byte_count,
        metavar="8GB",
        help="paint in so much of it, in tiles if need be (default: what is free)",
    )
    add_recipe_flags(p)
    p.add_argument("--resume", action="store_true", help="go on from the checkpoint")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    args = make_parser().parse_args(argv)
    kept = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    registry.keep_programs(kept or registry.cache_folder() / "xla")
    huge = getattr(args, "allow_huge", False)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names may be in any encoding
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with files.any_number_of_pixels() if huge else contextlib.nullcontext():
            return args.call(args)
    except jax.errors.JaxRuntimeError as error:
        hint = ""
        if "RESOURCE_EXHAUSTED" in str(error):
            flags = "--memory or --size" if hasattr(args, "memory") else "--size"
            hint = f"; use a smaller {flags}"
        return _fail(f"{str(error).splitlines()[0]}{hint}")
    except BrokenPipeError:
        ignore_output()
        return 0
    except (ValueError, OSError) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        print("jaxnst: interrupted", file=sys.stderr)
        return 130


def _fail(message: str) -> int:
    print(f"jaxnst: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def stylize_command(args: argparse.Namespace) -> int:
    """Paint one picture."""
    recipe, out, shape = check_request(args)
    if args.memory is None:
        args.memory = usable_memory()
    choose_tile(shape, recipe, args.memory)  # or refuse it, before a picture is read
    kept = args.checkpoint or _checkpoint_beside(out)
    if kept.exists() and not args.resume:
        raise ValueError(
            f"expected --resume, since {kept} is there and keeps a run; say it, or "
            "remove that file"
        )
    content = load_content(args.content, args.size, recipe)
    init = None
    if args.init is not None and args.init not in STARTS:
        init = files.load_image(args.init, size=max(content.shape))
    styles = [load_style(path, content.shape, recipe) for path in args.style]
    return paint(args, recipe, content, styles, out, kept, init=init)


def check_request(args: argparse.Namespace) -> tuple[Recipe, Path, tuple[int, int]]:
    """The recipe, the output and the result's shape; all that is wrong is raised."""
    recipe = recipe_from(args)
    inputs = [args.content, *args.style]
    if args.init in STARTS:
        recipe = recipe.replace(init=args.init)
    elif args.init is not None:
        if not Path(args.init).exists():
            raise ValueError(
                f"expected --init {', '.join(STARTS)} or a file, got {args.init!r}"
            )
        files.image_shape(args.init)
        inputs.append(Path(args.init))
    if args.weights != "auto":
        inputs.append(registry.locate(args.weights))
    out = args.out or _free_path(args.content, args.style)
    for target in filter(None, (out, args.checkpoint)):
        disk.check_target(target)
        if target.resolve() in {path.resolve() for path in inputs}:
            raise ValueError(f"expected an output beside the inputs, got {target}")
    if args.checkpoint is not None and args.checkpoint.suffix != ".npz":
        raise ValueError(f"expected --checkpoint FILE.npz, got {args.checkpoint}")
    if args.blend is not None:
        check_blend(args.blend, len(args.style))
    native = files.image_shape(args.content)
    shape = geometry.fit_shape(native, args.size or content_size(native, recipe))
    files.output_format(out, shape, bits=args.bits)
    check_content(shape, recipe)
    for path in args.style:
        style_shape(files.image_shape(path), shape, recipe)
    return recipe, out, shape


def plan_command(args: argparse.Namespace) -> int:
    """Tell how a picture would be painted, scale by scale, and in how much memory."""
    recipe, _, shape = check_request(args)
    memory = usable_memory() if args.memory is None else args.memory
    shapes = scale_shapes(shape, recipe)
    lines, peak = [], 0
    # The finest first, since it is the one that may not fit.
    for (height, width), steps in reversed(
        list(zip(shapes, scale_steps(recipe, len(shapes)), strict=True))
    ):
        tile = choose_tile((height, width), recipe, memory)
        how = "at once"
        if tile is not None:
            tiles = plan_tiles((height, width), recipe.layers, tile)
            count = len(tiles.starts)
            how = f"in {count} tile{'s' * (count > 1)} of "
            how += f"{tiles.shape[1]} x {tiles.shape[0]}"
        lines.insert(0, f"{f'{width} x {height} px':<18} {steps:>5} steps {how}")
        peak = max(peak, process_bytes((height, width), recipe, tile))
    kept = host_bytes(shape, recipe)
    on_host = f"{in_gigabytes(kept)} on the host; " if kept else ""
    print("\n".join(lines))
    print(
        f"{in_gigabytes(peak)} at its peak, of {in_gigabytes(memory)}; {on_host}"
        f"the largest that fits: --size {largest_size(shape, recipe, memory)}"
    )
    return 0


def demo_command(args: argparse.Namespace) -> int:
    """Paint the sample content in the sample styles."""
    if args.out.exists() and not args.out.is_dir():
        raise ValueError(f"expected a folder at {args.out}, got a file")
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.style:
        out = args.out / f"harbour-{name}.png"
        if args.resume and manifest_path(out).exists():
            say(f"{out} is there already", quiet=args.quiet)
            continue
        pictures = (samples.sample_path("harbour"), samples.sample_path(name))
        command = ["stylize", *map(str, pictures), f"--out={out}"]
        flags = vars(args).keys() - {"out", "style", "call"}
        own = {flag: getattr(args, flag) for flag in flags}
        own["resume"] = args.resume and _checkpoint_beside(out).exists()
        defaults = vars(make_parser().parse_args(command))
        if code := stylize_command(argparse.Namespace(**defaults | own)):
            return code
    return 0


def recipes_command(args: argparse.Namespace) -> int:
    """List the recipes, or show some of them whole."""
    if args.name:
        print("\n\n".join(str(get_recipe(name)) for name in args.name))
    else:
        for recipe in RECIPES.values():
            print(f"{recipe.name:<14} {recipe.summary}")
    return 0


def weights_list_command(args: argparse.Namespace) -> int:
    """List the named weights and where they are."""
    for name, asset in registry.ASSETS.items():
        path = registry.asset_path(name)
        place = path if path.is_file() else f"not here; jaxnst weights pull {name}"
        print(f"{name:<12} {asset.summary}; {asset.licence}\n{'':<12} {place}")
    return 0


def weights_pull_command(args: argparse.Namespace) -> int:
    """Fetch named weights and convert them."""
    path = registry.pull(args.name, quiet=args.quiet)
    if not args.quiet:
        print(
            f"{args.name} weights are at {path} ({registry.ASSETS[args.name].licence})"
        )
    return 0


def weights_convert_command(args: argparse.Namespace) -> int:
    """Turn a weights file of another project into one of ours."""
    disk.check_target(args.target)
    if args.target.suffix != ".h5":
        raise ValueError(f"expected a target ending in .h5, got {args.target}")
    source = registry.locate(str(args.source))
    if args.target.exists() and args.target.samefile(source):
        raise ValueError(f"expected a target beside the source, got {args.target}")
    convert(source, args.target, family=args.family)
    print(f"wrote {args.target}; use it with --weights {args.target}")
    return 0


def weights_check_command(args: argparse.Namespace) -> int:
    """Verify a weights file and describe it."""
    path = registry.locate(args.path)
    about = format.describe(path)
    if format.is_ours(path):
        backbone = format.read_backbone(path)
    else:
        reading = read_foreign(path)
        about["layout"] = reading.layout
        backbone = to_backbone(reading, about["sha256"], path)
        about["family"] = backbone.family
    for key, value in about.items():
        print(f"{key:<15} {value}")
    for name, conv in backbone.params.items():
        mean = backbone.mean_activation[name.replace("conv", "relu")]
        print(
            f"{name}  kernel {'x'.join(map(str, conv['kernel'].shape)):<11}"
            f"  rms {float(np.sqrt((conv['kernel'] ** 2).mean())):<7.4f}"
            f"  mean activation {float(mean.mean()):<9.4g}"
            f"  silent filters {int((mean == 0).sum())}"
        )
    print("all names and shapes are as they should be, all numbers are finite")
    if "content_sha256" in about:
        print("the numbers have the checksum that the file says")
    return 0


def _free_path(content: Path, styles: list[Path]) -> Path:
    """`CONTENT-STYLE.png` in the current folder, numbered if that is taken."""
    stem = "-".join(path.stem for path in (content, *styles))
    stem = os.fsencode(stem)[:100].decode(errors="ignore")
    path, number = Path(f"{stem}.png"), 2
    while path.exists():
        path, number = Path(f"{stem}-{number}.png"), number + 1
    return path


def _checkpoint_beside(out: Path) -> Path:
    return out.with_name(out.name + ".checkpoint.npz")


def paint(
    args: argparse.Namespace,
    recipe: Recipe,
    content: Image,
    styles: list[Image],
    out: Path,
    kept: Path,
    init: Image | None = None,
) -> int:
    """Paint a picture and write it with its manifest; return the exit code."""
    name, reason = registry.choose(args.weights, quiet=args.quiet)
    path = registry.locate(name)
    backbone = registry.load_backbone(path)
    pictures = [args.content, *args.style]
    if init is not None:
        pictures.append(Path(args.init))
    manifest = make_manifest(
        recipe,
        content=args.content,
        styles=args.style,
        hashes=[format.sha256(picture) for picture in pictures],
        blend=args.blend,
        init=args.init,
        shape=content.shape,
        seed=args.seed,
        weights=name,
        weights_sha256=format.sha256(path),
    )
    inputs = {key: manifest[key] for key in SAME}
    resume = None
    if args.resume:
        resume = load_checkpoint(kept, recipe, inputs)
        manifest["resumed"] = {"scale": resume.scale, "taken": resume.taken}
    say(f"device {manifest['device']}; weights {name} ({reason})", quiet=args.quiet)
    started = time.perf_counter()
    with (
        compile_timer() as compiling,
        Reporter(recipe, content, args, out, kept, inputs, resume) as reporter,
    ):
        result = stylize(
            backbone,
            content,
            styles,
            recipe,
            key=jax.random.key(args.seed),
            blend=None if manifest["blend"] is None else jnp.array(manifest["blend"]),
            init=init,
            resume=resume,
            memory=args.memory,
            mesh=tile_mesh(),
            on_chunk=reporter,
            chunk=args.save_every or 50,
            throw=False,
        )
    seconds = time.perf_counter() - started
    manifest |= describe_result(result, seconds, math.fsum(compiling))
    files.save_image(out, result.image, bits=args.bits)
    write_manifest(manifest_path(out), manifest)
    kept.unlink(missing_ok=True)
    height, width = result.image.shape[:2]
    took = f"in {manifest['seconds']['all']:.0f} s"
    say(f"wrote {out} ({width} x {height} px) {took}", quiet=args.quiet)
    if result.status == "diverged":
        print(
            f"jaxnst: error: a step was not finite; {out} is the last finite picture; "
            "lower --learning-rate or the weights",
            file=sys.stderr,
        )
        return 3
    return 0
