"""The entry in Krita's menu, and the dialog that it opens."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from krita import Extension, Krita
from PyQt5.QtCore import QProcess, Qt, QTimer
from PyQt5.QtGui import QImage, QPixmap
from PyQt5.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMessageBox,
    QProgressBar,
    QPushButton,
    QSlider,
    QSpinBox,
    QWidget,
)

from .layers import add_layer, save_layer, save_selection

TITLE = "Paint in the Style of…"

SETTINGS = "jaxnst_krita"
"""Group of the plug-in's settings in Krita's."""

LARGEST = 1024
"""Long edge that is painted unless another is asked for, in pixels."""

PREVIEW = 360
"""Long edge of the preview, in pixels."""


class PaintInStyle(Extension):
    """Adds the entry to the menu."""

    def setup(self) -> None:
        """Nothing is needed before there is a window."""

    def createActions(self, window: Any) -> None:  # noqa: N802, Krita's name
        """Add the entry to a window's menu Tools ▸ Scripts."""
        action = window.createAction("jaxnst_paint", TITLE, "tools/scripts")
        action.triggered.connect(self.open)

    def open(self) -> None:
        """Open the dialog for the current layer."""
        document = Krita.instance().activeDocument()
        layer = document and document.activeNode()
        if layer is None:
            QMessageBox.information(None, TITLE, "Open a picture first.")
            return
        window = Krita.instance().activeWindow()
        self.dialog = PaintDialog(document, layer, window and window.qwindow())
        self.dialog.show()


