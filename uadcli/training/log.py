"""The logs of a training: `log.csv`, `report.html`, sheets of slices, and TensorBoard if it is installed."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli import __version__
from uadcli.data.dataset import evenly
from uadcli.errors import OutputError
from uadcli.files import write_bytes, write_text
from uadcli.report.training import Row, training_page

COLUMNS = ("step", "loss", "validation", "auprc", "slices_per_s", "seconds_left", "skipped")
SHEETS = 8  # at most, on the page
MOST_STEPS, LARGEST = 1e12, 1e30  # in a log that can be plotted


class Log:
    """The log files of a training in its folder; unknown numbers are empty in `log.csv`.

    `name` is the title of the training on the page.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name, self.path = folder, name, folder / "log.csv"
        folder.mkdir(parents=True, exist_ok=True)
        head = ",".join(COLUMNS)
        if self.path.exists() and self.path.read_bytes().split(b"\n", 1)[0] != head.encode():
            self.path.replace(folder / "log-before.csv")  # a log with other columns
        if not self.path.exists():
            write_text(self.path, head + "\n")
        self._board = _tensorboard(folder)

    def write(self, row: Row, sheet: NDArray[np.uint8] | None = None) -> None:
        """Add a line and a sheet (H, W) of grey pictures; `page` then shows them."""
        cells = ("" if (v := row[c]) is None else f"{v:.5g}" if isinstance(v, float) else str(v) for c in COLUMNS)
        self._add(",".join(cells) + "\n")
        if sheet is not None:
            file = self.folder / "sheets" / f"{row['step']:07d}.png"
            file.parent.mkdir(exist_ok=True)
            write_bytes(file, _png(sheet))
        if self._board is not None:
            for column in COLUMNS[1:]:
                if row[column] is not None:
                    self._board.add_scalar(column, row[column], row["step"])
            self._board.flush()

    def page(self) -> None:
        """Update `report.html`."""
        write_page(self.folder, {self.name: self.folder})

    def _add(self, line: str) -> None:
        """Add a line to `log.csv`, also after a truncated one."""
        try:
            with self.path.open("ab+") as stream:
                if stream.tell():
                    stream.seek(-1, os.SEEK_END)
                whole = stream.read() in (b"", b"\n")
                stream.write(("" if whole else "\n").encode() + line.encode())
        except OSError as error:
            hint = f"Free space there, then resume: uad train --resume {self.folder}."
            raise OutputError(f"cannot be written: {error.strerror}", path=self.path, hint=hint) from error


def write_page(folder: Path, trainings: dict[str, Path]) -> None:
    """Write `report.html` of a folder from the logs of `trainings`, folders by name, and the folder's own sheets."""
    logs = {name: read_log(place / "log.csv") for name, place in trainings.items() if (place / "log.csv").exists()}
    files = sorted(file for file in (folder / "sheets").glob("*.png") if file.stem.isdecimal())
    sheets = [(int(file.stem), file.read_bytes()) for file in evenly(files, SHEETS)]
    page = training_page(folder.resolve().name, logs, sheets, __version__)
    write_text(folder / "report.html", page)


def read_log(path: Path) -> list[dict[str, float | None]]:
    """The rows of a `log.csv`; None for cells that are empty or not a finite number. Damaged rows are left out.

    Of rows of one step, which a killed run took again, the last counts.
    """
    head, *lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    names = head.split(",")
    rows = [{name: _cell(cell) for name, cell in zip(names, line.split(","), strict=False)} for line in lines]
    found = [{name: row.get(name) for name in COLUMNS} for row in rows if 0 <= (row.get("step") or -1) <= MOST_STEPS]
    return list({row["step"]: row for row in found}.values())


def _cell(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if abs(value) < LARGEST else None


def contact_sheet(rows: Sequence[NDArray[np.float32]]) -> NDArray[np.uint8]:
    """Rows of slices (N, H, W) in [0, 1], oriented as by `to_slices`, as one picture with the front at the top."""
    lines = [np.concatenate(list(row[:, ::-1]), axis=1) for row in rows]
    return (np.clip(np.concatenate(lines, axis=0), 0, 1) * 255).round().astype(np.uint8)


def _png(picture: NDArray[np.uint8]) -> bytes:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    stream, written = io.BytesIO(), PngInfo()
    written.add_text("Software", "uad")
    Image.fromarray(picture).save(stream, format="png", pnginfo=written)
    return stream.getvalue()


def _tensorboard(folder: Path) -> Any:
    """A writer for TensorBoard; None if it is not installed."""
    if find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))
