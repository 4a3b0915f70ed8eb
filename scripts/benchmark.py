#!/usr/bin/env python3
"""Time this machine: `jaxnst bench` from a checkout.

    python scripts/benchmark.py

`--help` describes all options; a full run takes many minutes.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from jaxnst.command.cli import main

if __name__ == "__main__":  # not in the processes that it starts
    sys.exit(main(["bench", *sys.argv[1:]]))
