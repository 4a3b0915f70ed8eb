"""The kernel: one optimisation step on an image.

`make_transfer(program)` gives `init` and `step`, in the style of optax. `State` holds
everything that the next step needs, and checkpoints store it. `Info` holds the
measurements of a step, for logs.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from jaxnst.checks import OPTIMIZED, check_image, check_kind
from jaxnst.network.vgg import Backbone
from jaxnst.objective import Objective, Targets, Terms, objective
from jaxnst.optimizers import Optimizer, make_optimizer
from jaxnst.pictures.canvas import Growth
from jaxnst.recipes import Program
from jaxnst.types import Image, Scalar


class Best(NamedTuple):
    """The image after the step with the lowest loss, and that loss."""

    image: Image
    lowest: Scalar


class State(NamedTuple):
    """Everything the next step depends on.

    Attributes:
        image: The image that is optimised.
        output: With `keep_best`, a `Best`. Otherwise the moving average
            `Σ_t (1 - decay) decay^(n-t) x_t` of the images x_t of steps 1 to n, from
            which `current_image` removes the bias, as Adam does. With a decay of 0, the
            average is the last image.
        step: Number of steps taken.
        opt_state: State of the optax optimiser; empty after `at_rest`.
    """

    image: Image
    output: Image | Best
    step: Int[Array | np.ndarray, ""]
    opt_state: optax.OptState


class Info(NamedTuple):
    """The measurements of one step. Loss and gradient are those before the step.

    Attributes:
        loss: Value of the objective.
        terms: Unweighted parts of the loss.
        gradient_norm: Euclidean norm of the gradient with respect to the image.
        finite: Whether loss, gradient and update were all finite. If the loss or the
            gradient was not finite, the step leaves the state unchanged. Otherwise only
            pixels whose update was not finite stay unchanged.
    """

    loss: Float[Array, "*_steps"]
    terms: Terms
    gradient_norm: Float[Array, "*_steps"]
    finite: Bool[Array, "*_steps"]


def at_rest(image: Any) -> State:
    """The state of an image that takes no more steps, without an optimiser state."""
    return State(image, image, np.zeros(image.shape[:-3], np.int32), ())


def current_image(state: State, program: Program) -> Float[Any, "*_lanes _h _w 3"]:
    """The picture so far, clipped to [0, 1]. On the host, it is a NumPy array."""
    numbers = np if isinstance(state.image, np.ndarray) else jnp
    step = state.step[..., None, None, None]
    if isinstance(state.output, Best):
        found = state.output.image
    else:
        left = np.float32(program.ema_decay) ** step.astype(np.float32)
        found = state.output / numbers.maximum(1 - left, np.float32(1e-6))
    return numbers.clip(numbers.where(step > 0, found, state.image), 0, 1)


@dataclass(frozen=True)
class Transfer:
    """A style transfer as pure functions, see `make_transfer`.

    Equal arguments make equal transfers, which share compiled code.

    Attributes:
        program: The losses and the optimiser, and their settings.
        objective: The function to minimise; `program` is its last argument.
        transform: An optax transformation in place of the program's optimiser.
    """

    program: Program
    objective: Objective = objective
    transform: optax.GradientTransformation | None = None

    def __repr__(self) -> str:
        """Return the class and its arguments; the default objective by its name."""
        usual = self.objective is objective
        ours = type(self.objective).__module__.startswith("jaxnst.")
        # A user's function is shown by its address, because its code may change.
        told = repr if ours else object.__repr__
        loss = "objective" if usual else told(self.objective)
        return f"{type(self).__name__}({self.program}, {loss}, {self.transform})"

    @cached_property
    def optimizer(self) -> Optimizer:
        """The optimiser that `step` uses."""
        return make_optimizer(self.program, self.transform)

    @property
    def units(self) -> Float[np.ndarray, "1 1 3"]:
        """Factors on the image: the optimiser sees `units * image`."""
        return np.array(self.program.units, np.float32)[None, None]

    def init(self, image: Image) -> State:
        """The first state of a run, from an image in [0, 1], h w 3."""
        check_image(image, beyond=OPTIMIZED)
        zeros, lowest = jnp.zeros_like(image), jnp.float32(jnp.inf)
        output = Best(zeros, lowest) if self.program.keep_best else zeros
        opt_state = self.optimizer.transform.init(image * self.units)
        state = State(image, output, jnp.int32(0), opt_state)
        # Copies, because the loop donates the state: no two leaves may share a buffer.
        return jax.tree.map(jnp.array, state)

    def step(
        self, state: State, backbone: Backbone, targets: Targets
    ) -> tuple[State, Info]:
        """Take one step, with a network that is calibrated for the recipe.

        Returns:
            The next state, and the `Info` of this step.
        """
        loss_of = lambda image: self.objective(image, backbone, targets, self.program)
        (loss, terms), grad = jax.value_and_grad(loss_of, has_aux=True)(state.image)
        if targets.paint_mask is not None:
            grad = targets.paint_mask * grad
        # The barrier keeps XLA from computing the gradient again for its norm.
        grad = jax.lax.optimization_barrier(grad)
        norm = jnp.sqrt(jnp.vdot(grad, grad))
        # `cond`, not `where`: the state is then updated in place, and only after the
        # memory of the gradient's tiles is free.
        state, moved = jax.lax.cond(
            jnp.isfinite(loss) & jnp.isfinite(norm),
            self._descend,
            lambda state, *_: (state, jnp.bool(False)),
            *(state, loss, grad, targets.learning_rate),
        )
        return state, Info(loss, terms, norm, moved)

    def _descend(
        self, state: State, loss: Scalar, grad: Image, learning_rate: Scalar
    ) -> tuple[State, Bool[Array, ""]]:
        """Move by the optimiser's update; say whether all of it was finite."""
        # With z = units · image, the gradient with respect to z is grad / units.
        update, opt_state = self.optimizer.transform.update(
            grad / self.units,
            state.opt_state,
            state.image * self.units,
            value=loss,
            learning_rate=learning_rate,
        )
        update = learning_rate * cast(Image, update) / self.units
        moves = jnp.isfinite(update)
        image = jnp.where(moves, state.image + update, state.image)
        if self.program.clip:
            image = jnp.clip(image, 0, 1)
        output, decay = state.output, self.program.ema_decay
        if isinstance(output, Best):
            best = jnp.where(loss < output.lowest, image, output.image)
            output = Best(best, jnp.minimum(output.lowest, loss))
        else:
            output = decay * output + (1 - decay) * image
        return State(image, output, state.step + 1, opt_state), jnp.all(moves)

    def enlarge(self, state: State, fresh: State, growth: Growth) -> State:
        """Make the first state of a scale; keep the optimiser state, enlarged.

        `state` is the last state of the scale before; `fresh` is from `init` of the
        enlarged image.
        """
        enlarged = self.optimizer.enlarge(state.opt_state, fresh.opt_state, growth)
        return fresh._replace(opt_state=enlarged)

    def drop_history(self, state: State) -> State:
        """Drop the parts of a state that `enlarge` does not need, to free memory."""
        return state._replace(opt_state=self.optimizer.drop_history(state.opt_state))


