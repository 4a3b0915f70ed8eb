import pytest

from jaxnst.painting.scales import content_size, scale_shapes, scale_steps, style_shape
from jaxnst.recipes import FIELDS, LOOKS, RECIPES, get_recipe


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_recipes_are_hashable_and_print_every_field(recipe):
    assert hash(recipe) == hash(recipe.replace())
    printed = [line.split()[0] for line in str(recipe).splitlines()]
    names = ["name", "summary", *FIELDS]
    assert printed[:2] == ["name", "summary"]
    assert sorted(printed) == sorted(names)


def test_each_recipe_has_a_look_in_five_words():
    assert LOOKS.keys() == RECIPES.keys()
    assert {len(look.split()) for look in LOOKS.values()} == {5}
    assert len(set(LOOKS.values())) == len(LOOKS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"style_wieght": 1.0}, "did you mean style_weight"),
        (
            {"style_weight": -1.0},
            "style_weight cannot be -1.0; give a finite",
        ),
        (
            {"content_weight": float("nan")},
            "content_weight cannot be nan",
        ),
        ({"learning_rate": 0.0}, "learning_rate cannot be 0; give a number > 0"),
        ({"steps": -1}, "steps cannot be -1; give a whole number ≥ 0"),
        ({"steps": 0}, "expected steps ≥ 1 where no patches are laid, got 0"),
        ({"beta2": 1.0}, r"beta2 .* a number in \[0, 1\)"),
        ({"style_layers": (("relu9_1", 1.0),)}, "did you mean relu5_1|relu4_1|relu1_1"),
        ({"style_layers": (("relu1_1", -1.0),)}, "weight of relu1_1 cannot be -1.0"),
        ({"scale_factor": 1.0}, "scale_factor cannot be 1; give a number > 1"),
        ({"units": (1.0, 0.0, 1.0)}, "three units > 0"),
        ({"keep_best": True}, "keep_best or an ema_decay, got both"),
        ({"history": 5}, "history has no effect where optimizer is adam"),
        (
            {"style_loss": "grams"},
            "'grams'; give gram or .*, or a StyleLoss",
        ),
        ({"optimizer": "lbfgs", "beta1": 0.5}, "set optimizer to adam or tf1_adam"),
        ({"noise": 0.2}, "noise has no effect where init is content"),
    ],
)
def test_senseless_overrides_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        get_recipe("crowson").replace(**change)


def test_an_unknown_choice_is_refused():
    # As the command does it: the shape and type checks of the tests come before ours.
    with pytest.raises(Exception, match="median"):
        get_recipe("painterly").replace(pooling="median")


def test_an_unknown_recipe_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean painterly"):
        get_recipe("paintery")


def test_one_call_and_two_give_the_same_learning_rate():
    units, recipe = (255.0,) * 3, get_recipe("painterly")
    once = recipe.replace(optimizer="adam", units=units)
    assert once == recipe.replace(units=units).replace(optimizer="adam")
    assert once.weights.learning_rate == pytest.approx(5.1)


def test_no_size_is_painted_twice():
    shapes = scale_shapes((30, 40), get_recipe("crowson").replace(scale_factor=1.005))
    assert len(set(shapes)) == len(shapes)
    assert shapes[-1] == (30, 40)


def test_an_override_may_bring_along_what_it_needs():
    recipe = get_recipe("crowson").replace(optimizer="lbfgs", history=5)
    assert (recipe.program.optimizer, recipe.program.history) == ("lbfgs", 5)


SIZES = [
    # content 600 x 800, and a small one of 200 x 300: long edge of the result
    ("painterly", 512, 300),
    ("crowson", 512, 512),
    ("gatys2016-code", 1067, 1200),
    ("tf-blog", 512, 512),
    ("kaggle", 533, 450),
]


@pytest.mark.parametrize(("name", "large", "small"), SIZES)
def test_a_result_has_the_size_that_the_recipe_rules(name, large, small):
    recipe = get_recipe(name)
    assert content_size((600, 800), recipe) == large
    assert content_size((200, 300), recipe) == small


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("painterly", (100, 200)),  # never enlarged
        ("crowson", (100, 200)),
        ("kaggle", (300, 400)),  # squashed
        ("tf-blog", (200, 400)),  # the long edge of the content
        ("gatys2016-code", (300, 600)),  # the short edge of the content
    ],
)
def test_a_style_has_the_size_that_the_recipe_rules(name, shape):
    assert style_shape((100, 200), (300, 400), get_recipe(name)) == shape


def test_the_second_pass_of_the_notebook_is_the_larger_one():
    recipe = get_recipe("gatys2016-code")
    assert scale_shapes((800, 1067), recipe) == [(512, 683), (800, 1067)]
    assert scale_steps(recipe, 2) == [500, 200]
