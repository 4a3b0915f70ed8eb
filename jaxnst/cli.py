"""The `jaxnst` command: parse, one call, save.

Exit codes: 0 done, 2 bad input or usage, 3 numerical failure, 130 interrupted.
"""

import argparse
import contextlib
import json
import math
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np

import jaxnst
from jaxnst import assets, images, weights
from jaxnst.checkpoint import load_checkpoint
from jaxnst.convert import convert, read_foreign, to_backbone
from jaxnst.multiscale import Result, content_size, style_shape, stylize
from jaxnst.recipes import RECIPES, LayerWeights, Recipe, get_recipe
from jaxnst.reporter import Reporter
from jaxnst.types import Image

QUALITY = {"draft": 0.4, "normal": 1.0, "best": 3.0}
"""Factor on a recipe's number of steps."""

OVERRIDES = {
    "style_scale": "long edge of the style over the content's",
    "content_weight": "weight of the content term; see jaxnst recipes NAME",
    "style_weight": "weight of the style term",
    "tv_weight": "weight of the total variation",
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
    p.add_argument(
        "--save-every",
        type=_positive,
        metavar="N",
        help="keep a preview at every N steps of each scale",
    )
    p.add_argument("--checkpoint", type=Path, help="where to keep the run's state")
    types = {field.name: field.type for field in fields(Recipe)}
    for name, text in OVERRIDES.items():
        flag = "precision" if name == "dtype" else name.replace("_", "-")
        choices = get_args(types[name]) or None
        kind = str if choices else types[name]
        p.add_argument(f"--{flag}", dest=name, type=kind, choices=choices, help=text)
    p.add_argument(
        "--set",
        type=_assignment,
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change any field of the recipe; layers: style_layers=relu1_1:1,relu2_1:2",
    )
    p.set_defaults(call=stylize_command)

    p = commands.add_parser("demo", help="paint the sample pictures")
    p.add_argument("-o", "--out", type=Path, default=Path("demo"), help="folder")
    p.add_argument("--style", choices=images.SAMPLES[1:], nargs="+", help="which ones")
    _add_run_flags(p, size=256, quality="draft")
    p.set_defaults(
        call=demo_command,
        weights="embedded",
        blend=None,
        init=None,
        checkpoint=None,
        save_every=None,
        set=[],
    )

    p = commands.add_parser("recipes", help="list the recipes, or show some")
    p.add_argument("name", nargs="*")
    p.set_defaults(call=recipes_command)

    p = commands.add_parser("weights", help="weight files")
    actions = p.add_subparsers(required=True, metavar="ACTION")
    a = actions.add_parser("list", help="named weights and where they are")
    a.set_defaults(call=weights_list_command)
    a = actions.add_parser("pull", help="fetch weights and convert them, once")
    a.add_argument("name", choices=assets.ASSETS)
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


def _add_run_flags(p: argparse.ArgumentParser, size: int | None, quality: str) -> None:
    p.add_argument("--recipe", default="painterly", help="see: jaxnst recipes")
    p.add_argument(
        "--weights",
        default="auto",
        help="auto, embedded, imagenet, torchvision or a file",
    )
    p.add_argument(
        "--size",
        type=_positive,
        default=size,
        help="long edge of the result in pixels "
        f"(default: {size or 'the rule of the recipe; painterly: at most 512'})",
    )
    p.add_argument("--quality", choices=QUALITY, default=quality)
    p.add_argument("--steps", type=_positive, help="steps at every scale but the first")
    p.add_argument("--seed", type=_seed, default=0, help="of the start image's noise")
    p.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    p.add_argument("--quiet", action="store_true", help="print errors only")


def _positive(text: str) -> int:
    with contextlib.suppress(ValueError):
        if int(text) >= 1:
            return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number ≥ 1, got {text!r}")


def _seed(text: str) -> int:
    if text.isdecimal() and int(text) < 2**32:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected 0 to 4294967295, got {text!r}")


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers such as 0.7,0.3, got {text!r}"
        ) from None


