"""Runs and grids: plan stages and memory, paint them, keep checkpoints."""
