"""Painting moving pictures, so that strokes move with what they paint."""
