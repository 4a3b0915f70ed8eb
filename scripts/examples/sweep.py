#!/usr/bin/env python3
"""A sweep is a `vmap`: one compiled program paints with eight style weights at once."""

import jax
import jax.numpy as jnp

import jaxnst

recipe = jaxnst.get_recipe("painterly").replace(
    optimizer="adam",
    content_layers=(("relu2_1", 1.0),),
    style_layers=(("relu2_1", 1.0),),
)
content, style = jaxnst.sample("harbour", size=64), jaxnst.sample("mosaic", size=64)
backbone = jaxnst.load_backbone("embedded")
backbone = jaxnst.calibrate(backbone, recipe.program.activations)
targets = jaxnst.make_targets(backbone, content, [style], recipe)
transfer = jaxnst.make_transfer(recipe.program)


def paint(style_weight):
    chosen = targets._replace(style_weight=style_weight)
    step = lambda state, _: transfer.step(state, backbone, chosen)
    state, info = jax.lax.scan(step, transfer.init(content), length=20)
    return state.image, info.loss[-1]


images, losses = jax.jit(jax.vmap(paint))(jnp.logspace(-2, 1, 8))
jaxnst.save_image("sweep.png", jnp.concatenate(list(images), axis=1))
print(*(f"{loss:.3f}" for loss in losses))
