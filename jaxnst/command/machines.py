"""Machines that share one grid: they synchronise once, then run independently."""

import hashlib
import re
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils


def join(
    distributed: bool, coordinator: str | None, count: int | None, index: int | None
) -> None:
    """Join the other machines, at the coordinator HOST:PORT or as JAX detects them."""
    if coordinator is None and (count, index) != (None, None):
        raise ValueError(
            "--machines and --machine need --coordinator HOST:PORT; add the address of "
            "machine 0"
        )
    if coordinator is not None:
        if count is None or index not in range(count):
            last = "N-1" if count is None else count - 1
            raise ValueError(
                "--coordinator needs the count of machines and the index of this one; "
                f"add --machines N and --machine 0 … {last}"
            )
        if not re.fullmatch(r".+:\d+", coordinator):
            raise ValueError(
                f"--coordinator {coordinator} is not HOST:PORT; add a host and a port"
            )
        try:
            jax.distributed.initialize(coordinator, count, index)
        except RuntimeError as error:
            raise ValueError(
                f"machine 0 does not answer at {coordinator} ({error}); start the "
                "same command there"
            ) from error
    elif distributed:
        try:
            jax.distributed.initialize()
        except ValueError as error:
            raise ValueError(
                f"JAX detects no other machines ({error}); use --coordinator unless "
                "under SLURM, Kubernetes or on TPUs"
            ) from error


def union_done(names: Sequence[str], done: list[bool]) -> list[bool]:
    """For each picture, whether any machine sees it as done.

    So all machines divide the same rest. All raise a ValueError if their `names`, which
    identify the grid, differ.
    """
    if jax.process_count() == 1:
        return done
    digest = hashlib.sha256("\n".join(names).encode()).digest()
    digests = multihost_utils.process_allgather(np.frombuffer(digest, np.uint8))
    if len({row.tobytes() for row in digests}) > 1:
        raise ValueError(
            "the machines have different pictures or weights; give all the same "
            "command, folders that all can see, and the same --weights"
        )
    seen = multihost_utils.process_allgather(np.array(done))
    return [bool(x) for x in np.any(seen, axis=0)]


def leave() -> None:
    """Disconnect from the other machines; from here on, none depends on another."""
    if jax.distributed.is_initialized():
        jax.distributed.shutdown()
