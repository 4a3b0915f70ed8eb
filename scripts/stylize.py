#!/usr/bin/env python3
"""Paint one picture: `jaxnst stylize` from a checkout."""

import sys

from jaxnst.cli import main

sys.exit(main(["stylize", *sys.argv[1:]]))
