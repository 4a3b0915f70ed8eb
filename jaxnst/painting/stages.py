"""The loop over the stages of a run, shared by single pictures and batches."""

import io
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from PIL import Image as pil

from jaxnst.checks import check_installed
from jaxnst.compiled import Runner, compiling_ahead
from jaxnst.network.vgg import Backbone
from jaxnst.objective import Targets, Terms
from jaxnst.painting.checkpoint import Checkpoint
from jaxnst.painting.loop import ChunkSchedule, run
from jaxnst.painting.plan import Stage, Stages
from jaxnst.painting.plot import draw_losses
from jaxnst.pictures.source import as_levels
from jaxnst.recipes import LossWeights
from jaxnst.transfer import Info, State, Transfer
from jaxnst.types import Image


class Setup(NamedTuple):
    """What the steps of a stage need.

    Attributes:
        backbone: The network, calibrated for the recipe.
        targets: Targets of the loss; None if the stage takes no steps.
        end: Function that is applied to the state after the last step.
        call: Calls the programs of the stage.
    """

    transfer: Transfer
    state: State
    backbone: Backbone
    targets: Targets | None
    end: Callable[[State], State]
    call: Runner


SetUp = Callable[[int, State | None, bool], Setup]
"""`set_up(number, state, resumed)` begins a stage. `state` is the last state of the
stage before, or None. If `resumed`, `state` comes from a checkpoint of this stage."""

Show = Callable[[State, int], Any]
"""`show(state, number)` makes a picture of a state of a stage."""


class Progress(NamedTuple):
    """The progress of a run between two launches of steps.

    Attributes:
        stages: All stages of the run.
        stage_index: Index of the current stage in `stages`.
        taken: Steps taken in this stage.
        state: Current state. The next step donates it, so copy arrays that you keep.
        info: Infos of the last launch; empty in a stage that takes no steps.
        show: Makes a picture of the state, see `image`.
    """

    stages: Stages
    stage_index: int
    taken: int
    state: State
    info: Info
    show: Show

    @property
    def stage(self) -> Stage:
        """The current stage."""
        return self.stages[self.stage_index]

    @property
    def at_end(self) -> bool:
        """Whether all steps of the run are taken."""
        last = self.stage_index == len(self.stages) - 1
        return last and self.taken == self.stage.steps

    @property
    def image(self) -> Image:
        """The picture so far, RGB in [0, 1]; for a batch, the pictures of all lanes."""
        return self.show(self.state, self.stage_index)


NOTHING: Any = np.zeros(0)
NO_STEPS = Info(NOTHING, Terms(NOTHING, NOTHING, NOTHING), NOTHING, NOTHING)
"""The infos of no steps."""


class Result(NamedTuple):
    """A finished picture.

    Attributes:
        image: RGB in [0, 1], h w 3.
        stages: All stages of the run.
        infos: For each stage that took steps in this call, the infos of these steps.
        status: `diverged` if a step was not finite, otherwise `done`. If `diverged`,
            the image is the last finite one.
        seconds: Wall-clock time of each stage, with compilation. The time of a batch is
            divided equally among its lanes.
        weights: Weights of the loss terms, from the recipe.
    """

    image: Image | Float[np.ndarray, "_h _w 3"]
    stages: Stages
    infos: list[Info]
    status: Literal["done", "diverged"]
    seconds: list[float]
    weights: LossWeights

    def _repr_png_(self) -> bytes:
        """The image as a PNG of 8 bits, which notebooks show."""
        file = io.BytesIO()
        pil.fromarray(as_levels(self.image)).save(file, "PNG")
        return file.getvalue()

    def plot_losses(self) -> Any:
        """Plot the weighted terms of the loss over the steps, in a figure of pyplot.

        Returns:
            The axes of matplotlib.

        Raises:
            ValueError: If matplotlib is not installed, or no steps were taken.

        Example:
            >>> import jaxnst
            >>> from jaxnst.objective import Terms
            >>> one = np.ones(2, np.float32)
            >>> info = Info(one, Terms(one, one, one), one, one > 0)
            >>> weights = jaxnst.get_recipe("painterly").weights
            >>> result = Result(np.ones((2, 2, 3)), (), [info], "done", [1.0], weights)
            >>> result.plot_losses().get_xlabel()
            'step'
        """
        check_installed("matplotlib", "plot_losses", "plot")
        if not self.infos:
            raise ValueError("no steps were taken, so there are no losses to plot")
        from matplotlib import pyplot

        rows = [
            np.column_stack([np.full(len(info.loss), i), *info.terms])
            for i, info in enumerate(self.infos)
        ]
        _, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
        draw_losses(axes, np.concatenate(rows), self.weights)
        return axes


@compiling_ahead()
def paint_stages(
    set_up: SetUp,
    show: Show,
    stages: Stages,
    *,
    resume: Checkpoint | None = None,
    chunk: int = 50,
    on_chunk: Callable[[Progress], None] | None = None,
    stop: bool = False,
) -> tuple[State, list[Info], list[float]]:
    """Paint stage after stage, from the start or from a checkpoint.

    `on_chunk` is called after every launch of at most `chunk` steps, and at the start
    of a stage without steps. With `stop`, a stage with a step that was not finite is
    the last one. `show` makes `Progress.image`. Returns the last state, the infos of
    each stage that took steps, and the seconds of each stage that was painted.
    """
    state: Any = None
    first = taken = 0
    if resume is not None:
        # A copy, since the first step donates it.
        state = jax.device_put(resume.state, may_alias=False)
        first, taken = resume.scale, resume.taken
    infos, seconds = [], []
    for number in range(first, len(stages)):
        began, stage = time.perf_counter(), stages[number]
        setup = set_up(number, state, resume is not None and number == first)
        del state  # its memory is free for the steps

        def report(state: State, info: Info, number: int = number) -> None:
            nonlocal taken
            taken += len(info.loss)
            if on_chunk is not None:
                on_chunk(Progress(stages, number, taken, state, info, show))

        state = setup.state
        if setup.targets is None:
            report(state, NO_STEPS)
        elif taken < stage.steps:
            schedule = ChunkSchedule(taken, chunk, on_chunk=report, call=setup.call)
            given = setup.transfer, state, setup.backbone, setup.targets
            state, info = run(*given, steps=stage.steps - taken, schedule=schedule)
            del given
            infos.append(info)
            if stop and not info.finite.all():
                seconds.append(time.perf_counter() - began)
                break
        # This frees memory before the targets of the next stage are measured.
        state = setup.end(state)
        seconds.append(time.perf_counter() - began)
        taken = 0
        del setup
    return state, infos, seconds
