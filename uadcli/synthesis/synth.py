"""`uad synth`: healthy volumes of any contrast from label maps or T1w scans, optionally with lesions and their mask."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uadcli import __version__
from uadcli.arrays import Affine, Array
from uadcli.config import PreprocessConfig
from uadcli.console import Reporter
from uadcli.contrasts import T1W
from uadcli.errors import RESEARCH_USE, InputError, OutputError, UsageError
from uadcli.files import make_folder, refuse_closed, write_json
from uadcli.imaging import intensity, volume
from uadcli.imaging.geometry import resample, scaled_grid, spacing
from uadcli.imaging.header_geometry import without_options
from uadcli.imaging.slices import GRID_AFFINE
from uadcli.imaging.volume import Scan, Volume, read_scan
from uadcli.report import sidecar
from uadcli.running import faults, interrupt
from uadcli.running.temporary import mark, missing_folders, remove, remove_empty, sweep
from uadcli.synthesis.options import SynthOptions

if TYPE_CHECKING:
    from uadcli.synthesis.anatomy import Anatomy

ESSENTIAL = {2, 3, 41, 42}  # white matter and cortex of both sides, present in every brain label map of FreeSurfer
ALIKE = 0.5  # least share of equal neighbours; label maps at 1 mm have about 0.8
ORDER = ("sidecar", "lesions", "volume")  # of moving the files to their places


@dataclass(frozen=True)
class _Healthy:
    data: Array
    mask: NDArray[np.bool_]
    affine: Affine
    origin: str
    anatomy: Anatomy | None = None


def synth(source: Path, output: Path, options: SynthOptions, reporter: Reporter) -> Path:
    """Write a synthetic brain at 2 mm and its sidecar; with lesions also `_lesions.nii.gz`, the ground truth.

    `source` is a brain or head label map with FreeSurfer's numbers, and the volume is in its space; or a T1w scan,
    which is prepared as by `uad detect`, and the volume is in MNI space. The same seed gives the same volume. A volume
    without lesions that replaces one with them also removes their mask. Raises `InputError` for another source,
    `UsageError` for a result in the place of the source or its JSON file, `OutputError` for results that exist or
    cannot be written.
    """
    files, outdated = _files(source, output, options)
    reporter.info(RESEARCH_USE)
    with faults.naming(source, output), _moved_together(files, outdated) as hidden:
        scan = read_scan(source)
        for text in scan.warnings:
            reporter.warn(without_options(text))
        rng = np.random.default_rng(options.seed)
        with reporter.stage("healthy volume"):
            known = is_label_map(scan.volume)
            made = (_from_labels if known else _from_t1)(scan, options, rng, reporter)
        with reporter.stage("synthesis"):
            data, truth, mask = _finish(made, options, rng)
        with reporter.stage("write"):
            _write(hidden["volume"], data, made.affine, np.float32)
            if "lesions" in hidden:
                _write(hidden["lesions"], truth, made.affine, np.uint8)
            write_json(hidden["sidecar"], _content(scan, made, truth, mask, options, files))
    return files["volume"]


def is_label_map(scan: Volume) -> bool:
    """Whether a volume contains whole numbers, apart from its background mostly equal neighbours."""
    data = scan.data
    if not np.array_equal(data, np.round(data)):
        return False
    values, counts = np.unique(data, return_counts=True)
    labelled = (data > 0) & (data != values[np.argmax(counts)])  # air need not be 0
    inside = labelled[1:] & labelled[:-1]
    return bool(inside.any() and (data[1:] == data[:-1])[inside].mean() > ALIKE)


def _files(source: Path, output: Path, options: SynthOptions) -> tuple[dict[str, Path], Path | None]:
    """The files to write, and the lesion mask to remove: that of the volume that is replaced, if the new one has none.

    Raises `UsageError` for files that are read, and `OutputError` for files that exist, or that would be taken for the
    mask of the new volume.
    """
    from uadcli.data.dataset import is_synthetic
    from uadcli.data.names import refuse_inputs
    from uadcli.data.scan_json import json_of

    suffix = next((s for s in (".nii.gz", ".nii") if output.name.endswith(s)), None)
    if suffix is None:
        raise UsageError(f"{output.name} is not a NIfTI file name", hint="Its name must end in .nii.gz or .nii.")
    stem = output.name.removesuffix(suffix)
    files = {"volume": output, "sidecar": output.with_name(f"{stem}.json")}
    mask = output.with_name(f"{stem}_lesions{suffix}")
    refuse_closed(output)
    refuse_inputs((*files.values(), mask), {source: "the source", json_of(source): "the JSON file of the source"})
    for path in (*files.values(), mask):
        if path.exists() and not options.overwrite:
            raise OutputError("already exists", path=path, hint="Choose another name, or give --overwrite.")
    if options.lesions:
        return {**files, "lesions": mask}, None
    if mask.exists() and not is_synthetic(output):  # it may be anyone's
        what = "would be taken for the lesion mask of the new volume"
        raise OutputError(what, path=mask, hint="Remove it, or choose another name.")
    return files, mask


@contextmanager
def _moved_together(files: dict[str, Path], outdated: Path | None) -> Iterator[dict[str, Path]]:
    """Hidden places for the files, which are moved to their own at the end; after an error the old files stay.

    The `outdated` file is removed with the old files. Folders that were made for them do not stay empty.
    """
    place = files["volume"].parent
    new = missing_folders(place)
    make_folder(place)
    sweep(place)
    folder = place / f".{mark()}"  # named before it is made, so that a signal right after that does not leave it behind
    try:
        folder.mkdir()
        hidden = {key: folder / path.name for key, path in files.items()}
        yield hidden
        with interrupt.held():
            _move(hidden, files, outdated)
    finally:
        remove(folder)
        remove_empty(new)


def _move(hidden: dict[str, Path], files: dict[str, Path], outdated: Path | None) -> None:
    """Move all files or none, the volume last; a volume without its own sidecar would count as the scan of a person.

    Raises `OutputError`.
    """
    moved = list[Path]()
    try:
        files["volume"].unlink(missing_ok=True)
        if outdated is not None:
            outdated.unlink(missing_ok=True)
        for key in (key for key in ORDER if key in files):
            os.replace(hidden[key], files[key])
            moved.append(files[key])
    except OSError as error:
        for path in moved:
            remove(path)
        hint = "Check the folder's permissions and free space."
        raise OutputError(f"cannot be written: {error.strerror}", path=files["volume"], hint=hint) from error


def _from_labels(scan: Scan, options: SynthOptions, rng: np.random.Generator, reporter: Reporter) -> _Healthy:
    """A volume at 2 mm in the space of a label map, which is first resampled to 1 mm (nearest neighbour).

    Raises `InputError` for a map without `ESSENTIAL`.
    """
    from uadcli.synthesis.anatomy import of_labels
    from uadcli.synthesis.brains import PARCELS, brain_of, from_labels, without_parcels

    whole, affine = without_parcels(scan.volume.data.astype(np.int32)), scan.volume.affine
    if lacking := sorted(ESSENTIAL - set(np.unique(whole).tolist())):
        what = f"is a label map, and lacks FreeSurfer's numbers {', '.join(map(str, lacking))}"
        hint = "Give a map with white matter and cortex of both sides (2, 41 and 3, 42), or a T1w scan."
        raise InputError(what, path=scan.path, hint=hint)
    if (strange := whole[whole >= PARCELS[0][0]]).size:
        numbers = f"have numbers that are not FreeSurfer's, such as {strange.max()}"
        reporter.warn(f"{scan.path}: {strange.size} voxels {numbers}: left out")
    factor = 1.0 / spacing(affine)
    fine = scaled_grid(affine, factor)
    x, y, z = (int(np.ceil(n / f / 2)) * 2 for n, f in zip(whole.shape, factor, strict=True))
    labels = np.round(resample(whole.astype(np.float32), affine, (x, y, z), fine, order=0)).astype(np.int32)
    labels[~brain_of(labels)] = 0
    data = from_labels(labels, options.contrast, rng)
    return _Healthy(data, data > 0, scaled_grid(fine, np.full(3, 2.0)), "label map", of_labels(labels))


def _from_t1(scan: Scan, options: SynthOptions, rng: np.random.Generator, reporter: Reporter) -> _Healthy:
    """A T1w scan on the model's grid, converted to the requested contrast."""
    from uadcli.data.prepare import prepare
    from uadcli.synthesis import anatomy
    from uadcli.synthesis.contrast import volume_from_t1

    config = PreprocessConfig()
    prepared, _ = prepare(scan, config, stage=reporter.stage)
    guess = prepared.contrast()
    if guess.contrast != T1W.name:
        raise InputError(
            f"looks like {guess.contrast}, not a label map",
            path=scan.path,
            hint="Give a T1w scan, or a label map with FreeSurfer's numbers.",
        )
    data, mask = prepared.linear(config), prepared.mask
    known = anatomy.of_scan(data, mask, T1W.name)
    if options.contrast != T1W.name:
        data = volume_from_t1(data, mask, known, options.contrast, rng)
    return _Healthy(data, mask, GRID_AFFINE, "T1w scan", known)


