"""Make the bundled models with `uad train`, `uad calibrate` and `uad export`.

    export PYTHONPATH=packaging/evaluation
    python packaging/models/train_default.py DATA --names small-16-flair small-20-t1w [--ship]

A model starts from the bundled one for its contrast, or from --start, and uses the settings in `packaging/default`; an
interrupted one is resumed. RUNS/scans contains the development data as links to healthy scans: IXI T1w, and TCGA-LGG
FLAIR with lesion masks next to them, so that only tumour-free slices count; it contains no development case.
RUNS/healthy-T1w and RUNS/healthy-FLAIR are the scans of its validation part, from which thresholds come; T2w has none
and borrows those of FLAIR. The weights are written to RUNS/models/NAME, with --ship also to the folder of bundled
models, where a card has to be written by hand.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from uadcli.cli.app import main as uad
from uadcli.config import CONTRASTS
from uadcli.data.dataset import Case
from uadcli.weights import registry

sys.path.append(str(Path(__file__).parents[1] / "evaluation"))
from development import cases

COMMENT = "# Bundled models; a contrast gets the first that covers it. sha256 of each file.\n\n"
SETTINGS = Path(__file__).parents[1] / "default"
CALIBRATION = {"flair": ["--borrow", "T2w=FLAIR"], "t1w": []}  # options of `uad calibrate`
KINDS = {"flair": "FLAIR", "t1w": "T1w"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--names", nargs="+", required=True, help="each ends in -flair or -t1w")
    parser.add_argument("--runs", type=Path, default=Path("runs/default"))
    parser.add_argument("--start", type=Path, help="weights to start from; only with a single name")
    parser.add_argument("--ship", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("weights"))
    arguments = parser.parse_args()
    lay_out(arguments.data, arguments.runs)
    for name in arguments.names:
        kind = name.rpartition("-")[2]
        if kind not in KINDS:
            parser.error(f"{name} ends in neither -flair nor -t1w")
        make(arguments, name, kind)
        if arguments.ship:
            ship(arguments.runs / "models" / name, arguments.out)


def lay_out(data: Path, runs: Path) -> None:
    """Make the folders of healthy scans, from links."""
    found = [c for c in cases(data) if c.part in ("train", "val")]
    for case in found:
        link(case, runs / "scans")
        if case.part == "val":
            link(case, runs / f"healthy-{case.contrast}")
    rows = "".join(f"{case.subject}\t{case.part}\n" for case in found)
    (runs / "scans" / "participants.tsv").write_text(f"participant_id\tsplit\n{rows}")


def link(case: Case, root: Path) -> None:
    """Link a case into a BIDS tree: its scan and, for a patient, its lesion mask."""
    folder = root / case.subject / "anat"
    folder.mkdir(parents=True, exist_ok=True)
    for file in (case.scan, case.lesions):
        if file is not None and not (folder / file.name).exists():
            (folder / file.name).symlink_to(file.resolve())


def make(arguments: argparse.Namespace, name: str, kind: str) -> None:
    """Train or resume, calibrate, and export."""
    run, runs, data = arguments.runs / name, arguments.runs, arguments.data
    if (run / "config.toml").exists():
        call("train", "--resume", run)
    else:
        first = arguments.start or next(e.name for e in registry.bundled() if KINDS[kind] in e.contrasts)
        folders = [f"label_maps={data / 'labelmaps'}", f"lesion_shapes={data / 'lesion_shapes'}"]
        settings = [part for text in folders for part in ("--set", text)]
        call(
            "train", runs / "scans", "--out", run, "--weights", first, "--config", SETTINGS / f"{kind}.toml", *settings
        )
    call("calibrate", run, runs / f"healthy-{KINDS[kind]}", *CALIBRATION[kind])
    call("export", run, "-o", runs / "models" / name, "--overwrite")


def call(*command: object) -> None:
    """Run a command of `uad`; exit if it fails."""
    words = [str(part) for part in command]
    print("uad", *words, flush=True)
    if code := uad(words):
        raise SystemExit(code)


def ship(model: Path, out: Path) -> None:
    """Copy exported weights into a folder of models, and drop from its registry those no contrast uses any more."""
    entry = registry.read(model)[0]
    shutil.copyfile(model / entry.file, out / entry.file)
    before = registry.read(out)
    every = [entry, *(one for one in before if one.name != entry.name)]
    # a contrast gets the first that covers it: its own model goes before one for several contrasts
    every.sort(key=lambda one: (len(one.contrasts), CONTRASTS.index(one.contrasts[0])))
    entries = registry.needed(every)
    registry.write(out, *entries, comment=COMMENT)
    for one in (one for one in before if one not in entries):
        print(f"no contrast gets {one.name} any more: {one.file} and {one.card} can go")


if __name__ == "__main__":
    main()
