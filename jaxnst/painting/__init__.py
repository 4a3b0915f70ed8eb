"""Runs: what is painted, in which order, in how much memory."""