def _assignment(text: str) -> tuple[str, Any]:
    """`FIELD=VALUE` of a recipe, the value in the field's own type."""
    name, equals, value = text.partition("=")
    types = {field.name: field.type for field in fields(Recipe)}
    if not equals or name not in types:
        nearest = get_close_matches(name, types, 1, 0.0)[0]
        raise argparse.ArgumentTypeError(
            f"expected FIELD=VALUE such as {nearest}=…, got {text!r}"
        )
    kind = types[name]
    try:
        if kind is bool:
            return name, {"true": True, "false": False}[value.lower()]
        if kind is LayerWeights:
            pairs = (part.partition(":") for part in value.split(","))
            return name, tuple((layer, float(x or 1)) for layer, _, x in pairs)
        if get_origin(kind) is tuple:
            return name, tuple(float(part) for part in value.split(","))
        return name, kind(value) if kind in (int, float) else value
    except (KeyError, ValueError):
        example = _readable_example(getattr(get_recipe("painterly"), name))
        raise argparse.ArgumentTypeError(
            f"expected {name}={example} or the like, got {text!r}"
        ) from None


def _readable_example(value: Any) -> str:
    if not isinstance(value, tuple):
        return str(value)
    parts = (x if isinstance(x, tuple) else (x,) for x in value)
    return ",".join(":".join(map(str, part)) for part in parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    args = make_parser().parse_args(argv)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = str(assets.cache_folder() / "xla")
        jax.config.update("jax_compilation_cache_dir", cache)
    try:
        return args.call(args)
    except jax.errors.JaxRuntimeError as error:
        hint = "; use a smaller --size" if "RESOURCE_EXHAUSTED" in str(error) else ""
        return _fail(f"{str(error).splitlines()[0]}{hint}")
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has seen enough; Python's last flush
        # should not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
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
    out = args.out or _free_path(args.content, args.style)
    images.output_format(out)
    recipe = recipe_from(args)
    starts = get_args(next(f.type for f in fields(Recipe) if f.name == "init"))
    if args.init in starts:
        recipe = recipe.replace(init=args.init)
    elif args.init is not None and not Path(args.init).exists():
        raise ValueError(
            f"expected --init {', '.join(starts)} or a file, got {args.init!r}"
        )
    for target in filter(None, (out, args.checkpoint)):
        images.check_target(target)
        if target.resolve() in {p.resolve() for p in (args.content, *args.style)}:
            raise ValueError(f"expected an output beside the inputs, got {target}")
    content = load_content(args.content, args.size, recipe)
    init = None
    if args.init is not None and args.init not in starts:
        init = images.load_image(args.init, size=max(content.shape))
    styles = [load_style(path, content, recipe) for path in args.style]
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
    content = load_content(args.content, args.size, recipe)
    resume = args.resume
    for name in args.style or images.SAMPLES[1:3]:
        out = args.out / f"harbour-{name}.png"
        if resume and out.exists():
            continue
        args.resume = resume and _checkpoint_beside(out).exists()
        args.style = [images.sample_path(name)]
        style = load_style(args.style[0], content, recipe)
        code = paint(args, recipe, content, [style], out)
        if code:
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
    for name, asset in assets.ASSETS.items():
        path = assets.asset_path(name)
        place = path if path.is_file() else f"not here; jaxnst weights pull {name}"
        print(f"{name:<12} {asset.summary}; {asset.licence}\n{'':<12} {place}")
    return 0


def weights_pull_command(args: argparse.Namespace) -> int:
    """Fetch named weights and convert them."""
    path = assets.pull(args.name, quiet=args.quiet)
    if not args.quiet:
        print(f"{args.name} weights are at {path} ({assets.ASSETS[args.name].licence})")
    return 0


def weights_convert_command(args: argparse.Namespace) -> int:
    """Turn a weights file of another project into one of ours."""
    images.check_target(args.target)
    if args.target.suffix != ".h5":
        raise ValueError(f"expected a target ending in .h5, got {args.target}")
    if not args.source.is_file():
        raise ValueError(f"expected a weights file at {args.source}, got nothing there")
    if args.target.exists() and args.target.samefile(args.source):
        raise ValueError(f"expected a target beside the source, got {args.target}")
    convert(args.source, args.target, family=args.family)
    print(f"wrote {args.target}; use it with --weights {args.target}")
    return 0


def weights_check_command(args: argparse.Namespace) -> int:
    """Verify a weights file and describe it."""
    path = assets.locate(args.path)
    about = weights.describe(path)
    if weights.is_ours(path):
        backbone = weights.read_backbone(path)
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
    print("all names, shapes and numbers are as they should be")
    return 0


def recipe_from(args: argparse.Namespace) -> Recipe:
    """The recipe that the flags ask for."""
    recipe = get_recipe(args.recipe)
    asked = {name: getattr(args, name, None) for name in OVERRIDES}
    asked = {name: value for name, value in asked.items() if value is not None}
    asked |= dict(args.set)
    optimizers = {recipe.optimizer, asked.get("optimizer", recipe.optimizer)}
    if "lbfgs" in optimizers and len(optimizers) > 1:
        # A step of one optimiser means nothing to the other.
        step = 1.0 if asked["optimizer"] == "lbfgs" else 0.02 * recipe.units[0]
        asked = {"learning_rate": step} | asked
    recipe = recipe.replace(**asked)
    factor = QUALITY[args.quality]
    if args.steps is not None:
        factor = args.steps / recipe.steps
    return recipe.replace(
        first_steps=max(1, round(recipe.first_steps * factor)),
        steps=max(1, round(recipe.steps * factor)),
    )


def load_content(path: Path, size: int | None, recipe: Recipe) -> Image:
    """Read the content in the size asked for, or by the recipe's rule."""
    size = size or content_size(images.image_shape(path), recipe)
    return images.load_image(path, size=size, enlarge=True)


def load_style(path: Path, content: Image, recipe: Recipe) -> Image:
    """Read a style as large as the finest scale looks at it."""
    height, width = content.shape[:2]
    size = max(style_shape(images.image_shape(path), (height, width), recipe))
    # Squashed to the content's shape, one of its edges may need more than that.
    return images.load_image(path, size=2 * size if recipe.squash_style else size)


def _free_path(content: Path, styles: list[Path]) -> Path:
    """`CONTENT-STYLE.png` in the current folder, numbered if that is taken."""
    stem = "-".join(path.stem for path in (content, *styles))[:100]
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
    init: Image | None = None,
) -> int:
    """Paint a picture and write it with its manifest; return the exit code."""
    name, reason = assets.choose(args.weights)
    path = assets.locate(name)
    backbone = assets.load_backbone(path)
    manifest = make_manifest(args, recipe, content, name, path)
    kept = args.checkpoint or _checkpoint_beside(out)
    same = "pictures_sha256 blend init recipe size seed weights_sha256"
    inputs = {key: manifest[key] for key in same.split()}
    resume = None
    if args.resume:
        resume = load_checkpoint(kept, recipe, inputs)
        manifest["resumed"] = {"scale": resume.scale, "taken": resume.taken}
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
            chunk=args.save_every or 50,
            throw=False,
        )
    seconds = time.perf_counter() - started
    manifest |= describe_result(result, seconds, math.fsum(compiling))
    images.save_image(out, result.image)
    with images.write_whole(out.with_name(out.name + ".json")) as file:
        file.write(json.dumps(manifest, indent=2, allow_nan=False).encode())
    if args.checkpoint is None:
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
    """Collect the durations of what XLA compiles."""
    durations: list[float] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
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
        "pictures_sha256": [weights.sha256(p) for p in (args.content, *args.style)],
        "blend": args.blend,
        "init": args.init or recipe.init,
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
    finite = lambda x: x if math.isfinite(x) else None
    return {
        "status": result.status,
        "loss": finite(last.loss),
        "terms": {name: finite(x) for name, x in last.terms._asdict().items()},
        "steps": [len(info.loss) for info in result.infos],
        "seconds": {
            "all": round(seconds, 2),
            "each_scale": [round(x, 2) for x in result.seconds],
            "compile": round(compiling, 2),
        },
    }
