"""Throughput of `uad batch` compared with a shell loop over `uad detect`, and the start of a finished batch.

    python packaging/benchmarks/batch.py [--scans 20] [--sidecars 1000]

The scans are copies of the example with different noise, so that no two files are equal. Also checks that the maps of
loop and batch are equal byte for byte.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

EXAMPLE = Path(__file__).parents[1] / "example" / "sub-FG6692_FLAIR.nii.gz"
UAD = [sys.executable, "-m", "uadcli"]


def scans(folder: Path, count: int) -> list[Path]:
    """Copies of the example with a little different noise each."""
    image: Any = nib.load(EXAMPLE)
    data = np.asarray(image.dataobj)
    folder.mkdir()
    paths = []
    for i in range(count):
        grain = np.random.default_rng(i).integers(-1, 2, data.shape)
        noisy = np.where(data > 0, np.maximum(data.astype(np.int32) + grain, 1), 0).astype(data.dtype)
        paths.append(folder / f"sub-{i:02d}_FLAIR.nii.gz")
        nib.Nifti1Image(noisy, image.affine, image.header).to_filename(paths[-1])
    return paths


def seconds(*command: str | Path) -> float:
    start = time.perf_counter()
    subprocess.run([*UAD, *map(str, command), "-q"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def throughput(folder: Path, count: int) -> None:
    """Print both times and their ratio."""
    paths, loop = scans(folder / "in", count), folder / "loop"
    loop.mkdir()
    one_by_one = sum(seconds("detect", p, "-o", loop / p.name) for p in paths)
    print(f"loop over uad detect: {count} scans, {one_by_one:.0f} s, {one_by_one / count:.1f} s a scan", flush=True)
    together = seconds("batch", folder / "in", "-o", folder / "batch")
    print(f"uad batch:            {count} scans, {together:.0f} s, {together / count:.1f} s a scan")
    print(f"throughput: {one_by_one / together:.2f} times that of the loop", flush=True)
    for path in paths:
        made = next((folder / "batch").rglob(f"{path.name.split('.')[0]}_desc-anomaly_map.nii.gz"))
        if made.read_bytes() != (loop / path.name).read_bytes():
            raise SystemExit(f"the maps of {path.name} differ")
    print("all maps equal to the byte")


def warm_start(folder: Path, count: int) -> None:
    """Print the seconds of a batch without work: one real result, copied under `count` names."""
    source, results = folder / "many", folder / "done"
    scans(source, 1)
    seconds("batch", source, "-o", results)
    scan = next(source.iterdir())
    first = {p.name.removeprefix("sub-00_FLAIR"): p for p in results.iterdir() if p.name.startswith("sub-00_FLAIR")}
    content = json.loads(next(p for name, p in first.items() if name.endswith(".json")).read_text())
    for i in range(1, count):
        name = f"sub-{i:04d}_FLAIR"
        (source / f"{name}.nii.gz").write_bytes(scan.read_bytes())
        for suffix, path in first.items():
            if suffix.endswith(".json"):
                outputs = {k: v.replace("sub-00_FLAIR", name) for k, v in content["outputs"].items()}
                text = json.dumps(
                    content | {"outputs": outputs} | {"input": content["input"] | {"name": name + ".nii.gz"}}
                )
                (results / f"{name}{suffix}").write_text(text)
            else:
                (results / f"{name}{suffix}").hardlink_to(path)
    plan = subprocess.run(
        [*UAD, "batch", source, "-o", results, "--dry-run"], check=True, stdout=subprocess.PIPE, text=True
    )
    left = [line for line in plan.stdout.splitlines() if json.loads(line)["action"] != "skip"]
    if left:
        raise SystemExit(f"{len(left)} scans are not taken as done, the first: {left[0]}")
    print(f"batch of {count} scans that are done already: {seconds('batch', source, '-o', results):.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=20)
    parser.add_argument("--sidecars", type=int, default=1000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        warm_start(Path(folder), arguments.sidecars)
        throughput(Path(folder), arguments.scans)


if __name__ == "__main__":
    main()