def make_transfer(
    program: Program,
    *,
    objective: Objective = objective,
    optimizer: optax.GradientTransformation | None = None,
) -> Transfer:
    """Make `init` and `step` for a program.

    `init` and `step` compose with `jit`, `vmap`, `scan` and (with Adam) `grad`. The
    network and the targets are arguments, so a new style of the same size, a new loss
    weight or a new learning rate never recompiles.

    Args:
        program: What to minimise and how: the `program` of a recipe.
        objective: Function to minimise instead of `objective.objective`. It may call
            `objective.objective` and add to that loss.
        optimizer: An optax transformation to use instead of the program's optimiser.
            Give it a learning rate of 1: its updates are multiplied by
            `targets.learning_rate`. At the next scale, its state is enlarged by
            `optimizers.enlarge_moments`.

    Returns:
        A `Transfer`, with `init` and `step`.

    Raises:
        ValueError: If `program` is not a `Program`.

    Example:
        >>> import jaxnst
        >>> transfer = make_transfer(jaxnst.get_recipe("painterly").program)
        >>> state = transfer.init(jnp.full((32, 32, 3), 0.5))
        >>> state.image.shape
        (32, 32, 3)

        With an optimiser of optax:

        >>> slow = make_transfer(
        ...     transfer.program, optimizer=optax.sgd(1.0, momentum=0.9)
        ... )
    """
    check_kind(program, Program, "recipe.program")
    return Transfer(program, objective, optimizer)
