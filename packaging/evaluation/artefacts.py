"""What quality control says of damaged scans: `python packaging/evaluation/artefacts.py DATA`.

Each artefact is made on a healthy and a glioma scan, T1w and FLAIR where they exist, and detected on once. Prints a row
for each: the volume of the findings without and with the artefact, and of those apart from any before; the checks that
warn or fail; and the exit code under `--strict`. Then good scans are prepared, and the false alarms of each check are
counted.

    artefacts.py DATA [--strip atlas] [--scans "healthy T1w" ...] [--only "spikes, weak" ...]    the table of artefacts
    artefacts.py DATA --checks [--scans ...] [--only ...]          all checks, each scan registered, no map
    artefacts.py DATA --quick [--scans ...] [--only ...]           the measures alone, no network, one registration
    artefacts.py DATA --good 30 [--every 8]                                                      the false alarms
    artefacts.py DATA --good 30 --unseen         the same of scans that were not looked at when limits were chosen
    artefacts.py DATA --good 30 --unseen --cache CACHE   with the registrations that `uad train` keeps in its cache
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from uadcli import device
from uadcli.config import DetectConfig, PreprocessConfig
from uadcli.data.artefacts import measure
from uadcli.data.contrast import from_name, known_before, settle
from uadcli.data.dataset import evenly
from uadcli.data.prepare import Prepared, Stripped, common_scale, prepare, prepare_cached, scaled_as, to_native
from uadcli.data.unsuitable import refuse
from uadcli.detection.detect import detect, ready_scan
from uadcli.detection.options import DetectOptions
from uadcli.detection.session import Session
from uadcli.detection.verdict import judge, measures
from uadcli.errors import QualityError, UadError
from uadcli.imaging import skullstrip
from uadcli.imaging.geometry import resample, spacing
from uadcli.imaging.levels import levelled
from uadcli.imaging.volume import Scan, Volume, read_scan
from uadcli.model import out_of_distribution
from uadcli.model.model import Model, load
from uadcli.scoring import quality

SCANS = {  # a healthy and a glioma scan of T1w and FLAIR
    "healthy T1w": "ixi_t1/sub-IXI049/anat/sub-IXI049_T1w.nii.gz",
    "second healthy T1w": "ixi_t1/sub-IXI056/anat/sub-IXI056_T1w.nii.gz",
    "healthy FLAIR": "kirby21/sub-113/anat/sub-113_desc-brain_FLAIR.nii.gz",
    "glioma T1w": "tcga_raw/sub-FG6692/anat/sub-FG6692_T1w.nii.gz",
    "glioma FLAIR": "tcga_raw/sub-FG6692/anat/sub-FG6692_FLAIR.nii.gz",
}
GOOD = ("ixi_t1", "tcga_lgg", "healthy_other", "oasis_t1_stripped", "kirby21")
UNSEEN = {"ixi_t1": slice(60, 73), "tcga_lgg": slice(12, None)}  # were not looked at when the limits were chosen
SEED = 0
NEW_ML = 1.0  # of findings beyond those before, which nothing may bring without a word
PHASE = 1  # the axis along which phase is encoded, front to back
Make = Callable[[Volume], Volume]


@dataclass(frozen=True)
class Artefact:
    """How a scan is damaged, and what is given on the command line."""

    name: str
    make: Make
    options: tuple[str, ...] = ()


def on_data(change: Callable[[np.ndarray], np.ndarray]) -> Make:
    """A change of the voxels alone."""
    return lambda volume: Volume(np.ascontiguousarray(change(volume.data), dtype=np.float32), volume.affine)


def ghosting(data: np.ndarray, strength: float, ghosts: int = 5) -> np.ndarray:
    """Every n-th line of k-space along the phase axis weakened, as by a pulse: the head repeats at equal distances."""
    count = data.shape[PHASE]
    lines = np.abs(np.fft.fftfreq(count) * count).round().astype(int)
    weights = np.where((lines % ghosts == 0) & (lines > 1), 1 - strength, 1)  # the mean stays
    weights = weights.reshape([-1 if axis == PHASE else 1 for axis in range(3)])
    return np.abs(np.fft.ifft(np.fft.fft(data, axis=PHASE) * weights, axis=PHASE))


def motion(volume: Volume, share: float = 1 / 3, degrees: float = 5, shift_mm: float = 4) -> Volume:
    """The last part of k-space from a head that was turned about the long axis and shifted."""
    data, size = volume.data, spacing(volume.affine)
    turned = ndimage.rotate(data, degrees, axes=(0, 1), reshape=False, order=1)
    moved = ndimage.shift(turned, np.array([shift_mm / 2, shift_mm, 0]) / size, order=1)
    still, late = (np.fft.fftshift(np.fft.fft(one, axis=PHASE), axes=PHASE) for one in (data, moved))
    first = data.shape[PHASE] - round(share * data.shape[PHASE])
    np.moveaxis(still, PHASE, 0)[first:] = np.moveaxis(late, PHASE, 0)[first:]
    return Volume(
        np.abs(np.fft.ifft(np.fft.ifftshift(still, axes=PHASE), axis=PHASE)).astype(np.float32), volume.affine
    )


def spikes(data: np.ndarray, strength: float, count: int = 3) -> np.ndarray:
    """Single points of k-space as strong as a share of its centre: a herringbone over the image."""
    rng, space, (nx, ny, nz) = np.random.default_rng(SEED), np.fft.fftn(data), data.shape
    for _ in range(count):
        place = tuple(int(rng.integers(low, high)) for low, high in ((nx // 8, nx // 2), (ny // 8, ny // 2), (0, nz)))
        space[place] += strength * np.abs(space[0, 0, 0])
    return np.abs(np.fft.ifftn(space))


def bias(data: np.ndarray, strength: float) -> np.ndarray:
    """A smooth field from exp(-strength) to exp(strength) over the head, of second order."""
    x, y, z = (
        np.linspace(-1, 1, n).reshape([-1 if k == axis else 1 for k in range(3)]) for axis, n in enumerate(data.shape)
    )
    field = 0.8 * x + 0.6 * y - 0.5 * z + 0.5 * x * y - 0.4 * z**2
    return data * np.exp(strength * field / np.abs(field).max())


def noise(data: np.ndarray, share: float) -> np.ndarray:
    """Rician noise, its deviation a share of bright tissue."""
    rng, sigma = np.random.default_rng(SEED), share * np.percentile(data, 99)
    return np.hypot(data + rng.normal(0, sigma, data.shape), rng.normal(0, sigma, data.shape))


def middle(data: np.ndarray) -> int:
    """An axial slice through the middle of what is seen."""
    return int(np.median(np.nonzero(data > 0.1 * np.percentile(data, 99))[2]))


def empty_slices(volume: Volume) -> Volume:
    """Five slices without signal, next to each other, or 10 mm of thick ones; every second one of the next ten."""
    data, at = volume.data.copy(), middle(volume.data)
    data[..., at : at + max(1, min(5, round(30 / spacing(volume.affine)[2])))] = 0
    return Volume(data, volume.affine)


def slices_lost(volume: Volume) -> Volume:
    """Slices left out of the middle, so that 15 mm are missing and the upper head moves down."""
    at, count = middle(volume.data), max(1, round(15 / spacing(volume.affine)[2]))
    return Volume(np.delete(volume.data, range(at, at + count), axis=2), volume.affine)


def head_box(data: np.ndarray, axis: int) -> tuple[int, int]:
    """First and last slice of an axis with a good part of the head."""
    solid = ndimage.binary_opening(data > 0.1 * np.percentile(data, 99))
    area = solid.sum(axis=tuple(k for k in range(3) if k != axis))
    inside = np.flatnonzero(area > 0.1 * area.max())
    return int(inside[0]), int(inside[-1])


def cut(volume: Volume, axis: int, share: float, end: str, empty: bool = False) -> Volume:
    """Without a share of the head at one end of an axis: cropped, or set to 0."""
    low, high = head_box(volume.data, axis)
    keep = (
        slice(round(low + share * (high - low)), None)
        if end == "low"
        else slice(None, round(high - share * (high - low)))
    )
    part = tuple(keep if k == axis else slice(None) for k in range(3))
    if empty:
        data = np.zeros_like(volume.data)
        data[part] = volume.data[part]
        return Volume(data, volume.affine)
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, axis] * (keep.start or 0)
    return Volume(np.ascontiguousarray(volume.data[part]), affine)


def cropped(volume: Volume) -> Volume:
    """A field of view that cuts a sixth of the head off on the left, the right and the front."""
    for axis, end in ((0, "low"), (0, "high"), (1, "high")):
        volume = cut(volume, axis, 1 / 6, end)
    return volume


def spaced(volume: Volume, factors: tuple[float, float, float]) -> Volume:
    """The same voxels with other sizes in the header."""
    return Volume(volume.data, volume.affine @ np.diag([*factors, 1.0]))


def ct_like(data: np.ndarray) -> np.ndarray:
    """Flat soft tissue, dark fluid, bright bone, in Hounsfield units."""
    level = data / np.percentile(data, 99)
    rng = np.random.default_rng(SEED)
    air = ndimage.binary_opening(level < 0.08, iterations=2)
    bone = (level < 0.2) & ~air
    return np.where(air, -1000, np.where(bone, 900, 35 - 6 * level)) + rng.normal(0, 6, data.shape)


def body_of(data: np.ndarray) -> np.ndarray:
    """The head, or the brain of a stripped scan."""
    solid = ndimage.binary_closing(np.pad(data > 0.08 * np.percentile(data, 99), 3), iterations=3)[3:-3, 3:-3, 3:-3]
    return skullstrip.fill(skullstrip.largest_component(solid))


def inverted(data: np.ndarray) -> np.ndarray:
    """Bright is dark, in the head; air stays."""
    inside, top = body_of(data), np.percentile(data, 99.5)
    return np.where(inside, np.clip(top - data, 0, None), 0)


def z_scored(data: np.ndarray) -> np.ndarray:
    """Mean 0 and deviation 1 in the head, the surroundings at the minimum."""
    inside = body_of(data)
    values = (data - data[inside].mean()) / data[inside].std()
    return np.where(inside, values, values[inside].min())


def levels_of(data: np.ndarray, count: int) -> np.ndarray:
    """So many grey values in all."""
    top = np.percentile(data, 99)
    return np.round(np.clip(data / top, 0, 1) * (count - 1)) * 40


def brain_of(volume: Volume) -> np.ndarray:
    """The brain mask that the atlas gives."""
    return skullstrip.extract(levelled(volume), "atlas").mask


def stripped_twice(volume: Volume) -> Volume:
    """The brain cut out by the atlas, then eroded by 6 mm, as by a mask of another program."""
    steps = [max(1, round(6 / size)) for size in spacing(volume.affine)]
    inside = ndimage.minimum_filter(brain_of(volume), size=[2 * n + 1 for n in steps])
    return Volume(np.where(inside, volume.data, 0), volume.affine)


def label_map(volume: Volume) -> Volume:
    """Three tissues by their intensity, in the brain."""
    inside = brain_of(volume)
    smooth = ndimage.median_filter(volume.data, 3)
    edges = np.percentile(smooth[inside], [25, 60])
    return Volume(np.where(inside, 1 + np.searchsorted(edges, smooth), 0).astype(np.float32), volume.affine)


ARTEFACTS = (
    Artefact("none", lambda volume: volume),
    Artefact("ghosts, weak", on_data(lambda x: ghosting(x, 0.3))),
    Artefact("ghosts, strong", on_data(lambda x: ghosting(x, 0.8))),
    Artefact("motion in a third of k-space", motion),
    Artefact("motion in half of k-space", lambda v: motion(v, 0.5)),
    Artefact("spikes, weak", on_data(lambda x: spikes(x, 0.03))),
    Artefact("spikes, strong", on_data(lambda x: spikes(x, 0.15))),
    Artefact("empty slices", empty_slices),
    Artefact("15 mm of slices left out", slices_lost),
    Artefact("empty front quarter", lambda v: cut(v, 1, 0.25, "high", empty=True)),
    Artefact("left half empty", lambda v: cut(v, 0, 0.5, "low", empty=True)),
    Artefact("cropped field of view", cropped),
    Artefact("lower third missing", lambda v: cut(v, 2, 1 / 3, "low")),
    Artefact("upper half missing", lambda v: cut(v, 2, 0.5, "high")),
    Artefact("without the vertex (a fifth)", lambda v: cut(v, 2, 0.2, "high")),
    Artefact("given as T2w", lambda volume: volume, ("--contrast", "T2w")),
    Artefact("T1w given as FLAIR, FLAIR as T1w", lambda volume: volume, ("--contrast", "other")),
    Artefact("upside down", on_data(lambda x: x[..., ::-1])),
    Artefact("front to back", on_data(lambda x: x[:, ::-1])),
    Artefact("axes swapped (y, z)", on_data(lambda x: np.swapaxes(x, 1, 2))),
    Artefact("axes swapped (x, y)", on_data(lambda x: np.swapaxes(x, 0, 1))),
    Artefact("slice spacing halved", lambda v: spaced(v, (1, 1, 0.5))),
    Artefact("all spacings times 1.4", lambda v: spaced(v, (1.4, 1.4, 1.4))),
    Artefact("CT-like", on_data(ct_like)),
    Artefact("inverted", on_data(inverted)),
    Artefact("scaled to 0..1", on_data(lambda x: np.clip(x / np.percentile(x, 99.9), 0, 1))),
    Artefact("z-scored", on_data(z_scored)),
    Artefact("six grey values", on_data(lambda x: levels_of(x, 6))),
    Artefact("brain mask as the scan", lambda v: Volume(brain_of(v).astype(np.float32), v.affine)),
    Artefact("label map as the scan", label_map),
    Artefact("stripped twice (6 mm missing)", stripped_twice),
    Artefact("bias, strong", on_data(lambda x: bias(x, 0.7))),
    Artefact("bias, extreme", on_data(lambda x: bias(x, 1.5))),
    Artefact("noise of 10 %", on_data(lambda x: noise(x, 0.10))),
    Artefact("noise of 25 %", on_data(lambda x: noise(x, 0.25))),
)


def detected(
    volume: Volume, contrast: str, options: Sequence[str], strip: str, folder: Path
) -> tuple[dict[str, Any], int]:
    """The content of the sidecar, or the error under `error`, and the exit code under `--strict`."""
    scan, sidecar = saved(volume, contrast, folder), folder / "map.json"
    sidecar.unlink(missing_ok=True)
    given = DetectOptions(contrast=dict([options]).get("--contrast") if options else None, strict=True, overwrite=True)
    code = 0
    try:
        detect(scan, folder / "map.nii.gz", config=DetectConfig(PreprocessConfig(strip=strip)), options=given)
    except UadError as error:
        code = error.exit_code
        if not sidecar.exists():
            return {"error": error.what}, code
    return json.loads(sidecar.read_text()), code


def checked(
    volume: Volume, contrast: str, options: Sequence[str], strip: str, folder: Path
) -> tuple[dict[str, Any], int]:
    """The checks alone, as they stand in the sidecar, or the error, and the exit code under `--strict`."""
    given = DetectOptions(contrast=dict([options]).get("--contrast") if options else None)
    session = Session(DetectConfig(PreprocessConfig(strip=strip)), given, "cpu", load=load_once)
    try:
        ready = ready_scan(saved(volume, contrast, folder), session)
        found = session.model(ready.found.contrast)
        scaled = scaled_as(session.config.preprocess, found.card.scaling, session.reporter)
        x = ready.prepared.scaled(scaled)
        distance = out_of_distribution.measure(found, x, ready.prepared.mask, ready.found.contrast)
        verdict = judge(ready, distance)
    except UadError as error:
        return {"error": error.what}, error.exit_code
    return {"qc": asdict(verdict)}, QualityError.exit_code if verdict.verdict == "fail" or distance.beyond else 0


@functools.cache
def load_once(path: Path, digest: str | None) -> Model:
    """A model, which all scans share."""
    return load(path, digest, "cpu")


def saved(volume: Volume, contrast: str, folder: Path) -> Path:
    """The file of a scan."""
    scan = folder / f"sub-1_{contrast}.nii.gz"
    image = nib.Nifti1Image(volume.data.astype(np.float32), volume.affine)
    image.set_sform(volume.affine, 1)
    image.set_qform(volume.affine, 1)
    image.to_filename(scan)
    return scan


def flags(content: dict[str, Any]) -> str:
    """The checks that do not pass, with their values."""
    if "error" in content:
        return f"refused: {content['error']}"
    found = []
    for check in content["qc"]["checks"]:
        if check["verdict"] in ("warn", "fail"):
            value = "" if check["value"] is None else f" {check['value']:.2f}"
            found.append(f"{check['name']}{value} ({check['verdict']})")
    return ", ".join(found)


def rows(data: Path, scans: Sequence[str], only: Sequence[str], strip: str) -> Iterator[str]:
    """A row of the table for each artefact and scan."""
    for name in scans:
        path = data / SCANS[name]
        volume, contrast, before, known = read_scan(path).volume, from_name(path) or "", math.nan, None
        for artefact in (one for one in ARTEFACTS if one.name in ("none", *only)):
            options = options_of(artefact, contrast)
            with tempfile.TemporaryDirectory() as folder:
                content, code = detected(artefact.make(volume), contrast, options, strip, Path(folder))
                marked = mask_of(Path(folder)) if "anomaly" in content else None
            after = content["anomaly"]["volume_ml"] if "anomaly" in content else None
            if artefact.name == "none" and after is not None:
                before, known = after, marked
            amount, new = f"{before:.1f} / " + ("-" if after is None else f"{after:.1f}"), 0.0
            if marked is not None and after is not None:
                new = new_ml(known, marked) if known and known.shape == marked.shape else max(after - before, 0)
                amount += f" ({new:.1f})"
            silent = " **silent**" if code == 0 and not flags(content) and new > NEW_ML else ""
            yield f"| {artefact.name} | {name} | {amount} | {flags(content)}{silent} | {code} |"


def mask_of(folder: Path) -> Volume:
    """The mask that a run wrote."""
    return read_scan(folder / "map_mask.nii.gz", allow_empty=True).volume


def new_ml(known: Volume, marked: Volume) -> float:
    """The volume of what is marked apart from what is known, ml; what is known and grows is not new."""
    labels, _ = ndimage.label(marked.data > 0, np.ones((3, 3, 3)))
    new = (labels > 0) & ~np.isin(labels, labels[known.data > 0])
    return float(new.sum() * np.prod(spacing(marked.affine)) / 1e3)


def checked_rows(data: Path, scans: Sequence[str], only: Sequence[str], strip: str) -> Iterator[str]:
    """What quality control says of each artefact, without a map."""
    for name in scans:
        path = data / SCANS[name]
        volume, contrast = read_scan(path).volume, from_name(path) or ""
        for artefact in (one for one in ARTEFACTS if one.name in only):
            with tempfile.TemporaryDirectory() as folder:
                content, code = checked(
                    artefact.make(volume), contrast, options_of(artefact, contrast), strip, Path(folder)
                )
            yield f"| {artefact.name} | {name} | {flags(content)} | {code} |"


def options_of(artefact: Artefact, contrast: str) -> tuple[str, ...]:
    """The options of an artefact, with the other contrast by name."""
    if artefact.options == ("--contrast", "other"):
        return ("--contrast", "FLAIR" if contrast == "T1w" else "T1w")
    return artefact.options


def quick_rows(data: Path, scans: Sequence[str], only: Sequence[str], strip: str) -> Iterator[str]:
    """What the measures say of each artefact, with the registration and brain mask of the undamaged scan.

    Left out are artefacts that another registration or the contrast would show.
    """
    for name in scans:
        scan = read_scan(data / SCANS[name])
        prepared, stripped = prepare(scan, PreprocessConfig(strip=strip))
        brain = stripped.brain.astype(np.float32)
        for artefact in (one for one in ARTEFACTS if one.name in only and not one.options):
            volume = artefact.make(scan.volume)
            try:
                refuse(volume, scan.path, masked=strip == "none")
            except UadError as error:
                yield f"| {artefact.name} | {name} | refused: {error.what} |"
                continue
            inside = resample(brain, scan.volume.affine, volume.shape, volume.affine, order=0) > 0
            damaged = Stripped(common_scale(volume)[0].volume, inside, prepared.world_map)
            signs = measure(volume, damaged, prepared)
            signs = replace(signs, bias_corrected=None)  # the damaged scan was not corrected
            found = quality.assess(quality.Measures(None, None, None, artefacts=asdict(signs)))
            yield f"| {artefact.name} | {name} | {flags({'qc': {'checks': [asdict(c) for c in found.checks]}})} |"


def good_scans(data: Path, every: int) -> list[Path]:
    """Scans without a known fault, of all data sets; of the large ones every so many."""
    found = []
    for folder in GOOD:
        paths = scans_of(data / folder)
        found += paths[:: every if len(paths) > every else 1]
    return found


def scans_of(folder: Path) -> list[Path]:
    """The scans of a data set, without masks."""
    return sorted(p for p in folder.rglob("*.nii.gz") if from_name(p) and "mask" not in p.name)


def unseen_scans(data: Path, count: int) -> list[Path]:
    """Good scans of the parts `UNSEEN` of data sets, `count` in all, of each set as many as it has of its share."""
    found: list[Path] = []
    for done, (folder, part) in enumerate(UNSEEN.items()):
        found += evenly(scans_of(data / folder)[part], (count - len(found)) // (len(UNSEEN) - done))
    return found


def prepared_as_kept(scan: Scan, config: PreprocessConfig, cache: Path) -> tuple[Prepared, Stripped]:
    """A scan prepared as in a cache, and the brain mask on its own grid from that on the model's."""
    prepared = prepare_cached(scan.path, config, cache)
    brain = to_native(prepared.mask.astype(np.float32), scan, prepared, 1) >= 0.5
    return prepared, Stripped(common_scale(scan.volume)[0].volume, brain, prepared.world_map)


