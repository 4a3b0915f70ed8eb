#!/usr/bin/env python3
"""Paint one picture: `jaxnst stylize` from a checkout.

    python scripts/stylize.py CONTENT STYLE -o OUT

`--help` describes all options.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from jaxnst.command.cli import main

sys.exit(main(["stylize", *sys.argv[1:]]))
