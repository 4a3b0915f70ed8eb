"""Defaults of the command, some of which depend on the machine."""

from pathlib import Path
from typing import Literal

import jax

from jaxnst.recipes import Recipe, get_recipe
from jaxnst.weights.registry import cache_folder

QUALITY = {"draft": 0.4, "normal": 1.0, "best": 3.0}
"""Factor on a recipe's steps."""

PREVIEW = 128
"""Long edge of the pictures of `jaxnst grid --preview`."""


def fastest_dtype() -> Literal["float32", "bfloat16"]:
    """Default dtype of convolutions: float32 on a CPU, bfloat16 on accelerators."""
    try:
        backend = jax.default_backend()
    except Exception as error:  # each kind of device raises its own type
        why = f" ({error})" if str(error) else ""
        raise ValueError(
            f"expected a device that JAX can use, got none{why}; check JAX_PLATFORMS "
            "and the drivers"
        ) from error
    return "float32" if backend == "cpu" else "bfloat16"


def default_recipe(name: str) -> Recipe:
    """The recipe of that name, with the fastest dtype of this machine."""
    return get_recipe(name).replace(dtype=fastest_dtype())


def with_steps(recipe: Recipe, factor: float) -> Recipe:
    """A recipe whose numbers of steps are multiplied by a factor."""
    least, plan = int(recipe.paints), recipe.schedule
    return recipe.replace(
        first_steps=max(least, round(plan.first_steps * factor)),
        steps=max(min(1, plan.steps), round(plan.steps * factor)),
    )


def times_path() -> Path:
    """File where this machine keeps the times of steps."""
    return cache_folder() / "step-times.json"
