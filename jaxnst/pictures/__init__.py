"""Pictures: sizes (`geometry`), files, the shipped samples, and colours (`color`).

Arrays are float32 RGB, sRGB-encoded, in [0, 1], h w 3.
"""
