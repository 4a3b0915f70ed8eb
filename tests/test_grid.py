import inspect
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import KEY, compiled_steps, paint, paint_grid, random_image
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh

from jaxnst import transfer
from jaxnst.compiled import Runner
from jaxnst.objective import make_targets
from jaxnst.painting import grid, loop
from jaxnst.painting.lanes import (
    lane_bytes,
    lane_work,
    make_lanes,
    plan_batches,
    share_of_lanes,
)
from jaxnst.painting.measurer import Measurer
from jaxnst.painting.memory import free_memory
from jaxnst.painting.stage import Measuring
from jaxnst.painting.stages import Result
from jaxnst.recipes import get_recipe

# A large ε keeps Adam from blowing up rounding where the gradient is next to nothing.
RECIPE = get_recipe("delicate").replace(
    content_layers=(("relu2_1", 1.0),),
    style_layers=(("relu1_1", 0.5), ("relu3_1", 0.5)),
    optimizer="adam",
    learning_rate=0.02,
    epsilon=1e-4,
    ema_decay=0.95,
    min_size=20,
    first_steps=4,
    steps=3,
)
GRAM = RECIPE.replace(style_loss="gram", scales=1)
LBFGS = GRAM.replace(optimizer="lbfgs", learning_rate=0.5, history=3, first_steps=2)
CONTENTS = [random_image(0, 24, 32), random_image(1, 32, 24), random_image(2, 24, 32)]
# The last one has fewer positions at relu3_1 than that layer has channels.
STYLES = [random_image(3, 40, 30), random_image(4, 30, 40), random_image(5, 9, 30)]


def assert_same(found, expected):
    """Rounding may be larger than that where a gradient is next to nothing."""
    np.testing.assert_allclose(found, expected, atol=1e-2)
    assert np.abs(found - expected).mean() < 3e-4


def compiled(function, *args):
    """Compile for a flat list of arguments: what holds ours insists on arrays."""
    leaves, structure = jax.tree.flatten(args)
    flat = jax.jit(lambda *leaves: function(*jax.tree.unflatten(structure, leaves)))
    return flat.lower(*leaves).compile()


def mesh_of(devices):
    return Mesh(np.array(jax.devices()[:devices]), ("lane",))


