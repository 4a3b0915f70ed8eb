"""The flags that commands share, and the painting that they ask for."""

import argparse
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial, wraps
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args

from jaxnst.disk import matches
from jaxnst.messages import nearest, with_hint
from jaxnst.objective import check_blend
from jaxnst.recipes import Recipe, get_recipe
from jaxnst.recipes.texts import FIELDS, parse_assignment, parse_value
from jaxnst.request.defaults import QUALITY, default_recipe, with_steps
from jaxnst.request.painting import LARGEST_SIZE, Painting, RegionFile, Run, StyleFile
from jaxnst.request.terminal import FIELD_FLAGS, FLAG_ONLY, PART, flag_of

X = TypeVar("X")

COLORS = get_args(FIELDS["colors"])
"""Values of `--colors`, in addition to the path of a picture."""

STARTS = get_args(FIELDS["init"])
"""Values of `--init`, in addition to the path of a picture."""

REPEATABLE: dict[str, Any] = {"action": "append", "default": []}
"""Options of flags that may be repeated."""

WEIGHTS = "network: embedded, imagenet, torchvision or a file (default: the recipe's)"
"""Help of `--weights`."""


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviated flags, and reports a mistake in one line."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Print the mistake and exit with 2."""
        said = with_hint(message, f"see {self.prog} --help")
        self.exit(2, f"{self.prog}: error: {said}\n")


def add_pictures(p: Parser, content: str = "the photograph") -> None:
    """Add the content and the styles, in this order."""
    p.add_argument("content", type=one_file, metavar="CONTENT", help=content)
    styles = "pictures that give the style; optional if --region gives all styles"
    p.add_argument("style", type=all_files, nargs="*", metavar="STYLE", help=styles)
    p.set_defaults(named_styles=True)


def add_run_flags(p: Parser, *, size: int | None, quality: str | None) -> None:
    """Add the flags of every command that paints, with the command's defaults."""
    add, usual = p.add_argument, size or "the recipe decides, most say 512"
    long_edge = f"long edge of the result in pixels (default: {usual})"
    pixels = whole(1, LARGEST_SIZE)
    add("--size", type=pixels, default=size, metavar="PX", help=long_edge)
    usual = quality or "normal; with --preview, draft"
    quick = f"draft is faster, best takes more steps (default: {usual})"
    steps = p.add_mutually_exclusive_group()
    steps.add_argument("--quality", choices=QUALITY, default=quality, help=quick)
    at_each = "steps each time, as the picture is painted small first, then larger; "
    at_each += "instead of --quality"
    steps.add_argument("--steps", type=positive, metavar="N", help=at_each)
    named = "painting method (default: painterly); jaxnst recipes lists all"
    add("--recipe", default="painterly", metavar="NAME", help=named)
    noise = "seed of the noise, in recipes that start from noise (default: 0)"
    add("--seed", type=seed, default=0, metavar="N", help=noise)


def add_machine_flags(
    p: Parser, *, memory: bool = False, weights: str = WEIGHTS
) -> argparse._ArgumentGroup:
    """Add `--weights` and the flags that do not change the picture, as a group."""
    group = p.add_argument_group("machine")
    add = group.add_argument
    add("--weights", metavar="NAME|FILE", help=weights)
    huge = "read pictures of more than 179 megapixels"
    add("--allow-huge", action="store_true", help=huge)
    add("--quiet", action="store_true", help="print errors only")
    if memory:
        limit = "memory to use, such as 8GB; larger pictures are painted in tiles"
        limit += " (default: 90 %% of the free memory)"
        add("--memory", type=byte_count, metavar="SIZE", help=limit)
    return group


