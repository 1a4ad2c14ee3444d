"""Seconds per stage and peak memory of `uad detect`, and the network's speed relative to matrix multiplication.

    python packaging/benchmarks/detection.py DATA [--json FILE]

Runs the command on a 1 mm T1w head (an IXI scan of DATA, resampled) and on the example FLAIR, with --strip hd-bet and
atlas, each in its own process; then times the network alone, and training steps as in `uad train`, with noise,
augmentation, synthetic anomalies, optimiser and averaging, both in float32 and, where the CPU multiplies it, in bf16,
next to the rates of matrix products; and the cost over voxels and slices (`cost.py`). `--json`
writes all seconds and those of a fixed loop of calculations, for `compare.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import compare
import cost
import nibabel as nib
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from uadcli.config import TrainConfig, preset
from uadcli.device import bf16
from uadcli.imaging import template
from uadcli.imaging.geometry import resample
from uadcli.imaging.slices import to_slices
from uadcli.imaging.volume import read_scan
from uadcli.reconstruction.model import ConditionedDiffusion
from uadcli.settings.option import Precision
from uadcli.training.devices import fabric
from uadcli.training.examples.slices import SliceSet
from uadcli.training.reconstruction import Trainer

EXAMPLE = Path(__file__).parents[1] / "example" / "sub-FG6692_FLAIR.nii.gz"
SLICES, LEVELS, BATCH = 75, 3, 32
STEPS = 20  # of training


def head_at_1mm(data: Path, folder: Path) -> Path:
    """One IXI head (2 mm) resampled to 1 mm: the size of a research T1w."""
    scan = read_scan(sorted(data.glob("ixi_t1/*/anat/*_T1w.nii.gz"))[0]).volume
    affine = scan.affine @ np.diag([0.5, 0.5, 0.5, 1])
    x, y, z = (2 * n for n in scan.shape)
    path = folder / "head_T1w.nii.gz"
    nib.Nifti1Image(resample(scan.data, scan.affine, (x, y, z), affine).astype(np.int16), affine).to_filename(path)
    return path


def detect(scan: Path, strip: str, folder: Path) -> float:
    """Print the row of one `uad detect`; returns its seconds."""
    command = [sys.executable, "-m", "uadcli", "detect", scan, "-o", folder / "m.nii.gz", "--strip", strip]
    start = time.perf_counter()
    done = subprocess.run(
        [*map(str, command), "--json", "-q", "--overwrite"], capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - start
    report = json.loads(done.stdout)
    stages = ", ".join(f"{name} {value:.1f}" for name, value in report["seconds"].items() if value >= 0.05)
    print(f"| {scan.name} | {strip} | {seconds:.1f} | {report['peak_memory_mb']} | {stages} |", flush=True)
    return seconds


def matrix_rate(kind: torch.dtype) -> float:
    """Floating-point operations per second of a large matrix product."""
    a, b = torch.randn(2, 2048, 2048).to(kind)
    torch.mm(a, b)
    start = time.perf_counter()
    for _ in range(10):
        torch.mm(a, b)
    return 10 * 2 * 2048**3 / (time.perf_counter() - start)


def network(rates: Mapping[Precision, float]) -> dict[str, float]:
    """Print and return seconds per volume by arithmetic; print operations per second relative to a matrix product's."""
    model = ConditionedDiffusion(preset("small")).eval().to(memory_format=torch.channels_last)
    x = torch.rand(BATCH, 1, 96, 96).contiguous(memory_format=torch.channels_last)
    t, noise = torch.full((BATCH,), 499), torch.randn_like(x)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(x, t, noise)
    flop = counter.get_total_flops() / BATCH
    passes, found = SLICES * LEVELS, dict[str, float]()
    count = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"\nnetwork: {count:.2f} M parameters, {flop / 1e9:.2f} GFLOP a slice and level")
    for precision, rate in rates.items():
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            model(x, t, noise)
            start, done = time.perf_counter(), 0
            while done < passes:
                model(x, t, noise)
                done += BATCH
            seconds = (time.perf_counter() - start) * passes / done
        share = f"{passes * flop / seconds / rate:.0%} of the matrix rate ({rate / 1e9:.0f} GFLOP/s)"
        print(f"{SLICES} slices x {LEVELS} levels in {precision}: {seconds:.2f} s; {share}")
        found[row(f"network, {SLICES} x {LEVELS}", precision)] = seconds
    return found


def training(rates: Mapping[Precision, float]) -> dict[str, float]:
    """Train on slices of the template: print slices and operations per second, these relative to a matrix product's.

    Returns the seconds of a step by arithmetic.
    """
    brain = np.where(template.on_grid("mni_brain_mask") > 0, template.on_grid("mni_head_T1w", 1), 0)
    stack = to_slices(np.clip(255 * brain / brain.max(), 0, 255).astype(np.float32))[15:65].astype(np.uint8)
    data = SliceSet(torch.from_numpy(stack), torch.zeros(len(stack), dtype=torch.long))
    return {row("training step", kind): _step(data, kind, rate) for kind, rate in rates.items()}


def _step(data: SliceSet, precision: Precision, rate: float) -> float:
    trainer = Trainer(preset("small"), TrainConfig())
    trainer.place(fabric(0, precision=precision))
    with FlopCounterMode(display=False) as counter:  # the first step, forwards and backwards
        trainer.step(data)
    for _ in range(2):
        trainer.step(data)
    start = time.perf_counter()
    for _ in range(STEPS):
        trainer.step(data)
    seconds = (time.perf_counter() - start) / STEPS
    flop, batch = counter.get_total_flops(), trainer.config.batch_size
    print(
        f"training in {precision}: {batch / seconds:.1f} slices a second, {seconds:.2f} s a step of {batch}, "
        f"{flop / batch / 1e9:.2f} GFLOP a slice; {flop / seconds / rate:.0%} of the matrix rate"
    )
    return seconds


def row(name: str, precision: Precision) -> str:
    """The name of a row of the JSON file."""
    return name if precision == "float32" else f"{name}, {precision}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="the development data; without it there is no 1 mm head")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the seconds here, for compare.py")
    arguments = parser.parse_args()
    data, rows, loop = arguments.data, dict[str, float](), compare.loop_seconds()
    print(
        f"{os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads, no other load meant\n"
    )
    print("| scan | strip | seconds | peak MB | stages |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scans = [EXAMPLE]
        if data is not None and data.is_dir():
            scans.insert(0, head_at_1mm(data, folder))
        else:
            print(f"no folder {data}: the 1 mm head is left out", file=sys.stderr)
        for scan in scans:
            for strip in ("hd-bet", "atlas"):
                rows[f"uad detect {scan.name} {strip}"] = detect(scan, strip, folder)
    rates: dict[Precision, float] = {"float32": matrix_rate(torch.float32)}
    if bf16("auto", "cpu"):
        rates["bf16"] = matrix_rate(torch.bfloat16)
    rows |= network(rates) | training(rates)
    grown = cost.measured("atlas")
    print(f"\n{cost.in_words(grown)}")
    loop = (loop + compare.loop_seconds()) / 2
    print(f"\nthe fixed loop: {loop:.3f} s")
    if arguments.json:
        content = {compare.LOOP: loop, "seconds": rows | grown["seconds"], "exponents": grown["exponents"]}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
