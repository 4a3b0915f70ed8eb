"""A plug-in that uses ours as a person would, inside Krita, and writes what it saw."""

import json
import os
import traceback
from pathlib import Path

from krita import Krita, Selection
from PyQt5.QtCore import QTimer
from PyQt5.QtWidgets import QApplication

FOLDER = Path(os.environ["KRITA_DRIVER"])
"""Has the pictures, and gets what was seen and the screenshots."""

SEEN = {}


def layers(document):
    return [layer.name() for layer in document.rootNode().childNodes()]


def pixels(document, layer):
    size = document.width(), document.height()
    return bytes(layer.pixelData(0, 0, *size)).hex()


def dialog():
    found = QApplication.topLevelWidgets()
    return next(x for x in found if type(x).__name__ == "PaintDialog" and x.isVisible())


def open_picture(name):
    document = Krita.instance().openDocument(str(FOLDER / name))
    Krita.instance().activeWindow().addView(document)
    return document


def undo(document):
    Krita.instance().action("edit_undo").trigger()
    document.waitForDone()


def steps():
    """What is done, one after the other; each yields what it waits for, if anything."""
    while Krita.instance().activeWindow() is None:
        yield
    document = open_picture("photo.png")
    document.waitForDone()
    yield
    before = pixels(document, document.activeNode())
    part = Selection()
    part.select(0, 0, document.width() // 2, document.height(), 255)
    document.setSelection(part)
    Krita.instance().action("jaxnst_paint").trigger()
    yield
    asked = dialog()
    SEEN["layers"] = layers(document)
    asked.command.setText(str(FOLDER / "nothing"))
    asked.painting.setText(str(FOLDER / 'swirls, "a=b".png'))
    asked.start.click()
    while asked.stop.isEnabled():
        yield
    SEEN["no command"] = asked.said.text()

    asked.command.setText(os.environ["JAXNST"])
    asked.quality.setCurrentText("draft")
    asked.start.click()
    shown = 0
    while asked.stop.isEnabled():
        if not shown and asked.preview.pixmap() is not None:
            asked.grab().save(str(FOLDER / "running.png"))
            shown = 1
        yield
    SEEN["preview"] = bool(shown)
    SEEN["said"], SEEN["painted"] = asked.said.text(), layers(document)
    Krita.instance().activeWindow().qwindow().setGeometry(0, 0, 1280, 800)
    asked.move(80, 120)
    texts = asked.command.text(), asked.painting.text()
    asked.command.setText("jaxnst")  # the documentation shows no folder of a test
    asked.painting.setText("swirls.png")
    yield
    screen = QApplication.primaryScreen()
    screen.grabWindow(0, 0, 0, 1280, 800).save(str(FOLDER / "screen.png"))
    asked.command.setText(texts[0])
    asked.painting.setText(texts[1])
    SEEN["before"] = before
    SEEN["after"] = pixels(document, document.activeNode())
    undo(document)
    yield
    SEEN["undone"] = layers(document)
    document.setSelection(None)

    asked.recipe.setCurrentText("delicate")
    asked.quality.setCurrentText("best")
    asked.start.click()
    for _ in range(8):
        yield
    SEEN["runs"] = asked.stop.isEnabled()
    SEEN["folder"] = str(asked.folder)
    asked.stop.click()
    yield
    SEEN["cancelled"], SEEN["cancelled layers"] = asked.said.text(), layers(document)

    asked.size.setValue(16)
    asked.recipe.setCurrentText("no such recipe")
    asked.start.click()
    while asked.stop.isEnabled():
        yield
    SEEN["mistake"] = asked.said.text()
    document.setColorSpace("RGBA", "U16", "sRGB-elle-V2-srgbtrc.icc")
    document.waitForDone()
    asked.size.setValue(document.width())
    asked.recipe.setCurrentText("palette")
    asked.start.click()
    while asked.stop.isEnabled():
        yield
    SEEN["deep said"] = asked.said.text()
    SEEN["deep"] = document.activeNode().colorDepth()
    found = document.rootNode().childNodes()
    SEEN["deep pixels"] = [pixels(document, layer) for layer in found]


def advance():
    try:
        next(RUNNING)
    except StopIteration:
        end()
    except Exception:
        SEEN["error"] = traceback.format_exc()
        end()


def end():
    (FOLDER / "seen.json").write_text(json.dumps(SEEN))
    os._exit(0)


RUNNING = steps()
TIMER = QTimer(interval=250)
TIMER.timeout.connect(advance)
TIMER.start()
