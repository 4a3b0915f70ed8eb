"""Checkpoints of unfinished runs: written whole, and checked when they are read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnst.disk import check_file, write_whole
from jaxnst.transfer import State, Transfer, at_rest

FORMAT = "jaxnst-checkpoint-5"

RECORD = "record-"
"""Prefix of the names of records in the file."""


class Checkpoint(NamedTuple):
    """The progress of an unfinished run.

    Attributes:
        scale: Index of the scale, coarsest first.
        taken: Steps already taken at this scale.
        state: State after these steps.
        tiles: Size of the tiles of each scale; None: the scale has no tiles.
        inputs: Inputs of the run. A run with other inputs cannot resume from here.
        records: Arrays that the run has recorded so far, by name.
    """

    scale: int
    taken: int
    state: State
    tiles: list[int | None]
    inputs: dict[str, Any]
    records: Mapping[str, np.ndarray] = {}


def difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The first difference between the inputs of two runs, in words; empty if none.

    An input with a hash, such as `weights` with `weights_sha256`, is compared by hash.

    Example:
        >>> difference({"seed": 1, "blend": None}, {"seed": 2, "blend": None})
        'another seed (1, not 2)'
    """
    for key, wanted in now.items():
        got = before.get(key)
        if got == wanted or f"{key}_sha256" in now:
            continue
        if isinstance(got, dict) and isinstance(wanted, dict):
            return difference(got, wanted) or f"another {key}"
        if key == "weights_sha256":
            key, got, wanted = "network", before.get("weights"), now.get("weights")
        said = "" if "sha256" in key else f" ({got}, not {wanted})"
        return f"another {key}{said}"
    return ""


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all."""
    leaves = jax.device_get(jax.tree.leaves(checkpoint.state))
    meta = checkpoint._replace(state=None, records={})._asdict() | {"format": FORMAT}
    arrays = {f"leaf{i}": leaf for i, leaf in enumerate(leaves)}
    arrays |= {f"{RECORD}{name}": array for name, array in checkpoint.records.items()}
    with write_whole(path) as file:
        np.savez(file, meta=np.asarray(json.dumps(meta)), **arrays)


def load_checkpoint(
    path: str | Path, transfer: Transfer, inputs: dict[str, Any]
) -> Checkpoint:
    """Read a checkpoint of a run with this transfer and these inputs.

    The state comes back bit for bit, as NumPy arrays.

    Raises:
        ValueError: If the file is missing, is no checkpoint, or was written by another
            version or by another run.
    """
    path = Path(path)
    check_file(path, "a checkpoint", "leave out --resume to start anew")
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            meta = json.loads(str(file["meta"]))
            leaves = [file[name] for name in file if name.startswith("leaf")]
            recorded = [name for name in file if name.startswith(RECORD)]
            records = {name.removeprefix(RECORD): file[name] for name in recorded}
        fields = {key: meta[key] for key in ("scale", "taken", "tiles", "inputs")}
    except Exception as error:  # zipfile, NumPy and JSON each raise their own
        raise ValueError(
            f"{path} is damaged or not a checkpoint; delete it and leave out --resume "
            "to start anew"
        ) from error
    if meta.get("format") != FORMAT:
        raise ValueError(
            f"another version of jaxnst wrote the checkpoint {path}, expected format "
            f"{FORMAT}; finish the run with that version, or leave out --resume to "
            "start anew"
        )
    if other := difference(fields["inputs"], json.loads(json.dumps(inputs))):
        raise ValueError(
            f"the checkpoint {path} is of a run with {other}; repeat the command that "
            "wrote it, or leave out --resume"
        )
    shapes = lambda tree: [x.shape for x in jax.tree.leaves(tree)]
    known = jax.eval_shape(transfer.init, leaves[0]), at_rest(leaves[0])
    fitting = [x for x in known if shapes(x) == shapes(leaves)]
    if not fitting:
        raise ValueError(
            f"the checkpoint {path} holds the state of another optimiser; leave out "
            "--resume to start anew"
        )
    state = jax.tree.unflatten(jax.tree.structure(fitting[0]), leaves)
    return Checkpoint(state=state, records=records, **fields)
