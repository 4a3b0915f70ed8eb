#!/usr/bin/env python3
"""Paint many pictures: `jaxnst grid` from a checkout.

    python scripts/grid.py --content A … --style X … -o DIR

`--help` describes all options.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from jaxnst.command.cli import main

sys.exit(main(["grid", *sys.argv[1:]]))
