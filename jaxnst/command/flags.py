"""The flags that commands share, and the painting that they ask for."""

import argparse
import contextlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, get_args

from jaxnst.disk import matches
from jaxnst.messages import nearest, with_hint
from jaxnst.objective import check_blend
from jaxnst.paths import PART, divided, unquoted
from jaxnst.recipes import Recipe, get_recipe
from jaxnst.recipes.texts import FIELDS, parse_assignment, parse_value
from jaxnst.request.defaults import QUALITY, default_recipe, with_steps
from jaxnst.request.painting import Painting, RegionFile, StyleFile
from jaxnst.request.run import Run

OVERRIDES = {
    "content_weight": (
        "weight of the content term; painterly: 0.05 keeps a hint of the photograph, "
        "5 nearly all of it"
    ),
    "style_weight": "weight of the style term",
    "tv_weight": "weight of the total variation",
    "optimizer": "optimiser of the picture",
    "learning_rate": "step size of the optimiser",
    "pooling": "pooling between the blocks of the network",
    "dtype": "type of the convolutions (default: float32 on a CPU, else bfloat16)",
}
"""Fields of the recipe that have a flag, with its help."""

OWN_FLAGS = {
    "init": "--init",
    "dtype": "--precision",
    "rotate_styles": "--rotate-styles",
}
"""Fields of the recipe that only a flag changes."""

COLORS = get_args(FIELDS["colors"])
"""Whose colours a result may have, in addition to those of a picture."""

STARTS = get_args(FIELDS["init"])
"""What a run may start from, in addition to a file."""


