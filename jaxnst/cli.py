"""The `jaxnst` command: parse, one call, save.

Exit codes: 0 done, 2 bad input or usage, 3 numerical failure, 130 interrupted.
"""

import argparse
import contextlib
import dataclasses
import json
import math
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn, get_args

import jax
import jax.numpy as jnp
import numpy as np

import jaxnst
from jaxnst import images, weights
from jaxnst.checkpoint import load_checkpoint
from jaxnst.multiscale import Result, stylize
from jaxnst.recipes import RECIPES, Recipe, get_recipe
from jaxnst.reporter import Reporter
from jaxnst.types import Image

QUALITY = {"draft": 0.4, "normal": 1.0, "best": 3.0}
"""Factor on a recipe's number of steps."""

OVERRIDES = {
    "style_scale": "long edge of the style over the content's",
    "content_weight": "factor on the content term",
    "style_weight": "factor on the style term",
    "tv_weight": "factor on the total variation",
    "optimizer": "adam or lbfgs",
    "learning_rate": "step size of the optimiser",
    "pooling": "max, average or l2",
    "dtype": "of the convolutions, float32 or bfloat16",
}
"""Fields of the recipe that have a flag, with its help."""


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the mistake and exit with 2."""
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def make_parser() -> Parser:
    """Build the parser of the whole command."""
    parser = Parser(prog="jaxnst", description="Paint a photograph in another's style.")
    parser.add_argument(
        "--version", action="version", version=f"jaxnst {jaxnst.__version__}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    p = commands.add_parser("stylize", help="paint one picture")
    p.add_argument("content", type=Path, help="the photograph")
    p.add_argument(
        "style", type=Path, nargs="+", help="one or more pictures to learn from"
    )
    p.add_argument("-o", "--out", type=Path, help="default: CONTENT-STYLE.png here")
    _add_run_flags(p, size=None, quality="normal")
    p.add_argument("--blend", type=_numbers, help="a weight for each style: W,W,…")
    p.add_argument("--init", help="start image: content, noise, style or a file")
    p.add_argument("--save-every", type=_positive, metavar="N", help="keep a preview")
    p.add_argument("--checkpoint", type=Path, help="where to keep the run's state")
    p.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    types = {field.name: field.type for field in dataclasses.fields(Recipe)}
    for name, text in OVERRIDES.items():
        flag = "precision" if name == "dtype" else name.replace("_", "-")
        choices = get_args(types[name]) or None
        kind = str if choices else types[name]
        p.add_argument(f"--{flag}", dest=name, type=kind, choices=choices, help=text)
    p.set_defaults(call=stylize_command)

    p = commands.add_parser("demo", help="paint the sample pictures")
    p.add_argument("-o", "--out", type=Path, default=Path("demo"), help="folder")
    p.add_argument("--style", choices=images.SAMPLES[1:], nargs="+", help="which ones")
    _add_run_flags(p, size=256, quality="draft")
    p.set_defaults(call=demo_command)

    p = commands.add_parser("recipes", help="list the recipes, or show some")
    p.add_argument("name", nargs="*")
    p.set_defaults(call=recipes_command)

    p = commands.add_parser("weights", help="weight files")
    actions = p.add_subparsers(required=True, metavar="ACTION")
    a = actions.add_parser("list", help="named weights and where they are")
    a.set_defaults(call=weights_list_command)
    a = actions.add_parser("check", help="verify a file and describe it")
    a.add_argument("path", help="a path, or a name such as embedded")
    a.set_defaults(call=weights_check_command)
    return parser


def _add_run_flags(p: argparse.ArgumentParser, size: int | None, quality: str) -> None:
    p.add_argument("--recipe", default="painterly", help="see: jaxnst recipes")
    p.add_argument(
        "--weights", default="auto", help="auto, embedded, imagenet or a file"
    )
    p.add_argument(
        "--size",
        type=_positive,
        default=size,
        help=f"long edge of the result in pixels (default: {size or 'at most 512'})",
    )
    p.add_argument("--quality", choices=QUALITY, default=quality)
    p.add_argument("--steps", type=_positive, help="steps at every scale but the first")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--quiet", action="store_true", help="print errors only")


def _positive(text: str) -> int:
    with contextlib.suppress(ValueError):
        if int(text) >= 1:
            return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number ≥ 1, got {text!r}")


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers such as 0.7,0.3, got {text!r}"
        ) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    args = make_parser().parse_args(argv)
    jax.config.update("jax_compilation_cache_dir", str(weights.cache_folder() / "xla"))
    try:
        return args.call(args)
    except ValueError as error:
        print(f"jaxnst: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("jaxnst: interrupted", file=sys.stderr)
        return 130


def stylize_command(args: argparse.Namespace) -> int:
    """Paint one picture."""
    out = args.out or _free_path(args.content, args.style)
    images.output_format(out)
    images.check_folder(out.parent)
    recipe = recipe_from(args)
    init = None
    if args.init in ("content", "noise", "style"):
        recipe = recipe.replace(init=args.init)
    elif args.init is not None:
        init = images.load_image(args.init)
    content = load_content(args.content, args.size)
    styles = [images.load_image(path) for path in args.style]
    if args.blend is not None and len(args.blend) != len(styles):
        raise ValueError(
            f"expected {len(styles)} numbers in --blend, one for each style, "
            f"got {len(args.blend)}"
        )
    return paint(args, recipe, content, styles, out, init=init)


def demo_command(args: argparse.Namespace) -> int:
    """Paint the sample content in the sample styles."""
    recipe = recipe_from(args)
    args.out.mkdir(parents=True, exist_ok=True)
    args.content = images.sample_path("harbour")
    content = load_content(args.content, args.size)
    for name in args.style or images.SAMPLES[1:3]:
        args.style = [images.sample_path(name)]
        styles = [images.load_image(args.style[0])]
        code = paint(args, recipe, content, styles, args.out / f"harbour-{name}.png")
        if code:
            return code
    return 0


def recipes_command(args: argparse.Namespace) -> int:
    """List the recipes, or show some of them whole."""
    if args.name:
        print("\n\n".join(str(get_recipe(name)) for name in args.name))
    else:
        for recipe in RECIPES.values():
            print(f"{recipe.name:<12} {recipe.summary}")
    return 0


def weights_list_command(args: argparse.Namespace) -> int:
    """List the named weights and where they are."""
    for asset in weights.ASSETS.values():
        try:
            place = str(weights.locate(asset.name))
        except ValueError:
            place = "not here"
        print(f"{asset.name:<10} {asset.summary}: {place}")
    return 0


def weights_check_command(args: argparse.Namespace) -> int:
    """Verify a weights file and describe it."""
    backbone = weights.load_backbone(args.path)
    for key, value in weights.describe(weights.locate(args.path)).items():
        print(f"{key:<10} {value}")
    for name, conv in backbone.params.items():
        mean = backbone.mean_activation[name.replace("conv", "relu")]
        print(
            f"{name}    kernel {'x'.join(map(str, conv['kernel'].shape)):<13}"
            f" rms {float(np.sqrt((conv['kernel'] ** 2).mean())):.4f}"
            f"   mean activation {float(mean.mean()):.4f}"
        )
    print("all names, shapes and numbers are as they should be")
    return 0


def recipe_from(args: argparse.Namespace) -> Recipe:
    """The recipe that the flags ask for."""
    recipe = get_recipe(args.recipe)
    asked = {name: getattr(args, name, None) for name in OVERRIDES}
    recipe = recipe.replace(**{k: v for k, v in asked.items() if v is not None})
    factor = QUALITY[args.quality]
    if args.steps is not None:
        factor = args.steps / recipe.steps
    return recipe.replace(
        first_steps=max(1, round(recipe.first_steps * factor)),
        steps=max(1, round(recipe.steps * factor)),
    )


def load_content(path: Path, size: int | None) -> Image:
    """Read the content, at most 512 px unless a size was asked for."""
    return images.load_image(path, size=size or 512, enlarge=size is not None)


def _free_path(content: Path, styles: list[Path]) -> Path:
    """`CONTENT-STYLE.png` in the current folder, numbered if that is taken."""
    stem = "-".join(path.stem for path in (content, *styles))
    path, number = Path(f"{stem}.png"), 2
    while path.exists():
        path, number = Path(f"{stem}-{number}.png"), number + 1
    return path


def paint(
    args: argparse.Namespace,
    recipe: Recipe,
    content: Image,
    styles: list[Image],
    out: Path,
    init: Image | None = None,
) -> int:
    """Paint a picture and write it with its manifest; return the exit code."""
    name, reason = weights.choose(args.weights)
    path = weights.locate(name)
    backbone = weights.load_backbone(path)
    manifest = make_manifest(args, recipe, content, name, path)
    checkpoint = getattr(args, "checkpoint", None)
    kept = checkpoint or out.with_name(out.name + ".checkpoint.npz")
    if checkpoint is not None:
        images.check_folder(checkpoint.parent)
    same = ("content", "styles", "blend", "recipe", "size", "seed", "weights_sha256")
    inputs = {key: manifest[key] for key in same}
    resume = None
    if getattr(args, "resume", False):
        resume = load_checkpoint(kept, recipe, inputs)
    say = (lambda text: None) if args.quiet else (lambda text: print(text, flush=True))
    say(f"device {manifest['device']}; weights {name} ({reason})")
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
            on_chunk=reporter,
            chunk=min(50, getattr(args, "save_every", None) or 50),
            throw=False,
        )
    seconds = time.perf_counter() - started
    manifest |= describe_result(result, seconds, math.fsum(compiling))
    images.save_image(out, result.image)
    with images.write_whole(out.with_name(out.name + ".json")) as file:
        file.write(json.dumps(manifest, indent=2, ensure_ascii=False).encode())
    if checkpoint is None:
        kept.unlink(missing_ok=True)
    height, width = result.image.shape[:2]
    say(f"wrote {out} ({width} x {height} px) in {manifest['seconds']['all']:.0f} s")
    if result.status == "diverged":
        print(
            f"jaxnst: error: a step was not finite; {out} is the last finite picture; "
            "lower --learning-rate or the weights",
            file=sys.stderr,
        )
        return 3
    return 0


@contextlib.contextmanager
def compile_timer() -> Iterator[list[float]]:
    """Collect the durations of what JAX traces, lowers and compiles."""
    durations: list[float] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event.startswith("/jax/core/compile/"):
            durations.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield durations
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def make_manifest(
    args: argparse.Namespace, recipe: Recipe, content: Image, name: str, path: Path
) -> dict[str, Any]:
    """All that is needed to paint the same picture again, as JSON."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "pillow")
    device = jax.devices()[0]
    kind = f"{os.cpu_count()} cores" if device.platform == "cpu" else device.device_kind
    return {
        "content": str(args.content),
        "styles": [str(style) for style in args.style],
        "blend": getattr(args, "blend", None),
        "init": getattr(args, "init", None) or recipe.init,
        "size": [content.shape[1], content.shape[0]],
        "seed": args.seed,
        "recipe": {k: getattr(recipe, k) for k in recipe.__dataclass_fields__},
        "weights": name,
        "weights_sha256": weights.sha256(path),
        "device": f"{device.platform} ({kind})",
        "versions": {"jaxnst": jaxnst.__version__, "python": platform.python_version()}
        | {package: version(package) for package in packages},
    }


def describe_result(result: Result, seconds: float, compiling: float) -> dict[str, Any]:
    """What came out of a run, as JSON."""
    last = jax.tree.map(lambda x: float(x[-1]), result.infos[-1])
    return {
        "status": result.status,
        "loss": last.loss,
        "terms": last.terms._asdict(),
        "steps": [len(info.loss) for info in result.infos],
        "seconds": {
            "all": round(seconds, 2),
            "each_scale": [round(x, 2) for x in result.seconds],
            "compile": round(compiling, 2),
        },
    }