def add_look_flags(p: Parser) -> None:
    """Add the flags that people change first: strength, strokes, colours."""
    add = p.add_argument
    strong = "0 = the photo, 1 = only the style (default: 0.5); sets --content-weight"
    add("--style-strength", type=float, metavar="0…1", help=strong)
    strokes = "size of the strokes; STYLE=X for one style, repeatable (default: 1)"
    add("--style-scale", type=scale, metavar="X|STYLE=X", help=strokes, **REPEATABLE)
    colors = (
        "where colours come from: style, content (the photograph), luminance (the "
        "photograph, exactly; only lightness is painted) or FILE"
    )
    add("--colors", type=one_name, metavar="NAME|FILE", help=colors)


def add_recipe_flags(p: Parser, *, starts: bool = True) -> None:
    """Add the flags that change the recipe; `starts` adds `--blend` and `--init`."""
    add = p.add_argument_group("recipe").add_argument
    if starts:
        add("--blend", type=numbers, metavar="W,W,…", help="a weight for each style")
        start = "start image: content, noise, style or a picture, which is cropped"
        add("--init", type=one_name, metavar="START", help=start)
    for name, text in FIELD_FLAGS.items():
        choices = get_args(FIELDS[name])
        options: dict[str, Any] = {"type": FIELDS[name], "metavar": "X"}
        if choices:
            options = {"choices": choices}
        elif FIELDS[name] is bool:
            options = {"action": "store_const", "const": True}
        add(flag_of(name), dest=name, help=text, **options)
    other = "change a field of the recipe; jaxnst recipes NAME lists all; repeatable"
    add("--set", type=assignment, metavar="FIELD=VALUE", help=other, **REPEATABLE)


def add_mask_flags(p: Parser, *, faces: bool = True, labels: bool = True) -> None:
    """Add the flags of masks: pictures of any size, where white or opaque selects."""
    add = p.add_argument_group("regions and masks").add_argument
    parts = (
        "paint in other styles where MASK is white; repeatable. MASK is a file, or "
        "the word subject or sky: jaxnst then finds that part (needs jaxnst[masks]; "
        "not in videos). If a name contains a comma or an equals sign, put double "
        "quotes around it: 'mask.png=\"a,b.jpg\"'"
    )
    metavar = "MASK=STYLE[,STYLE…]"
    add("--region", type=region, metavar=metavar, help=parts, **REPEATABLE)
    rest = "keep the photograph outside the regions"
    add("--keep-rest", action="store_true", help=rest)
    part = "use only the part of a style where MASK is white; repeatable"
    add("--style-mask", type=pair, metavar="MASK=STYLE", help=part, **REPEATABLE)
    held = "keep more of the photograph where MASK is white; MASK as for --region"
    add("--content-mask", type=one_file, metavar="MASK", help=held)
    maps = (
        "a map of the photograph, then one of each style: pictures of flat colours. "
        "The red area of the photograph is painted like the red area of a style, and "
        "so on"
    )
    shown = maps if labels else argparse.SUPPRESS
    add("--labels", type=all_files, nargs="+", default=[], metavar="MAP", help=shown)
    p.set_defaults(faces=None if faces else ())
    if faces:
        kept = "paint faces like the rest (default: painterly preserves them)"
        add("--no-faces", dest="faces", action="store_const", const=(), help=kept)


def expecting(what: str = "") -> Callable[[Callable[[str], X]], Callable[[str], X]]:
    """Decorate a function so that argparse reports its ValueErrors.

    The report says what was expected; by default, it is the error's own message.
    """

    def decorate(read: Callable[[str], X]) -> Callable[[str], X]:
        @wraps(read)
        def found(text: str) -> X:
            try:
                return read(text)
            except (ValueError, ZeroDivisionError) as error:
                message = f"expected {what}, got {text!r}" if what else str(error)
                raise argparse.ArgumentTypeError(message) from None

        return found

    return decorate


@expecting()
def all_files(text: str) -> list[Path]:
    """The path, or the files of a pattern that the shell did not expand."""
    return matches(Path(text))


