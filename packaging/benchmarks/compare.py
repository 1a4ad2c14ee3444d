"""Compare a run of `make bench` with the committed one, on any machine.

    python packaging/benchmarks/compare.py NEW.json [packaging/benchmarks/baseline.json]

Seconds of different machines cannot be compared, but their ratios to a fixed loop of calculations on the same machine
can. Exits with 1 if a ratio is worse than 1.3 times the committed one, or if the cost of an input that grows exceeds an
exponent of 1.1.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

COMMITTED = Path(__file__).parent / "baseline.json"
WORSE, EXPONENT = 1.3, 1.1
LOOP = "loop seconds"


def loop_seconds(repeats: int = 5) -> float:
    """The median time of the fixed loop: a matrix product, a sort, a Fourier transform, and interpreted Python."""
    rng, times = np.random.default_rng(0), []
    a, b, c = rng.random((1500, 1500), dtype=np.float32), rng.random(2_000_000), rng.random((64, 64, 64))
    for _ in range(repeats + 1):
        start = perf_counter()
        _ = a @ a
        np.sort(b)
        np.fft.fftn(c)
        sum(i * i % 7 for i in range(1_000_000))
        times.append(perf_counter() - start)
    return median(times[1:])


def exponent(amounts: list[float], seconds: list[float]) -> float:
    """The p of seconds ~ amount^p, by least squares of the logarithms."""
    return float(np.polyfit(np.log(amounts), np.log(seconds), 1)[0])


def ratios(run: dict[str, Any]) -> dict[str, float]:
    """The seconds of each row in units of the loop."""
    return {name: seconds / run[LOOP] for name, seconds in run["seconds"].items()}


def faults(new: dict[str, Any], old: dict[str, Any]) -> list[str]:
    """What is slower than it was, missing, or grows too fast."""
    now, then, found = ratios(new), ratios(old), []
    for name, before in then.items():
        if name not in now:
            found.append(f"{name}: was not measured")
        elif now[name] > WORSE * before:
            found.append(f"{name}: {now[name] / before:.2f} times the committed ratio")
    for name, value in new.get("exponents", {}).items():
        if value > EXPONENT:
            found.append(f"cost over {name}: exponent {value:.2f}")
    return found


def table(new: dict[str, Any], old: dict[str, Any]) -> str:
    """Both runs in units of the loop."""
    now, then = ratios(new), ratios(old)
    lines = ["| measurement | seconds | loops | committed | ratio |", "|---|---|---|---|---|"]
    for name, value in now.items():
        before = then.get(name)
        known = "- | -" if before is None else f"{before:.1f} | {value / before:.2f}"
        lines.append(f"| {name} | {new['seconds'][name]:.2f} | {value:.1f} | {known} |")
    return "\n".join([*lines, *(f"\ncost over {n}: exponent {v:.2f}" for n, v in new.get("exponents", {}).items())])


def read(path: Path) -> dict[str, Any]:
    """A run of `make bench`."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path} cannot be read ({error}); on a quiet machine: make bench JSON={path}") from error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("new", type=Path)
    parser.add_argument("old", type=Path, nargs="?", default=COMMITTED)
    arguments = parser.parse_args()
    new, old = read(arguments.new), read(arguments.old)
    print(table(new, old))
    found = faults(new, old)
    for fault in found:
        print(f"SLOWER {fault}", file=sys.stderr)
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