class PaintDialog(QDialog):
    """Asks for a painting and settings, and paints a layer with them.

    Args:
        document: The document of Krita.
        layer: Its layer that is painted.
        parent: The window that it belongs to.
    """

    def __init__(self, document: Any, layer: Any, parent: QWidget | None = None):
        super().__init__(parent)
        self.document, self.layer = document, layer
        self.folder: Path | None = None
        self.mask: QImage | None = None
        self.cancelled = False
        self.process = QProcess(self)
        self.process.setProcessChannelMode(QProcess.MergedChannels)
        self.process.readyRead.connect(self.tell)
        self.process.finished.connect(self.finish)
        self.process.errorOccurred.connect(self.fail_to_start)
        self.previews = QTimer(self, interval=500)
        self.previews.timeout.connect(self.show_preview)
        self.setWindowTitle(f"{TITLE} ({layer.name()})")
        self.build()

    def build(self) -> None:
        """Make the widgets."""
        edge = max(self.document.width(), self.document.height())
        self.painting = QLineEdit(self.setting("painting"))
        self.painting.setPlaceholderText("a picture that gives the style")
        choose = QPushButton("Choose…")
        choose.clicked.connect(self.choose)
        row = QHBoxLayout()
        row.addWidget(self.painting)
        row.addWidget(choose)
        self.recipe = QComboBox(editable=True)
        self.recipe.addItems(["painterly", "delicate", "palette"])
        self.recipe.setCurrentText(self.setting("recipe", "painterly"))
        self.strength = QSlider(Qt.Horizontal, minimum=0, maximum=100, value=50)
        self.size = QSpinBox(minimum=16, maximum=max(16, edge), suffix=" px")
        self.size.setValue(min(edge, LARGEST))
        self.quality = QComboBox()
        self.quality.addItems(["draft", "normal", "best"])
        self.quality.setCurrentText("normal")
        self.command = QLineEdit(self.setting("command", "jaxnst"))
        self.preview = QLabel(alignment=Qt.AlignCenter)
        self.preview.setMinimumSize(PREVIEW, PREVIEW * 3 // 4)
        self.bar = QProgressBar(minimum=0, maximum=0, visible=False)
        self.said = QLabel(wordWrap=True)
        buttons = QDialogButtonBox(QDialogButtonBox.Close)
        self.start = buttons.addButton("Paint", QDialogButtonBox.ActionRole)
        self.stop = buttons.addButton("Cancel", QDialogButtonBox.ActionRole)
        self.start.clicked.connect(self.paint)
        self.stop.clicked.connect(self.cancel)
        self.stop.setEnabled(False)
        buttons.rejected.connect(self.close)
        form = QFormLayout(self)
        form.addRow("Painting", row)
        form.addRow("Recipe", self.recipe)
        form.addRow("Style strength", self.strength)
        form.addRow("Long edge", self.size)
        form.addRow("Quality", self.quality)
        form.addRow("jaxnst command", self.command)
        for widget in (self.preview, self.bar, self.said, buttons):
            form.addRow(widget)

    def setting(self, name: str, usual: str = "") -> str:
        """A setting that was kept when a picture was painted."""
        return Krita.instance().readSetting(SETTINGS, name, usual)

    def choose(self) -> None:
        """Ask for the painting."""
        found, _ = QFileDialog.getOpenFileName(self, "Painting", self.painting.text())
        self.painting.setText(found or self.painting.text())

    def paint(self) -> None:
        """Write the layer and the selection, and start the command."""
        if not Path(self.painting.text()).is_file():
            self.said.setText("Choose a painting first.")
            return
        for name in ("painting", "recipe", "command"):
            widget = getattr(self, name)
            text = widget.currentText() if name == "recipe" else widget.text()
            Krita.instance().writeSetting(SETTINGS, name, text)
        self.folder = Path(tempfile.mkdtemp(prefix="jaxnst-krita-"))
        try:
            save_layer(self.document, self.layer, self.folder / "layer.png")
            self.mask = save_selection(self.document, self.folder / "selection.png")
        except OSError as error:
            self.said.setText(str(error))
            self.clear()
            return
        self.cancelled = False
        self.set_running(True)
        self.said.setText("Starting…")
        self.process.setWorkingDirectory(str(self.folder))
        self.process.start(self.command.text(), self.arguments())

    def arguments(self) -> list[str]:
        """What the command is called with; its pictures are in its own folder."""
        painting = str(Path(self.painting.text()).absolute())
        where = ["layer.png", painting]
        if self.mask is not None:
            quoted = painting.replace('"', '""')
            where = ["layer.png", "--keep-rest", "--region"]
            where.append(f'selection.png="{quoted}"')
        bits = "8" if self.layer.colorDepth() == "U8" else "16"
        strength, recipe = str(self.strength.value() / 100), self.recipe.currentText()
        return [
            *("stylize", *where, "-o", "painted.png", "--bits", bits),
            *("--recipe", recipe, "--style-strength", strength),
            *("--quality", self.quality.currentText(), "--save-every", "5"),
            # Colours alone take the photograph's own size.
            *(("--size", str(self.size.value())) if recipe != "palette" else ()),
        ]

    def tell(self) -> None:
        """Show the last line that the command has printed."""
        text = bytes(self.process.readAll()).decode(errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        if lines:
            self.said.setText(lines[-1])

    def show_preview(self) -> None:
        """Show the newest preview that is there."""
        found = [] if self.folder is None else self.folder.glob("painted-*.png")
        newest = max(found, default=None, key=lambda path: path.stat().st_mtime_ns)
        if newest is not None:
            self.show_picture(newest)

    def show_picture(self, path: Path) -> None:
        """Show a picture in the dialog."""
        shown = QPixmap(str(path))
        if not shown.isNull():
            small = PREVIEW, PREVIEW, Qt.KeepAspectRatio, Qt.SmoothTransformation
            self.preview.setPixmap(shown.scaled(*small))

    def finish(self, code: int) -> None:
        """Add the result as a layer, or leave what the command said in sight."""
        self.tell()
        try:
            if code == 0 and not self.cancelled and self.folder is not None:
                painted = self.folder / "painted.png"
                name = f"{self.layer.name()}, {Path(self.painting.text()).stem}"
                add_layer(self.document, self.layer, painted, name, self.mask)
                self.show_picture(painted)
                self.said.setText(f"Painted the layer “{name}”.")
        except (OSError, RuntimeError) as error:  # the document may be closed
            self.said.setText(str(error))
        finally:
            self.clear()

    def fail_to_start(self, error: int) -> None:
        """Say what to do if there is no such command."""
        if error == QProcess.FailedToStart:
            self.said.setText(
                f"Cannot start {self.command.text()}. Install jaxnst, and give the "
                "full path of its command."
            )
            self.clear()

    def cancel(self) -> None:
        """Stop the command; no layer is added."""
        self.cancelled = True
        self.process.kill()
        self.process.waitForFinished()
        self.said.setText("Cancelled.")

    def clear(self) -> None:
        """Delete what was written for the command."""
        self.set_running(False)
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder = None

    def set_running(self, running: bool) -> None:
        """Say with the buttons whether the command runs."""
        self.bar.setVisible(running)
        self.start.setEnabled(not running)
        self.stop.setEnabled(running)
        if running:
            self.previews.start()
        else:
            self.previews.stop()

    def closeEvent(self, event: Any) -> None:  # noqa: N802, Qt's name
        """Stop the command with the dialog."""
        if self.process.state() != QProcess.NotRunning:
            self.cancel()
        super().closeEvent(event)