class Parser(argparse.ArgumentParser):
    """A parser of whole flags, in groups, that reports a mistake in one line."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options, allow_abbrev=False)
        self.groups: dict[str, argparse._ArgumentGroup] = {}

    def group(self, title: str) -> Callable[..., argparse.Action]:
        """What adds a flag to the group of that title."""
        if title not in self.groups:
            self.groups[title] = self.add_argument_group(title)
        return self.groups[title].add_argument

    def error(self, message: str) -> NoReturn:
        """Print the mistake and exit with 2."""
        said = with_hint(message, f"see {self.prog} --help")
        self.exit(2, f"{self.prog}: error: {said}\n")


def add_pictures(p: Parser, content: str = "the photograph") -> None:
    """Add the content and the styles, in this order."""
    p.add_argument("content", type=one_file, metavar="CONTENT", help=content)
    styles = "pictures that give the style; none if regions have them all"
    add = p.add_argument
    add("style", type=Path, nargs="*", action=Files, metavar="STYLE", help=styles)


def add_run_flags(p: Parser, *, size: int | None, quality: str | None) -> None:
    """Add what every command that paints understands, with its defaults."""
    add, usual = p.add_argument, size or "by the recipe; painterly: at most 512"
    long_edge = f"long edge of the result in pixels (default: {usual})"
    add("--size", type=positive, default=size, metavar="PX", help=long_edge)
    usual = quality or "normal, or draft for a preview"
    steps = p.add_mutually_exclusive_group()
    steps.add_argument(
        "--quality", choices=QUALITY, default=quality, help=f"default: {usual}"
    )
    at_each = "steps at each scale, in place of --quality; more at the first one"
    steps.add_argument("--steps", type=positive, metavar="N", help=at_each)
    named = "what to minimise and how (default: painterly); list: jaxnst recipes"
    add("--recipe", default="painterly", metavar="NAME", help=named)
    noise = "seed of the start image's noise (default: 0)"
    add("--seed", type=seed, default=0, metavar="N", help=noise)


def add_machine_flags(p: Parser, *, weights: str = "auto") -> None:
    """Add what does not change the picture, and the network."""
    add = p.group("machine")
    named = f"auto, embedded, imagenet, torchvision or a file (default: {weights})"
    add("--weights", default=weights, metavar="NAME|FILE", help=named)
    huge = "read pictures of more than 179 megapixels"
    add("--allow-huge", action="store_true", help=huge)
    add("--quiet", action="store_true", help="print errors only")


def add_memory_flag(p: Parser) -> None:
    """Add the limit of memory."""
    memory = "memory to use; larger pictures are painted in tiles (default: all free)"
    p.group("machine")("--memory", type=byte_count, metavar="8GB", help=memory)


def add_look_flags(p: Parser) -> None:
    """Add what people change first: strength, strokes, colours."""
    add = p.add_argument
    strong = "0 = photo, 1 = painting (default: 0.5, the recipe's own)"
    add("--style-strength", type=float, metavar="0…1", help=strong)
    strokes = "size of the strokes; STYLE=X for one style, repeatable (default: 1)"
    add(
        "--style-scale",
        type=scale,
        action="append",
        default=[],
        metavar="X|STYLE=X",
        help=strokes,
    )
    colors = "style, content, luminance (paint lightness only) or a picture's colours"
    add("--colors", type=one_name, metavar="WHOSE", help=colors)


def add_start_flags(p: Parser) -> None:
    """Add how styles are mixed, and what a picture starts from."""
    add = p.group("recipe")
    add("--blend", type=numbers, metavar="W,W,…", help="a weight for each style")
    start = "start image: content, noise, style or a file, whose middle is used"
    add("--init", type=one_name, metavar="START", help=start)


def add_recipe_flags(p: Parser) -> None:
    """Add what changes the recipe."""
    add = p.group("recipe")
    for name, text in OVERRIDES.items():
        flag = "precision" if name == "dtype" else name.replace("_", "-")
        choices = get_args(FIELDS[name]) or None
        kind, meta = (str, None) if choices else (FIELDS[name], "X")
        options = {"choices": choices, "metavar": meta, "help": text}
        add(f"--{flag}", dest=name, type=kind, **options)
    turn = "measure the styles in four directions, so that strokes may turn"
    add("--rotate-styles", action="store_true", default=None, help=turn)
    any_field = "any other field, as jaxnst recipes NAME lists them; repeatable"
    pairs = {"action": "append", "default": [], "metavar": "FIELD=VALUE"}
    add("--set", type=assignment, help=any_field, **pairs)


def add_mask_flags(p: Parser) -> None:
    """Add where is painted; masks are pictures of any size, white or opaque there."""
    add = p.group("regions and masks")
    add(
        "--region",
        type=region,
        action="append",
        default=[],
        metavar="MASK=STYLE[,STYLE…]",
        help="paint where MASK is white in other styles; repeatable; quote names that "
        "contain , or =: 'mask.png=\"a,b.jpg\"'",
    )
    add("--keep-rest", action="store_true", help="leave what no region covers")
    part = "use only the part of a style where MASK is white; repeatable"
    pairs = {"action": "append", "default": [], "metavar": "MASK=STYLE"}
    add("--style-mask", type=pair, help=part, **pairs)
    held = "keep more of the photograph where MASK is white"
    add("--content-mask", type=one_file, metavar="MASK", help=held)
    labels = "colour-coded region maps of the content and of each style"
    files = {"type": Path, "nargs": "+", "action": Files, "metavar": "MAP"}
    add("--labels", help=labels, **files)


def add_face_flag(p: Parser) -> None:
    """Add whether faces are held."""
    text = "paint faces as the rest; painterly holds those that jaxnst[faces] finds"
    add = p.group("regions and masks")
    add("--no-faces", dest="faces", action="store_const", const=(), help=text)


def all_files(path: Path) -> list[Path]:
    """The path, or the files of a pattern that the shell left alone."""
    try:
        return matches(path)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def one_file(text: str) -> Path:
    """A path, or the only file of a pattern that the shell left alone."""
    first, *more = all_files(Path(text))
    if more:
        raise argparse.ArgumentTypeError(
            f"expected one file, got {1 + len(more)} that match {text}; name one"
        )
    return first


def one_name(text: str) -> str:
    """A name, or the path of one file, as text."""
    return str(one_file(text))


class Files(argparse.Action):
    """Paths, and the files of patterns among them that the shell left alone."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Set the list of files."""
        try:
            found = [file for path in values for file in all_files(path)]
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from None
        setattr(namespace, self.dest, found)


