"""Weights of VGG-19: files, formats, downloads."""
