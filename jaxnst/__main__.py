"""`python -m jaxnst` is the `jaxnst` command."""

import sys

from jaxnst.command.cli import main

sys.exit(main())