def region(text: str) -> tuple[Path, tuple[Path, ...]]:
    """`MASK=STYLE,STYLE…`; names with = or commas are quoted, or are those of files."""
    if found := unquoted(text, f"{PART}={PART}(?:,{PART})*"):
        return found[0], tuple(found[1:])
    mask, styles = divide(text)
    names = divided(str(styles))
    return one_file(str(mask)), tuple(x for name in names for x in all_files(name))


def pair(text: str) -> tuple[Path, Path]:
    """`PATH=PATH`, each of one file."""
    if found := unquoted(text, f"{PART}={PART}"):
        return found[0], found[1]
    first, second = divide(text)
    return one_file(str(first)), one_file(str(second))


def divide(text: str) -> tuple[Path, Path]:
    """`PATH=PATH`, divided where the first is there."""
    parts = text.split("=")
    ways = [("=".join(parts[:i]), "=".join(parts[i:])) for i in range(1, len(parts))]
    ways = [way for way in ways if all(way)]
    if not ways:
        raise argparse.ArgumentTypeError(
            f"expected two paths with = between them, got {text!r}"
        )
    first, second = next((way for way in ways if Path(way[0]).exists()), ways[0])
    return Path(first), Path(second)


def scale(text: str) -> tuple[Path | None, float]:
    """A number > 0, for all styles or for one."""
    name, _, number = text.rpartition("=")
    with contextlib.suppress(ValueError):
        if 0 < float(number) < math.inf:
            return one_file(name) if name else None, float(number)
    raise argparse.ArgumentTypeError(
        f"expected a number > 0, or STYLE=NUMBER, got {text!r}"
    )


def positive(text: str) -> int:
    """A whole number of at least 1."""
    with contextlib.suppress(ValueError):
        if int(text) >= 1:
            return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number ≥ 1, got {text!r}")


def byte_count(text: str) -> int:
    """Bytes, from a text such as 8GB or 500 MB."""
    if found := re.fullmatch(r"(\d+\.?\d*) *([MGT])B?", text.strip().upper()):
        unit = {"M": 10**6, "G": 10**9, "T": 10**12}[found[2]]
        if count := int(float(found[1]) * unit):
            return count
    raise argparse.ArgumentTypeError(f"expected a size such as 8GB, got {text!r}")


def seed(text: str) -> int:
    """A seed of a random key."""
    if text.isdecimal() and int(text) < 2**32:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected 0 to 4294967295, got {text!r}")


def numbers(text: str) -> list[float]:
    """Numbers with commas between them."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers such as 0.7,0.3, got {text!r}"
        ) from None


def assignment(text: str) -> tuple[str, Any]:
    """`FIELD=VALUE` of a recipe, the value in the field's own type."""
    with said_by_argparse():
        return parse_assignment(text)


def field_value(name: str, text: str) -> Any:
    """The value of a field of the recipe, in the field's own type."""
    with said_by_argparse():
        return parse_value(name, text)


@contextlib.contextmanager
def said_by_argparse() -> Iterator[None]:
    """Let argparse say why a value is wrong, which it does of errors of its own."""
    try:
        yield
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def sweep(text: str) -> tuple[str, list[Any]]:
    """`NAME=VALUE,VALUE,…`, or with `;` where the values themselves have commas."""
    name, equals, values = text.partition("=")
    known = [*FIELDS, "recipe", "seed", "blend", "region"]
    if not equals or name not in known:
        raise argparse.ArgumentTypeError(
            f"expected NAME=VALUE,VALUE,… such as {nearest(name, known)}=…, "
            f"got {text!r}"
        )
    usual = () if name == "blend" else get_recipe("painterly").values().get(name)
    if name == "region":
        return name, unquoted(values, f"{PART}(?:,{PART})*") or divided(values)
    own = {"recipe": str, "seed": seed, "blend": numbers}
    convert = own.get(name, partial(field_value, name))
    separator = ";" if isinstance(usual, tuple) else ","
    return name, [convert(x) for x in values.split(separator)]