@pytest.mark.parametrize("recipe", [RECIPE, GRAM, LBFGS], ids=["w2", "gram", "lbfgs"])
def test_a_lane_is_what_stylize_paints_alone(backbone, recipe):
    """Of either shape, and beside a style with fewer positions."""
    vary = {"style_weight": [0.5, 1.0], "content_weight": [0.1, 0.4]}
    options = {"vary": vary, "mesh": mesh_of(2)}
    found = paint_grid(backbone, CONTENTS, STYLES, recipe, **options)
    assert [images.shape for images in found] == [
        (3, 4, *content.shape) for content in CONTENTS
    ]
    for i, j, setting in [(0, 0, 0), (1, 2, 1), (2, 2, 3)]:
        changed = recipe.replace(
            style_weight=vary["style_weight"][setting // 2],
            content_weight=vary["content_weight"][setting % 2],
        )
        alone = paint(backbone, CONTENTS[i], [STYLES[j]], changed).image
        assert_same(found[i][j, setting], alone)
        assert np.abs(found[i][j, setting] - found[i][j, setting - 1]).mean() > 1e-3


def test_seeds_learning_rates_and_blends_are_lanes_too(backbone):
    recipe = GRAM.replace(init="noise")
    blends, rates = [(1.0, 0.0), (0.25, 0.75)], [0.01, 0.02]
    vary = {"seed": [3, 4], "blend": blends, "learning_rate": rates}
    found = paint_grid(backbone, CONTENTS[:1], STYLES[:2], recipe, vary=vary)
    assert found[0].shape == (1, 8, 24, 32, 3)
    given = backbone, CONTENTS[0], STYLES[:2], recipe.replace(learning_rate=rates[1])
    alone = paint(*given, key=jax.random.key(4), blend=jnp.array(blends[1]))
    assert_same(found[0][0, -1], alone.image)
    assert len({image.tobytes() for image in found[0][0]}) == 8


def test_the_number_of_devices_changes_nothing(backbone):
    """Five lanes are fewer than eight devices, and no multiple of three."""
    vary = {"style_weight": [0.1, 0.3, 1.0, 3.0, 10.0]}
    recipe = RECIPE.replace(epsilon=1e-8, scales=1)
    given, options = (backbone, CONTENTS[:1], STYLES[:1], recipe), {"vary": vary}
    one, three, eight = (
        paint_grid(*given, **options, mesh=mesh_of(devices), batch=1)[0]
        for devices in (1, 3, 8)
    )
    np.testing.assert_allclose(three, one, atol=1e-6)
    np.testing.assert_allclose(eight, one, atol=1e-6)


def test_devices_have_nothing_to_tell_each_other(backbone, monkeypatch):
    programs, call = [], Runner.__call__

    def spy(self, function, *args, **options):
        if function is not loop.run_chunk:
            return call(self, function, *args, **options)
        program = compiled(partial(inspect.unwrap(function), **options), *args)
        programs.append(program.as_text())
        return program(*jax.tree.leaves(args))

    monkeypatch.setattr(Runner, "__call__", spy)
    vary = {"style_weight": [float(x) for x in range(1, 17)]}
    for recipe in (RECIPE.replace(scales=1), LBFGS):
        given = backbone, CONTENTS[:1], STYLES[:1], recipe
        paint_grid(*given, vary=vary, mesh=mesh_of(8))
    assert len(programs) >= 2
    words = ("all-reduce", "all-gather", "all-to-all", "collective", "reduce-scatter")
    for text in programs:
        assert "num_partitions=8" in text
        assert not [word for word in words if word in text]


def test_a_sweep_compiles_once_and_measures_each_picture_once(backbone, monkeypatch):
    measured = {"content": 0, "style": 0}

    def count(name, function):
        def counted(*args, **options):
            measured[name] += 1
            return function(*args, **options)

        return counted

    for name, method in (("content", "drawing"), ("style", "styles")):
        counted = count(name, getattr(Measuring, method))
        monkeypatch.setattr(Measuring, method, counted)
    vary = {"style_weight": [1.0, 2.0], "learning_rate": [0.01, 0.02]}
    # What no other test compiles.
    recipe = RECIPE.replace(palette="content", beta2=0.9875)
    with compiled_steps() as programs:
        given = backbone, [CONTENTS[0], CONTENTS[2]], STYLES, recipe
        paint_grid(*given, vary=vary, batch=1, mesh=mesh_of(1))
    scales = 2
    assert len(programs) == scales
    assert measured == {"content": 2 * scales, "style": 3 * scales}


def test_choices_that_are_no_numbers_can_vary_too(backbone):
    vary = {"pooling": ["max", "average"], "first_steps": [1, 2]}
    once = RECIPE.replace(scales=1)
    found = paint_grid(backbone, CONTENTS[:1], STYLES[:1], once, vary=vary)
    changed = once.replace(pooling="average", first_steps=1)
    alone = paint(backbone, CONTENTS[0], STYLES[:1], changed)
    assert_same(found[0][0, 2], alone.image)
    assert len({image.tobytes() for image in found[0][0]}) == 4


def test_a_lane_that_diverges_leaves_the_others_alone(backbone):
    lanes = make_lanes(
        [(24, 32)], 1, RECIPE, key=KEY, vary={"style_weight": [1.0, 3e38, 2.0]}
    )
    measurer = Measurer(lambda lane: CONTENTS[0], lambda lane: [STYLES[0]])
    found = grid.paint_lanes(measurer, backbone, lanes, mesh=mesh_of(1))
    results = [result for _, result in found]
    assert [result.status for result in results] == ["done", "diverged", "done"]
    assert all(np.isfinite(result.image).all() for result in results)
    assert [len(info.loss) for info in results[0].infos] == [4, 3]
    doubled = RECIPE.replace(style_weight=2.0)
    alone = paint(backbone, CONTENTS[0], STYLES[:1], doubled)
    assert_same(results[2].image, alone.image)


def test_batches_that_do_not_fit_are_halved(backbone, monkeypatch):
    widths = []

    def short_of_memory(lanes, width, *_, on_chunk):
        widths.append(width)
        if width > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: too much")
        image = np.zeros((24, 32, 3), np.float32)
        result = Result(image, (), [], "done", [], RECIPE.weights)
        return [(lane, result) for lane in lanes]

    monkeypatch.setattr(grid, "_paint_batch", short_of_memory)
    lanes = lanes_of([(24, 32)], 6)
    given = Measurer(lambda lane: CONTENTS[0], lambda lane: []), backbone, lanes
    found = grid.paint_lanes(*given, mesh=mesh_of(1), batch=5)
    assert [lane.setting for lane, _ in found] == [
        lane.setting for lane in sorted(lanes, key=lambda lane: lane.setting["beta1"])
    ]
    assert widths == [5, 2, 2, 2] * 2


def kind_of(lane):
    """Lanes share a batch if their programs and canvases are the same."""
    return lane.recipe.program, lane.turned, *(x.size for x in lane.canvases)


def lanes_of(shapes, varied):
    return make_lanes(
        shapes,
        1,
        RECIPE,
        key=KEY,
        vary={"style_weight": [float(x) for x in range(varied)], "beta1": [0.5, 0.6]},
    )


sides = st.integers(24, 600)
shapes = st.lists(st.tuples(sides, sides), min_size=1, max_size=4)


@settings(deadline=None, max_examples=50)
@given(shapes, st.integers(1, 9), st.integers(1, 8), st.none() | st.integers(1, 9))
@example([(24, 322), (25, 322)], 1, 1, None)  # on one canvas
def test_batches_hold_every_lane_once_and_fit(shapes, varied, devices, batch):
    lanes = lanes_of(shapes, varied)
    plan = plan_batches(lanes, mesh_of(devices), batch=batch)
    painted = [id(lane) for some, _ in plan for lane in some]
    assert sorted(painted) == sorted(map(id, lanes))
    widths = {}
    for some, width in plan:
        (kind,) = set(map(kind_of, some))
        assert len(some) <= width
        assert width % devices == 0
        assert widths.setdefault(kind, width) == width
        if batch is None and width > devices:
            needed = width // devices * lane_bytes(some[0].shape, RECIPE)
            assert needed <= free_memory(jax.devices()[0]) / devices
        if batch is not None:
            alike = [x for x in lanes if kind_of(x) == kind]
            assert width == devices * min(batch, len(alike))


@settings(deadline=None, max_examples=50)
@given(shapes, st.integers(1, 9), st.integers(1, 9))
def test_machines_share_the_lanes_evenly(shapes, varied, count):
    lanes = lanes_of(shapes, varied)
    shares = [share_of_lanes(lanes, index, count) for index in range(count)]
    assert sorted(id(x) for share in shares for x in share) == sorted(map(id, lanes))
    work = [sum(lane_work(lane) for lane in share) for share in shares]
    largest = max(map(lane_work, lanes))
    assert max(work) - min(work) <= 2 * largest


def test_a_lane_takes_no_more_memory_than_is_planned(backbone):
    """What XLA asks for, in a batch of four beyond one of two."""
    recipe = get_recipe("delicate")
    shape = (48, 64)
    content = random_image(0, *shape)
    make = transfer.make_transfer(recipe.program)
    targets = make_targets(backbone, content, [content], recipe)

    def needed(lanes):
        state, batch = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((lanes, *x.shape), x.dtype),
            (jax.eval_shape(make.init, content), targets),
        )
        step = jax.vmap(make.step, in_axes=(0, None, 0))
        found = compiled(step, state, backbone, batch).memory_analysis()
        return found.temp_size_in_bytes + found.argument_size_in_bytes

    assert needed(4) - needed(2) <= 2 * lane_bytes(shape, recipe)