def _finish(
    made: _Healthy, options: SynthOptions, rng: np.random.Generator
) -> tuple[Array, NDArray[np.bool_], NDArray[np.bool_]]:
    from uadcli.synthesis.lesions import paste_lesions
    from uadcli.synthesis.scanner import degrade

    data, mask, truth = made.data, made.mask, np.zeros(made.mask.shape, dtype=bool)
    if options.lesions:
        for _ in range(20):  # one draw in ten has no lesion, and faint ones do not count
            data, truth = paste_lesions(made.data, mask, options.contrast, rng, anatomy=made.anatomy)
            if truth.any():
                break
    if not options.clean:
        data, mask = degrade(data, mask, rng)
    return intensity.scale(data, mask, PreprocessConfig()), truth & mask, mask


def _write(path: Path, data: NDArray[Any], affine: Affine, dtype: type) -> None:
    import nibabel as nib

    if affine is GRID_AFFINE:
        volume.write_mni(path, Volume(data, affine), dtype=dtype, name="synthetic")
        return
    image = nib.Nifti1Image(data.astype(dtype), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    volume.write_image(path, nib.Nifti1Image, data.astype(dtype), image.header, "synthetic")


def _content(
    scan: Scan,
    made: _Healthy,
    truth: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    options: SynthOptions,
    files: dict[str, Path],
) -> dict[str, Any]:
    voxel_ml = abs(float(np.linalg.det(made.affine[:3, :3]))) / 1e3
    return {
        "schema_version": sidecar.SCHEMA_VERSION,
        "research_use_only": RESEARCH_USE,
        "synthetic": True,
        "tool": {"name": "uad", "version": __version__},
        "source": {"name": scan.path.name, "sha256": scan.sha256, "kind": made.origin},
        "contrast": options.contrast,
        "seed": options.seed,
        "clean": options.clean,
        "space": "MNI152NLin2009cAsym" if made.affine is GRID_AFFINE else "that of the label map",
        "brain_volume_ml": float(mask.sum()) * voxel_ml,
        "lesion_volume_ml": float(truth.sum()) * voxel_ml if options.lesions else None,
        "outputs": {key: path.name for key, path in files.items()},
    }
