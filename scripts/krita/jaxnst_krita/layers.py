"""Layers of Krita to files and back."""

from pathlib import Path
from typing import Any

from krita import InfoObject, Krita
from PyQt5.QtCore import QByteArray, QRect, Qt
from PyQt5.QtGui import QImage, QPainter

SRGB = "sRGB-elle-V2-srgbtrc.icc"
"""Krita's name of the profile that jaxnst writes."""


OPAQUE = bytes([0, *255 * [255]])
"""Levels that are opaque wherever there is anything."""


def save_layer(document: Any, layer: Any, path: Path) -> None:
    """Write a layer as large as its document, with its transparency and profile."""
    whole = QRect(0, 0, document.width(), document.height())
    dots = document.resolution() / 72
    krita = Krita.instance()
    asks = krita.batchmode()
    krita.setBatchmode(True)  # no dialog about how to write it
    try:
        layer.save(str(path), dots, dots, InfoObject(), whole)
    finally:
        krita.setBatchmode(asks)
    if not path.exists():  # Krita 5.1 does not say so
        raise OSError(f"Krita could not write the layer {layer.name()}")


def save_selection(document: Any, path: Path) -> QImage | None:
    """Write the selection as a mask, white where it is, if there is one."""
    selection = document.selection()
    if selection is None or not selection.width() or not selection.height():
        return None
    width, height = document.width(), document.height()
    levels = bytes(selection.pixelData(0, 0, width, height))
    mask = QImage(levels, width, height, width, QImage.Format_Grayscale8).copy()
    if not mask.save(str(path)):
        raise OSError(f"Krita could not write {path}")
    return mask


def add_layer(
    document: Any, below: Any, path: Path, name: str, mask: QImage | None
) -> None:
    """Show a picture as a new layer above another one, where the mask is not black.

    The picture is blended at soft edges already.
    """
    deep = below.colorDepth() != "U8"
    kind = QImage.Format_RGBA64 if deep else QImage.Format_ARGB32
    image = QImage(str(path))
    if image.isNull():
        raise OSError(f"Krita could not read {path}")
    size = document.width(), document.height()
    if (image.width(), image.height()) != size:
        image = image.scaled(*size, Qt.IgnoreAspectRatio, Qt.SmoothTransformation)
    image = image.convertToFormat(kind)
    if mask is not None:
        seen = bytes(mask.constBits().asstring(mask.sizeInBytes())).translate(OPAQUE)
        size, line = (mask.width(), mask.height()), mask.bytesPerLine()
        mask = QImage(seen, *size, line, QImage.Format_Alpha8)
        painter = QPainter(image)
        painter.setCompositionMode(QPainter.CompositionMode_DestinationIn)
        painter.drawImage(0, 0, mask)
        painter.end()
    if deep:  # Krita has blue first
        image = image.rgbSwapped()
    bits = image.constBits()
    bits.setsize(image.sizeInBytes())
    layer = document.createNode(name, "paintlayer")
    layer.setColorSpace("RGBA", "U16" if deep else "U8", SRGB)
    layer.setPixelData(QByteArray(bits.asstring()), 0, 0, *size)
    below.parentNode().addChildNode(layer, below)
    document.refreshProjection()
    document.waitForDone()
    document.setActiveNode(layer)