def test_styles_of_any_shape_fit_into_one_batch(backbone):
    """Sized by their short edges, a longer one has more positions than a square."""
    recipe = RECIPE.replace(size_edge="short", scales=1, first_steps=1)
    styles = [random_image(3, 8, 8), random_image(4, 8, 20)]
    contents = [random_image(0, 8, 10)]
    found = paint_grid(backbone, contents, styles, recipe, mesh=mesh_of(1))
    assert found[0].shape == (2, 1, 8, 10, 3)


def test_a_lane_that_cannot_fit_is_refused(backbone):
    with pytest.raises(ValueError, match="60000 x 40000 px need .* a smaller --size"):
        plan_batches(lanes_of([(40_000, 60_000)], 1), mesh_of(1))


def test_memory_of_a_lane_grows_with_what_lbfgs_remembers():
    shape = (1000, 1000)
    more = lane_bytes(shape, LBFGS.replace(history=103)) - lane_bytes(shape, LBFGS)
    # Two differences of float32 RGB a pair, and half of them once more in an update.
    assert more == 100 * 2 * math.prod(shape) * 3 * 4 * 3 / 2


BAD = {
    "style_wieght": ({"style_wieght": [1.0]}, "did you mean style_weight"),
    "arrays": (
        {"blend": [jnp.array([1.0, 0.0, 0.0]), jnp.array([0.0, 0.0, 0.0])]},
        "not all 0",
    ),
    "array": (
        {"tv_weight": np.array([1.0, -1.0])},
        "cannot be -1.0; give a finite",
    ),
    "none": ({"style_weight": []}, "got none"),
    "twice": ({"style_weight": [1.0, 2.0, 1.0]}, "a duplicate value 1.0"),
    "value": ({"style_weight": [-1.0]}, "finite number ≥ 0"),
    "seed": ({"seed": [1, 2]}, "seed has no effect where init is content"),
    "seed -1": ({"init": ["noise"], "seed": [-1]}, "from 0 to 4294967295"),
    "in vain": ({"history": [1, 2]}, "history has no effect"),
    "blend": ({"blend": [(1.0,)]}, "one weight for each style; give 3"),
    "blend 0": ({"blend": [(0.0, 0.0, 0.0)]}, "not all 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_sweeps_are_refused_before_any_work(name):
    vary, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        make_lanes([(24, 32)], 3, RECIPE, key=KEY, vary=vary)


def test_an_empty_grid_and_too_small_pictures_are_refused(backbone):
    with pytest.raises(ValueError, match="at least one style"):
        paint_grid(backbone, CONTENTS, [], RECIPE)
    with pytest.raises(ValueError, match="content of at least 4 px"):
        paint_grid(backbone, [random_image(0, 3, 30)], STYLES, RECIPE)
