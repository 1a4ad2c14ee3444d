"""Seconds of `uad detect A --with B --with C` compared with the sum of `uad detect` of A, B and C.

    python packaging/benchmarks/several.py A B [C] [--rounds 3]

The scans are the contrasts of one patient. Whole commands are timed, with imports and all files that they write, in
turns: each scan by itself, then all together. Prints the medians over the rounds, their ratio and its aim, and the
seconds of each stage of one joined run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

UAD = [sys.executable, "-m", "uadcli", "detect"]
AIM = 1.1  # times the sum


def seconds(*arguments: str | Path) -> float:
    """The seconds of one `uad detect`."""
    start = time.perf_counter()
    subprocess.run([*UAD, *map(str, arguments), "--overwrite", "-q"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def summary(names: Sequence[str], alone: Sequence[Sequence[float]], together: Sequence[float]) -> str:
    """A table of the medians; `alone` are the seconds of each scan in each round, `together` of all joined."""
    each = [statistics.median(one) for one in zip(*alone, strict=True)]
    total, joined = statistics.median([sum(one) for one in alone]), statistics.median(together)
    ratio = joined / total
    rows = [f"| {name} | {value:.1f} | |" for name, value in zip(names, each, strict=True)]
    return "\n".join(
        [
            "| scans | seconds | times the sum |",
            "|---|---|---|",
            *rows,
            f"| sum | {total:.1f} | |",
            f"| joined | {joined:.1f} | {ratio:.2f} ({'within' if ratio <= AIM else 'above'} {AIM}) |",
        ]
    )


def stages(sidecar: Path) -> str:
    """The seconds of each stage of a run, in words."""
    found = json.loads(sidecar.read_text(encoding="utf-8"))["seconds"]
    return ", ".join(f"{name} {value:.1f}" for name, value in found.items() if value >= 0.05)


def main() -> None:
    """Run the commands and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scans", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    first, *others = arguments.scans
    if not others:
        parser.error("give at least two scans")
    further = [text for one in others for text in ("--with", one)]
    alone, together = list[list[float]](), list[float]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for _ in range(arguments.rounds):
            alone.append([seconds(one, "-o", folder / f"{i}.nii.gz") for i, one in enumerate(arguments.scans)])
            together.append(seconds(first, *further, "-o", folder / "joined.nii.gz"))
            print(f"{', '.join(f'{value:.1f}' for value in alone[-1])}; joined {together[-1]:.1f}", file=sys.stderr)
        print(summary([one.name for one in arguments.scans], alone, together))
        print(f"\nJoined, by stage: {stages(folder / 'joined.json')}.")


if __name__ == "__main__":
    main()