def run_from(args: argparse.Namespace, out: Path) -> Run:
    """How the flags ask for a painting to be made."""
    names = (field.name for field in fields(Run) if field.name != "out")
    return Run(out=out, **{x: getattr(args, x) for x in names if hasattr(args, x)})


def painting_from(
    args: argparse.Namespace, content: Path, styles: Sequence[Path]
) -> Painting:
    """What the flags ask for, of a content and of styles."""
    named = [*styles, *(path for _, own in args.region for path in own)]
    scales = {path: x for path, x in args.style_scale if path is not None}
    either = [(x, y) if y in named else (y, x) for x, y in args.style_mask]
    parts = {path: mask for mask, path in either}
    for path in (*parts, *scales):
        if path not in named:
            raise ValueError(
                f"expected one of the styles, got {path}; the styles are "
                f"{', '.join(map(str, named))}"
            )
    blend = getattr(args, "blend", None) or [1.0] * len(styles)
    if styles:
        check_blend(blend, len(styles))

    def style(path: Path, weight: float = 1.0) -> StyleFile:
        own = {"stroke_scale": scales.get(path, 1.0), "mask": parts.get(path)}
        return StyleFile(path=path, weight=weight, **own)

    start, whose = getattr(args, "init", None), args.colors
    palette = None if whose is None or whose in COLORS else Path(whose)
    start = None if start is None or start in STARTS else Path(start)
    for flag, path, names in (("--colors", palette, COLORS), ("--init", start, STARTS)):
        if path is not None and not path.exists():
            raise ValueError(
                f"expected {flag} {', '.join(names)} or a file, got '{path}', where "
                "nothing is"
            )
    return Painting(
        content=content,
        styles=tuple(map(style, styles, blend)),
        regions=tuple(
            RegionFile(mask=mask, styles=tuple(map(style, own)))
            for mask, own in args.region
        ),
        keep_rest=args.keep_rest,
        labels=tuple(args.labels or ()),
        content_mask=args.content_mask,
        faces=getattr(args, "faces", ()),  # those of a video are not looked for
        palette=palette,
        start=start,
        recipe=recipe_from(args),
        size=args.size,
        seed=args.seed,
        weights=args.weights,
    )


def recipe_from(args: argparse.Namespace, name: str | None = None) -> Recipe:
    """The recipe that the flags ask for, or another one with the same changes.

    `--set` may replace the steps that `--quality` chose.
    """
    recipe = default_recipe(name or args.recipe)
    usual = recipe.schedule.steps
    factor = args.steps / usual if args.steps else QUALITY[args.quality]
    recipe = with_steps(recipe, factor)
    flags = (
        (name, getattr(args, name, None)) for name in (*OVERRIDES, "rotate_styles")
    )
    asked = {name: value for name, value in flags if value is not None}
    scales = [x for path, x in getattr(args, "style_scale", None) or () if path is None]
    if scales:
        asked["style_scale"] = scales[-1]
    if (whose := getattr(args, "colors", None)) is not None:
        asked["colors"] = whose if whose in COLORS else "content"
    if (start := getattr(args, "init", None)) in STARTS:
        asked["init"] = start
    final = dict(getattr(args, "set", []))
    if args.steps is not None:
        plan = recipe.schedule
        asked |= {"first_steps": plan.first_steps, "steps": plan.steps}
    for name, flag in OWN_FLAGS.items():
        if name in final:
            raise ValueError(f"--set {name} is said by a flag of its own; use {flag}")
    if twice := asked.keys() & final:
        raise ValueError(f"expected {min(twice)} once, got a flag and --set")
    recipe = recipe.replace(**asked | final)
    strength = getattr(args, "style_strength", None)
    if strength is None:
        return recipe
    if "content_weight" in asked | final:
        raise ValueError("expected --style-strength or a content weight, got both")
    return recipe.with_strength(strength)
