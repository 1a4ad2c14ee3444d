"""The logs of a training: `log.csv`, `report.html`, sheets of slices, and TensorBoard if it is installed."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli import __version__
from uadcli.data.dataset import evenly
from uadcli.files import write_text
from uadcli.report.training import Row, training_page

COLUMNS = ("step", "loss", "validation", "auprc", "slices_per_s", "seconds_left", "skipped")
SHEETS = 8  # at most, on the page


class Log:
    """The log files of a training in its folder; unknown numbers are empty in `log.csv`.

    `name` is the title of the training on the page.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name, self.path = folder, name, folder / "log.csv"
        folder.mkdir(parents=True, exist_ok=True)
        head = ",".join(COLUMNS)
        if self.path.exists() and self.path.read_text(encoding="utf-8").split("\n", 1)[0] != head:
            self.path.replace(folder / "log-before.csv")  # a log with other columns
        if not self.path.exists():
            self.path.write_text(head + "\n", encoding="utf-8")
        self._board = _tensorboard(folder)

    def write(self, row: Row, sheet: NDArray[np.uint8] | None = None) -> None:
        """Add a line and a sheet (H, W) of grey pictures, and update the page."""
        cells = ("" if (v := row[c]) is None else f"{v:.5g}" if isinstance(v, float) else str(v) for c in COLUMNS)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(",".join(cells) + "\n")
        if sheet is not None:
            file = self.folder / "sheets" / f"{row['step']:07d}.png"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(_png(sheet))
        if self._board is not None:
            for column in COLUMNS[1:]:
                if row[column] is not None:
                    self._board.add_scalar(column, row[column], row["step"])
            self._board.flush()
        write_page(self.folder, {self.name: self.folder})


def write_page(folder: Path, trainings: dict[str, Path]) -> None:
    """Write `report.html` of a folder from the logs of `trainings`, folders by name, and the folder's own sheets."""
    logs = {name: read_log(place / "log.csv") for name, place in trainings.items() if (place / "log.csv").exists()}
    files = sorted((folder / "sheets").glob("*.png"))
    sheets = [(int(file.stem), file.read_bytes()) for file in evenly(files, SHEETS)]
    page = training_page(folder.resolve().name, logs, sheets, __version__)
    write_text(folder / "report.html", page)


def read_log(path: Path) -> list[dict[str, float | None]]:
    """The rows of a `log.csv`; None for cells that are empty or not a finite number."""
    with path.open(newline="", encoding="utf-8") as stream:
        return [{name: _cell(cell) for name, cell in row.items()} for row in csv.DictReader(stream)]


def _cell(cell: str | None) -> float | None:
    value = float(cell) if cell else None
    return value if value is not None and math.isfinite(value) else None


def contact_sheet(rows: Sequence[NDArray[np.float32]]) -> NDArray[np.uint8]:
    """Rows of slices (N, H, W) in [0, 1], oriented as by `to_slices`, as one picture with the front at the top."""
    lines = [np.concatenate(list(row[:, ::-1]), axis=1) for row in rows]
    return (np.clip(np.concatenate(lines, axis=0), 0, 1) * 255).round().astype(np.uint8)


def _png(picture: NDArray[np.uint8]) -> bytes:
    from matplotlib.image import imsave

    stream = io.BytesIO()
    imsave(stream, picture, cmap="gray", vmin=0, vmax=255, format="png", metadata={"Software": "uad"})
    return stream.getvalue()


def _tensorboard(folder: Path) -> Any:
    """A writer for TensorBoard; None if it is not installed."""
    if find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))
