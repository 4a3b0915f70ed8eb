"""`jaxnst again` repaints a picture from its manifest."""

import argparse
import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from jaxnst.command import flags
from jaxnst.command.describe import describe_device, package_versions
from jaxnst.command.reporter import say
from jaxnst.command.stylize import paint
from jaxnst.disk import check_file, free_path
from jaxnst.foreign import parse_json
from jaxnst.pictures.files import is_picture, read_description
from jaxnst.pictures.source import open_source
from jaxnst.request.manifest import (
    Manifest,
    check_manifest,
    manifest_path,
    read_manifest,
)
from jaxnst.weights import registry
from jaxnst.weights.format import sha256


def add_flags(p: flags.Parser) -> None:
    """Add the flags of `again`."""
    p.set_defaults(call=again_command)
    add = p.add_argument
    add(
        "picture",
        type=flags.one_file,
        help="a picture that jaxnst painted, or its .json",
    )
    add("-o", "--out", type=Path, help="default: ./PICTURE-again.png")
    where = "folder to search, with its subfolders, for inputs that have moved"
    add("--look-in", type=Path, metavar="FOLDER", help=where, **flags.REPEATABLE)
    bits = "bits per channel (default: the same)"
    add("--bits", type=int, choices=(8, 16), help=bits)
    add("--resume", action="store_true", help="continue from the checkpoint")
    moved = "the same network, if its file has moved"
    flags.add_machine_flags(p, memory=True, weights=moved)


def again_command(args: argparse.Namespace) -> int:
    """Paint the picture of a manifest; return the exit code."""
    picture: Path = args.picture
    manifest = find_manifest(picture)
    folders = [picture.parent, *args.look_in]
    found = find_pictures(manifest, folders)
    weights = args.weights or manifest.painting.network
    if args.weights is None and weights not in registry.ASSETS:
        weights = str(picture.parent / weights)
    if sha256(registry.locate(weights)) != manifest.weights_sha256:
        raise ValueError(
            f"{weights} is not the network that painted {picture}; name its file with "
            "--weights"
        )
    painting = manifest.painting.map(found.__getitem__)
    painting = dataclasses.replace(painting, weights=weights)
    if args.out is not None and args.out.resolve() == picture.resolve():
        raise ValueError(f"{args.out} would overwrite {picture}; choose another --out")
    here = manifest.device, manifest.versions
    if here != (describe_device(), package_versions()):
        text = "painted on another device or with other packages; rounding may differ"
        say(text, quiet=args.quiet)
    usual = Path(f"{picture.name.split('.')[0]}-again.png")
    args.bits = args.bits or same_bits(picture, args.out)
    run = flags.run_from(args, args.out or free_path(usual))
    tiles = manifest.tiles
    return paint(painting, run, usual=None if args.out else usual, tiles=tiles)


def find_manifest(path: Path) -> Manifest:
    """The manifest at a path, or beside or inside the picture at that path."""
    check_file(path, "a picture or its manifest")
    beside = path if path.suffix == ".json" else manifest_path(path)
    if beside.is_file():
        return read_manifest(beside)
    try:
        return check_manifest(parse_json(read_description(path)), str(path))
    except ValueError as error:
        raise ValueError(
            f"neither {path} nor {beside} has settings of jaxnst; name a picture that "
            "jaxnst painted"
        ) from error


def find_pictures(manifest: Manifest, folders: Sequence[Path]) -> dict[Path, Path]:
    """The file of each input in a manifest; a ValueError if an input is not found.

    The first folder is the manifest's own: there, inputs are found by their path. In
    the other folders, they are found by the hash of their contents.
    """
    first, *more = folders
    elsewhere: dict[str, Path] = {}
    found = {}
    names = manifest.painting.paths
    for name, digest in zip(names, manifest.pictures_sha256, strict=True):
        path = first / name
        if path.is_file() and sha256(path) == digest:
            found[name] = path
            continue
        if more and not elsewhere:
            files = [x for folder in more for x in folder.rglob("*") if is_picture(x)]
            elsewhere = {sha256(x): x for x in sorted(files) if x.is_file()}
        if digest not in elsewhere:
            why = "has changed" if path.is_file() else "is gone"
            raise ValueError(
                f"the input {path} {why}; pass --look-in FOLDER with a folder that has "
                "the original"
            )
        found[name] = elsewhere[digest]
    return found


def same_bits(picture: Path, out: Path | None) -> Literal[8, 16]:
    """16 if the earlier picture has 16 bits and the output can have them; else 8."""
    picture = picture.with_suffix("") if picture.suffix == ".json" else picture
    deep = out is None or out.suffix.lower() in (".png", ".tif", ".tiff")
    # Perhaps only the manifest is left.
    with contextlib.suppress(ValueError), open_source(picture) as source:
        return 16 if deep and source.bits == 16 else 8
    return 8