@expecting()
def one_file(text: str) -> Path:
    """A path, or the only file of a pattern that the shell did not expand."""
    first, *more = all_files(text)
    if more:
        raise ValueError(f"{text} matches {1 + len(more)} files; name one of them")
    return first


@expecting()
def folder(text: str) -> Path:
    """A folder for results, which need not exist."""
    if Path(text).exists() and not Path(text).is_dir():
        raise ValueError(f"{text} is a file; choose a folder")
    return Path(text)


def one_name(text: str) -> str:
    """A name, or the path of one file, as text."""
    return str(one_file(text))


def region(text: str) -> tuple[Path, tuple[Path, ...]]:
    """`MASK=STYLE,STYLE…`; names with = or commas are quoted."""
    mask, *styles = paths(text, f"{PART}={PART}(?:,{PART})*", "a.png=b.jpg,c.jpg")
    return one_file(str(mask)), tuple(x for y in styles for x in all_files(str(y)))


def pair(text: str) -> tuple[Path, Path]:
    """`PATH=PATH`, each of one file."""
    first, second = paths(text, f"{PART}={PART}", "a.png=b.jpg")
    return one_file(str(first)), one_file(str(second))


def paths(text: str, pattern: str, example: str) -> list[Path]:
    """The paths in a text that matches a pattern; a path may be in quotes."""
    if not re.fullmatch(pattern, text):
        bare = "=" in example and "=" not in text
        cure = "add = and a style" if bare else "quote names with , or ="
        raise argparse.ArgumentTypeError(
            f"expected paths such as {example}, got {text!r}; {cure}"
        )
    parts = re.findall(PART, text)
    return [Path(x[1:-1].replace('""', '"') if x.startswith('"') else x) for x in parts]


