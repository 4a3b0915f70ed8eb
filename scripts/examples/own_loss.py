#!/usr/bin/env python3
"""Losses of your own: mean activations as style, a Huber-like distance as content."""

import jax
import jax.numpy as jnp

import jaxnst
from jaxnst.losses import ContentLoss, StyleLoss, WeightedSum, sum_positions
from jaxnst.losses import total_weight as weigh


def mean_sum(feature, weights):  # palette and texture, without correlations
    return WeightedSum(sum_positions(feature, weights), weigh(feature, weights))


def huber_sum(feature, target, weights):  # grows slowly where the picture is far off
    far = jnp.sqrt(1 + (feature - target) ** 2).mean(-1, keepdims=True) - 1
    return WeightedSum(sum_positions(far, weights)[0], weigh(feature, weights))


means = StyleLoss("means", mean_sum, lambda own, aim: jnp.mean((own.mean - aim) ** 2))
recipe = jaxnst.get_recipe("delicate").replace(
    style_loss=means, content_loss=ContentLoss("huber", huber_sum), first_steps=20
)
content, style = jaxnst.sample("harbour", size=96), jaxnst.sample("mosaic", size=96)
backbone, key = jaxnst.load_backbone("embedded"), jax.random.key(0)
result = jaxnst.stylize(backbone, content, [style], recipe, key=key)
jaxnst.save_image("own-loss.png", result.image)
