"""`jaxnst again` paints a picture once more, as its manifest says."""

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jaxnst.command.flags import Files, byte_count, one_file
from jaxnst.command.manifest import describe_device, manifest_path, package_versions
from jaxnst.command.reporter import say
from jaxnst.command.request import STARTS, MaskFiles, StylizeRequest
from jaxnst.command.stylize import check_request, free_path, paint, planned
from jaxnst.messages import found_at
from jaxnst.painting.manifest import parse_manifest, read_manifest, recipe_of
from jaxnst.painting.memory import usable_memory
from jaxnst.pictures.files import image_bits, read_description
from jaxnst.weights import registry
from jaxnst.weights.format import sha256


def add_again_flags(p: argparse.ArgumentParser) -> None:
    """Add the flags of `again`."""
    add = p.add_argument
    add("picture", type=one_file, help="a picture that jaxnst painted, or its .json")
    add("-o", "--out", type=Path, help="default: PICTURE-again.png here")
    moved = "where the picture is now, if not where it was"
    add("--content", type=one_file, help=moved)
    add(
        "--style",
        type=Path,
        nargs="+",
        action=Files,
        help=f"{moved}: all styles, in order",
    )
    add("--init", type=one_file, help=moved)
    where = "folder of masks and the pictures of regions, if not where they were"
    add("--masks", type=Path, metavar="FOLDER", help=where)
    add("--weights", help="the same network, if it is elsewhere now")
    add(
        "--bits", type=int, choices=(8, 16), help="bits per channel (default: the same)"
    )
    add("--memory", type=byte_count, metavar="8GB", help="memory to use")
    add("--resume", action="store_true", help="continue from the checkpoint")
    add("--quiet", action="store_true", help="print errors only")


def again_command(args: argparse.Namespace) -> int:
    """Paint the picture of a manifest; return the exit code."""
    manifest = find_manifest(args.picture)
    request = again_request(args, manifest)
    here = {"device": describe_device(), "versions": package_versions()}
    if any(manifest.get(key) != now for key, now in here.items()):
        text = "painted on another device or with other packages; rounding may differ"
        say(text, quiet=args.quiet)
    return paint(request, usual=None if args.out else usual_path(args.picture))


def usual_path(picture: Path) -> Path:
    """`PICTURE-again.png` in the current folder."""
    return Path(f"{picture.name.split('.')[0]}-again.png")


def find_manifest(path: Path) -> dict[str, Any]:
    """The manifest at a path, beside the picture there, or in it."""
    if not path.is_file():
        raise ValueError(
            f"expected a picture or manifest, got {found_at(path)}: {path}"
        )
    beside = path if path.suffix == ".json" else manifest_path(path)
    if beside.is_file():
        return read_manifest(beside)
    try:
        return parse_manifest(read_description(path))
    except ValueError as error:
        raise ValueError(
            f"expected a manifest of jaxnst in {beside} or {path}, got none; paint the "
            "picture with jaxnst stylize"
        ) from error


def again_request(args: argparse.Namespace, manifest: dict[str, Any]) -> StylizeRequest:
    """What a manifest asks for, with its pictures found and checked."""
    folder, recipe = args.picture.parent, recipe_of(manifest["recipe"])
    init, masks = manifest["init"], masks_of(manifest["masks"])
    names = [manifest["content"], *manifest["styles"]]
    moved = [args.content, *(args.style or [None] * len(manifest["styles"]))]
    if init not in STARTS:
        names, moved = [*names, init], [*moved, args.init]
    if len(moved) != len(names):
        raise ValueError(
            f"expected {len(manifest['styles'])} styles, got {len(args.style)}"
        )
    places = [now or folder / name for now, name in zip(moved, names, strict=True)]
    masks = masks.map(lambda path: (args.masks or folder) / path)
    check_pictures([*places, *masks.paths], manifest["pictures_sha256"])
    weights = args.weights or manifest["weights"]
    if weights not in registry.ASSETS and args.weights is None:
        weights = str(folder / weights)
    if sha256(registry.locate(weights)) != manifest["weights_sha256"]:
        raise ValueError(
            f"expected the network that painted {args.picture}, got another at "
            f"{weights}; say where it is by --weights"
        )
    width, height = manifest["size"]
    memory = usable_memory() if args.memory is None else args.memory
    if args.out is not None and args.out.resolve() == args.picture.resolve():
        raise ValueError(
            f"expected an output that is none of the inputs, got {args.out}"
        )
    blend = manifest["blend"]
    start = None if init in STARTS else places[-1]
    request = StylizeRequest(
        content=places[0],
        styles=tuple(places[1 : 1 + len(manifest["styles"])]),
        out=args.out or free_path(usual_path(args.picture)),
        recipe=recipe,
        shape=(height, width),
        size=max(width, height),
        weights=weights,
        seed=manifest["seed"],
        blend=None if blend is None else tuple(blend),
        init=init if start is None else str(start),
        masks=masks,
        memory=memory,
        bits=args.bits or same_bits(args),
        resume=args.resume,
        quiet=args.quiet,
    )
    check_request(request)
    return planned(request, manifest.get("tiles"))


def same_bits(args: argparse.Namespace) -> Literal[8, 16]:
    """The bits of the picture that is painted again, where the output can have them."""
    picture = args.picture
    picture = picture.with_suffix("") if picture.suffix == ".json" else picture
    deep = args.out is None or args.out.suffix.lower() in (".png", ".tif", ".tiff")
    with contextlib.suppress(ValueError):  # the manifest alone may be left
        return 16 if deep and image_bits(picture) == 16 else 8
    return 8


def masks_of(values: dict[str, Any]) -> MaskFiles:
    """Masks from their JSON."""
    pairs = lambda found, second: tuple((Path(a), second(b)) for a, b in found)
    single = {key: values[key] for key in ("hold", "palette")}
    return MaskFiles(
        regions=pairs(values["regions"], lambda own: tuple(map(Path, own))),
        keep_rest=values["keep_rest"],
        style_masks=pairs(values["style_masks"], Path),
        style_scales=pairs(values["style_scales"], float),
        labels=tuple(map(Path, values["labels"])),
        **{key: None if path is None else Path(path) for key, path in single.items()},
    )


def check_pictures(places: Sequence[Path], hashes: Sequence[str]) -> None:
    """Raise a ValueError unless the pictures are there, and are the same."""
    if len(places) != len(hashes):
        raise ValueError(
            f"expected a hash of each of {len(places)} pictures in the manifest, got "
            f"{len(hashes)}; paint the picture with jaxnst stylize"
        )
    for path, wanted in zip(places, hashes, strict=True):
        if not path.is_file():
            raise ValueError(
                f"expected a picture at {path}, got {found_at(path)}; say where it is "
                "by --content, --style or --init"
            )
        if sha256(path) != wanted:
            raise ValueError(
                f"expected the very picture that was painted from at {path}, got "
                "another one; say by --content, --style or --init where it is now"
            )