@expecting("a number > 0, or STYLE=NUMBER")
def scale(text: str) -> tuple[Path | None, float]:
    """A number > 0, for all styles or for one."""
    name, _, number = text.rpartition("=")
    if not 0 < float(number) < math.inf:
        raise ValueError
    return one_file(name) if name else None, float(number)


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Make a function that reads a whole number within limits."""
    limits = f"≥ {least}" if most is None else f"from {least} to {most}"

    @expecting(f"a whole number {limits}")
    def read(text: str) -> int:
        if not least <= int(text) <= (most or math.inf):
            raise ValueError
        return int(text)

    return read


positive, seed = whole(1), whole(0, 2**32 - 1)
"""Read a count, and the seed of a random key."""


@expecting("a size such as 8GB")
def byte_count(text: str) -> int:
    """Bytes, from a text such as 8GB or 500 MB."""
    found = re.fullmatch(r"(\d+\.?\d*) *([MGT])B?", text.strip().upper())
    if not found or not float(found[1]):
        raise ValueError
    return int(float(found[1]) * {"M": 10**6, "G": 10**9, "T": 10**12}[found[2]])


@expecting("numbers such as 0.7,0.3")
def numbers(text: str) -> list[float]:
    """Numbers with commas between them."""
    return [float(part) for part in text.split(",")]


assignment = expecting()(parse_assignment)
"""Reads `FIELD=VALUE` of a recipe."""


@expecting()
def sweep(text: str) -> tuple[str, list[Any]]:
    """`NAME=VALUE,VALUE,…`, or with `;` between values that contain commas."""
    name, equals, values = text.partition("=")
    known = [*FIELDS, "recipe", "seed", "blend", "region"]
    if not equals or name not in known:
        close = nearest(name, known)
        problem = f"nothing is called {name!r}" if equals else f"no values in {text!r}"
        raise ValueError(f"{problem}; did you mean {close}=VALUE,VALUE,…?")
    if name == "region":
        return name, paths(values, f"{PART}(?:,{PART})*", "a.jpg,b.jpg")
    usual = () if name == "blend" else get_recipe("painterly").values().get(name)
    own = {"recipe": str, "seed": seed, "blend": numbers}
    convert = own.get(name, partial(parse_value, name))
    separator = ";" if isinstance(usual, tuple) else ","
    return name, [convert(x) for x in values.split(separator)]


def run_from(args: argparse.Namespace, out: Path) -> Run:
    """The `Run` that the flags ask for."""
    names = (field.name for field in fields(Run) if field.name != "out")
    return Run(out=out, **{x: getattr(args, x) for x in names if hasattr(args, x)})


def painting_from(
    args: argparse.Namespace, content: Path, styles: Sequence[Path]
) -> Painting:
    """The `Painting` that the flags ask for, of a content and of styles."""
    named = [*styles, *(path for _, own in args.region for path in own)]
    scales = {path: x for path, x in args.style_scale if path is not None}
    parts = {path: mask for mask, path in args.style_mask}
    for path in (*parts, *scales):
        if path not in named:
            known = ", ".join(map(str, named))
            raise ValueError(
                f"{path} is not a style of this run; its styles are {known}"
            )
    given = vars(args)  # some commands lack some flags
    blend = given.get("blend") or [1.0] * len(styles)
    if styles:
        check_blend(blend, len(styles))

    def style(path: Path, weight: float = 1.0) -> StyleFile:
        own = {"stroke_scale": scales.get(path, 1.0), "mask": parts.get(path)}
        return StyleFile(path=path, weight=weight, **own)

    return Painting(
        content=content,
        styles=tuple(map(style, styles, blend)),
        regions=tuple(
            RegionFile(mask=mask, styles=tuple(map(style, own)))
            for mask, own in args.region
        ),
        keep_rest=args.keep_rest,
        labels=tuple(file for files in args.labels for file in files),
        content_mask=args.content_mask,
        faces=args.faces,
        palette=_file("--colors", args.colors, COLORS),
        start=_file("--init", given.get("init"), STARTS),
        recipe=recipe_from(args),
        size=args.size,
        seed=args.seed,
        weights=args.weights,
    )


def _file(flag: str, text: str | None, names: Sequence[str]) -> Path | None:
    """The file that a flag names; None if its value is none, or one of `names`."""
    if text is None or text in names:
        return None
    if not Path(text).exists():
        known = ", ".join(names)
        raise ValueError(f"{flag} {text} does not exist; give {known} or a picture")
    return Path(text)


def recipe_from(args: argparse.Namespace, name: str | None = None) -> Recipe:
    """The recipe that the flags ask for; `name` replaces the name of `--recipe`.

    `--set` may replace the steps that `--quality` chose.
    """
    given = vars(args)  # some commands lack some flags
    recipe = default_recipe(name or args.recipe)
    plan, factor = recipe.schedule, QUALITY.get(args.quality, 1.0)
    if args.steps is not None:
        factor = args.steps / (plan.steps or plan.first_steps or 1)
    recipe = with_steps(recipe, factor)
    asked = {x: given[x] for x in FIELD_FLAGS if given.get(x) is not None}
    if scales := [x for path, x in given.get("style_scale", ()) if path is None]:
        asked["style_scale"] = scales[-1]
    if (colors := given.get("colors")) is not None:
        asked["colors"] = colors if colors in COLORS else "content"
    if given.get("init") in STARTS:
        asked["init"] = args.init
    if args.steps is not None:
        plan = recipe.schedule
        asked |= {"first_steps": plan.first_steps, "steps": plan.steps}
    final = dict(given.get("set", ()))
    for field in final.keys() & set(FLAG_ONLY) & given.keys():
        flag = flag_of(field)
        raise ValueError(f"--set does not change {field}; use {flag}")
    if twice := asked.keys() & final:
        raise ValueError(f"{min(twice)} is set by a flag and by --set; leave one out")
    recipe = recipe.replace(**asked | final)
    if given.get("style_strength") is None:
        return recipe
    if "content_weight" in asked | final:
        raise ValueError(
            "--style-strength sets the content weight; leave --content-weight out"
        )
    return recipe.with_strength(args.style_strength)
