import dataclasses

import pytest

from jaxnst.recipes import RECIPES, Recipe, get_recipe


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_recipes_are_hashable_and_print_every_field(recipe):
    assert hash(recipe) == hash(recipe.replace())
    printed = [line.split()[0] for line in str(recipe).splitlines()]
    assert printed == [field.name for field in dataclasses.fields(Recipe)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"style_wieght": 1.0}, "did you mean style_weight"),
        ({"style_weight": -1.0}, "style_weight to be a finite number ≥ 0, got -1.0"),
        ({"content_weight": float("nan")}, "content_weight to be a finite number"),
        ({"learning_rate": 0.0}, "learning_rate > 0"),
        ({"steps": 0}, "steps to be a whole number ≥ 1, got 0"),
        ({"beta2": 1.0}, r"beta2 in \[0, 1\)"),
        ({"style_layers": (("relu9_1", 1.0),)}, "did you mean relu5_1|relu4_1|relu1_1"),
    ],
)
def test_senseless_overrides_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        get_recipe("painterly").replace(**change)


def test_an_unknown_choice_is_refused():
    # As the command does it: the shape and type checks of the tests come before ours.
    with pytest.raises(Exception, match="median"):
        get_recipe("painterly").replace(pooling="median")


def test_an_unknown_recipe_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean painterly"):
        get_recipe("paintery")
