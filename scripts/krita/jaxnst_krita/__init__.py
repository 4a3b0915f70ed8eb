"""A plug-in for Krita: paint the current layer in the style of a picture.

It calls the command `jaxnst` in a process of its own, so nothing is installed into
Krita's Python.
"""

from krita import Krita  # the module that Krita itself provides

from .extension import PaintInStyle

Krita.instance().addExtension(PaintInStyle(Krita.instance()))
