"""What tests of several files share."""

import jax
import jax.numpy as jnp


def random_image(seed, height, width):
    """A smooth random picture in [0, 1], h w 3."""
    noise = jax.random.uniform(
        jax.random.key(seed), (height // 4 + 1, width // 4 + 1, 3)
    )
    return jnp.clip(jax.image.resize(noise, (height, width, 3), "cubic"), 0, 1)