def false_alarms(chosen: Sequence[Path], strip: str, cache: Path | None) -> Iterator[str]:
    """For each check, how many good scans pass, warn, fail, or have no measure, and the lowest and highest value."""
    verdicts: dict[str, Counter[str]] = {}
    values: dict[str, list[float]] = {}
    for path in chosen:
        try:
            scan, config = read_scan(path), PreprocessConfig(strip=strip)
            prepared, stripped = prepared_as_kept(scan, config, cache) if cache else prepare(scan, config)
        except UadError as error:
            yield f"{path.name}: {error}"
            continue
        settled = settle(known_before(path, None), path, prepared.contrast())
        found = quality.assess(measures(prepared, settled.contrast, measure(scan.volume, stripped, prepared)))
        for check in (*found.checks, *([settled.check] if settled.check else [])):
            verdicts.setdefault(check.name, Counter())[check.verdict] += 1
            values.setdefault(check.name, []).append(math.nan if check.value is None else check.value)
            if check.verdict in ("warn", "fail"):
                print(f"{path.name}: {check.name} {check.value} {check.verdict}", file=sys.stderr, flush=True)
    yield "| check | pass | warn | fail | not computed | lowest | highest |\n|---|---|---|---|---|---|---|"
    for name, one in verdicts.items():
        known = [value for value in values[name] if not math.isnan(value)]
        ends = f"{min(known):.3g} | {max(known):.3g}" if known else "- | -"
        yield f"| `{name}` | {one['pass']} | {one['warn']} | {one['fail']} | {one[quality.NOT_COMPUTED]} | {ends} |"


def main() -> None:
    """Print the table of artefacts, or that of good scans."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--strip", default="atlas")
    parser.add_argument("--scans", nargs="+", default=list(SCANS), choices=list(SCANS))
    parser.add_argument("--only", nargs="+", default=[one.name for one in ARTEFACTS])
    parser.add_argument("--checks", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--good", type=int, default=0)
    parser.add_argument("--unseen", action="store_true")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--every", type=int, default=8)
    given = parser.parse_args()
    device.bound_threads(2)
    if given.good:
        every = evenly(good_scans(given.data, given.every), given.good)
        lines = false_alarms(unseen_scans(given.data, given.good) if given.unseen else every, given.strip, given.cache)
    elif given.checks:
        print("| artefact | scan | flagged | exit |\n|---|---|---|---|")
        lines = checked_rows(given.data, given.scans, given.only, given.strip)
    elif given.quick:
        print("| artefact | scan | flagged |\n|---|---|---|")
        lines = quick_rows(given.data, given.scans, given.only, given.strip)
    else:
        print("| artefact | scan | findings before / after (new), ml | flagged | exit |\n|---|---|---|---|---|")
        lines = rows(given.data, given.scans, given.only, given.strip)
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
