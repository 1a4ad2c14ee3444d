"""Maps with their ground truth from a table."""

from __future__ import annotations

import csv
from pathlib import Path

from uadcli.data.matching import identify
from uadcli.errors import InputError
from uadcli.evaluation.cases import Case, checked

HEALTHY = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False, "n/a": False}
HEALTHY_GROUPS = {"healthy", "control", "controls", "hc"}


def from_table(path: Path) -> tuple[list[Case], list[str]]:
    """The cases of a TSV table: `map`, `truth`, and if wanted `mask`, `group`, `healthy`, `method`, `scan`, `subject`.

    Paths are relative to the table. `n/a` and empty cells have no value; a row without a truth must be healthy. Raises
    `InputError` with the line number.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, delimiter="\t", restkey="")
            columns = reader.fieldnames or []
            rows = [(reader.line_num, row) for row in reader]  # empty lines are left out, but count
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot be read as a table ({error})", path=path, hint="Give tab-separated text.") from error
    for name in ("map", "truth"):
        if name not in columns:
            raise InputError(
                f"has no column {name}", path=path, hint="Columns: map, truth, and optionally mask, group."
            )
    if not rows:
        raise InputError("has no row", path=path, hint="Give one row for each map.")
    cases: list[Case] = []
    for line, row in rows:
        case = _row(row, path, line)
        if any((case.method, case.scan) == (c.method, c.scan) for c in cases):
            raise InputError(
                f"line {line}: {case.scan} is listed twice", path=path, hint="Give columns scan or method."
            )
        cases.append(case)
    return checked(cases, [])


def _row(row: dict[str, str | None], path: Path, line: int) -> Case:
    if "" in row:
        raise InputError(f"line {line} has more cells than the first", path=path, hint="Separate cells by one tab.")
    cells = {key: (value or "").strip() for key, value in row.items()}
    given = {key: "" if value.lower() == "n/a" else value for key, value in cells.items()}
    if not given["map"]:
        raise InputError(f"line {line} has no map", path=path, hint="Leave the row out.")
    word = given.get("healthy", "").lower()
    if word not in HEALTHY:
        raise InputError(f"line {line}: healthy cannot be {word!r}", path=path, hint="Give true, false or n/a.")
    healthy = HEALTHY[word] or given.get("group", "").lower() in HEALTHY_GROUPS
    if not given["truth"] and not healthy:
        raise InputError(f"line {line} has no truth", path=path, hint="Give one, or the group healthy.")
    places = {key: path.parent / given[key] if given.get(key) else None for key in ("truth", "mask")}
    who = identify(Path(given["map"]), Path())
    subject = given.get("subject") or given.get("participant_id") or who.subject
    method = given.get("method") or path.stem
    scan = given.get("scan") or who.scan
    return Case(method, scan, subject, path.parent / given["map"], places["truth"], places["mask"], healthy)
