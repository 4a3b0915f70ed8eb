"""A plot of the loss over the steps of a run, drawn by matplotlib."""

from typing import Any

import numpy as np
from jaxtyping import Float

from jaxnst.objective import Terms
from jaxnst.recipes import LossWeights


def draw_losses(
    axes: Any, table: Float[np.ndarray, "_steps 4"], weights: LossWeights
) -> None:
    """Draw the weighted terms over the steps; dotted lines divide the stages.

    The table has a row for each step: the index of its stage, and the unweighted terms.
    """
    stages, *columns = table.T
    for name, values in zip(Terms._fields, columns, strict=True):
        weight = getattr(weights, f"{name}_weight")
        axes.semilogy(np.arange(1, len(values) + 1), weight * values, label=name)
    for end in np.flatnonzero(np.diff(stages)) + 1:
        axes.axvline(end + 0.5, color="grey", linestyle=":")
    axes.set(xlabel="step", ylabel="weighted term of the loss")
    axes.legend()
