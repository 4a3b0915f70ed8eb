"""`jaxnst weights`: the network's weights, listed, fetched, converted and checked."""

import argparse
from pathlib import Path

import numpy as np

from jaxnst.command.flags import Parser, one_file
from jaxnst.command.reporter import say
from jaxnst.disk import check_target
from jaxnst.network.vgg import layer_name
from jaxnst.weights import registry
from jaxnst.weights.convert import convert, read_foreign
from jaxnst.weights.format import describe, is_ours, read_backbone


def add_flags(p: Parser) -> None:
    """Add the actions of `weights`."""
    actions = p.add_subparsers(required=True, metavar="ACTION")
    a = actions.add_parser("list", help="named weights and where they are")
    a.set_defaults(call=list_command)
    a = actions.add_parser("pull", help="download weights and convert them, once")
    a.add_argument("name", choices=registry.ASSETS, help="see: jaxnst weights list")
    a.add_argument("--quiet", action="store_true", help="print errors only")
    a.set_defaults(call=pull_command)
    a = actions.add_parser("convert", help="convert a weights file of another project")
    a.add_argument(
        "source", type=one_file, help="file of Keras, PyTorch, MatConvNet, Caffe …"
    )
    a.add_argument("target", type=Path, help="the .h5 file to write")
    family = "kind of input that the network expects, if the file does not say"
    a.add_argument("--family", choices=("caffe", "torchvision"), help=family)
    a.set_defaults(call=convert_command)
    a = actions.add_parser("check", help="verify a file and describe it")
    a.add_argument("path", help="a path, or a name such as embedded")
    a.set_defaults(call=check_command)


def list_command(args: argparse.Namespace) -> int:
    """List the named weights and where they are."""
    for name, asset in registry.ASSETS.items():
        path = registry.asset_path(name)
        place = path if path.is_file() else f"missing; run jaxnst weights pull {name}"
        print(f"{name:<12} {asset.summary}; {asset.licence}\n{'':<12} {place}")
    return 0


def pull_command(args: argparse.Namespace) -> int:
    """Fetch named weights and convert them."""
    path = registry.pull(args.name, quiet=args.quiet)
    licence = registry.ASSETS[args.name].licence
    say(f"{args.name} weights are at {path} ({licence})", quiet=args.quiet)
    return 0


def convert_command(args: argparse.Namespace) -> int:
    """Turn a weights file of another project into one of jaxnst."""
    check_target(args.target)
    if args.target.suffix != ".h5":
        raise ValueError(f"{args.target} is no .h5; end its name in .h5")
    source = registry.locate(str(args.source))
    if args.target.exists() and args.target.samefile(source):
        raise ValueError(f"{args.target} would overwrite the source; choose another")
    convert(source, args.target, family=args.family)
    print(f"wrote {args.target}; use it with --weights {args.target}")
    return 0


def check_command(args: argparse.Namespace) -> int:
    """Verify a weights file and describe it."""
    path = registry.locate(args.path)
    about = describe(path)
    if is_ours(path):
        backbone = read_backbone(path)
    else:
        backbone, more = read_foreign(path)
        about |= more
    for key, value in about.items():
        print(f"{key:<15} {value}")
    for name, conv in backbone.params.items():
        mean = backbone.mean_activation[layer_name(name)]
        print(
            f"{name}  kernel {'x'.join(map(str, conv['kernel'].shape)):<11}"
            f"  rms {float(np.sqrt((conv['kernel'] ** 2).mean())):<7.4f}"
            f"  mean activation {float(mean.mean()):<9.4g}"
            f"  silent filters {int((mean == 0).sum())}"
        )
    print("all names and shapes are correct, and all numbers are finite")
    if "content_sha256" in about:
        print("the numbers match the checksum in the file")
    return 0
