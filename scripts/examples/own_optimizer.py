#!/usr/bin/env python3
"""Any optimiser of optax: Lion, coarse to fine, whose step fades all the way."""

import jax
import optax

import jaxnst

recipe = jaxnst.get_recipe("delicate").replace(
    optimizer="adam", learning_rate=0.01, min_size=64, first_steps=20, steps=10
)
fading = optax.lion(optax.exponential_decay(1.0, transition_steps=20, decay_rate=0.5))
content, style = jaxnst.sample("harbour", size=96), jaxnst.sample("swirls", size=96)
result = jaxnst.stylize(
    jaxnst.load_backbone("embedded"),
    content,
    [style],
    recipe,
    key=jax.random.key(0),
    options=jaxnst.Options(optimizer=fading),
)
jaxnst.save_image("own-optimizer.png", result.image)
