"""Unusual inputs, one by one: `python packaging/evaluation/inputs.py [--data DATA] [--lines 4 6] [--quick]`.

Makes each input from the example (with DATA, also from other scans), runs `uad` on it, and prints a row: what was run,
the exit code, what it printed or found. Exits with 1 if a row is not as it should be. `--quick`: only inputs that are
refused before any work; `tests/e2e/test_unusual_inputs.py` runs these.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from uadcli.cli.app import main as uad
from uadcli.imaging import skullstrip
from uadcli.imaging.geometry import from_canonical, spacing
from uadcli.imaging.levels import levelled
from uadcli.imaging.slices import GRID_AFFINE
from uadcli.imaging.volume import read_scan

EXAMPLE = Path(__file__).parents[1] / "example" / "sub-FG6692_FLAIR.nii.gz"
QUICK = ("--strip", "atlas")
BRAIN = ("--strip", "none")
STRICT = ("--strict",)
CODES = 252  # offset of qform_code and sform_code in a NIfTI-1 header
CLOSE_ML = 0.2  # of findings in all, for inputs that are the same scan but for rounding


@dataclass(frozen=True)
class Case:
    """One input: what is typed after `uad`, the exit code, what stderr must say, and whose findings it must have."""

    line: str
    name: str
    typed: Sequence[str | Path]
    code: int
    says: str = ""
    like: str = ""
    check: Callable[[dict[str, Any]], bool] = lambda content: True


class Maker:
    """Writes scans into a folder."""

    def __init__(self, folder: Path, data: Path | None) -> None:
        self.folder, self.data = folder, data
        image = nib.load(EXAMPLE)
        self.head, self.affine = np.asarray(image.dataobj, dtype=np.float64), image.affine
        scan = read_scan(EXAMPLE)
        inside = skullstrip.extract(levelled(scan.volume), "atlas").mask
        self.inside = from_canonical(inside.astype(np.uint8), scan.orientation) > 0
        self.brain = np.where(self.inside, self.head, 0)

    def millilitres(self, inside: np.ndarray) -> float:
        """The volume of some voxels."""
        return float(inside.sum() * np.prod(spacing(self.affine)) / 1e3)

    def path(self, name: str) -> Path:
        made = self.folder / name
        made.parent.mkdir(parents=True, exist_ok=True)
        return made

    def save(
        self, name: str, data: np.ndarray, dtype: Any = np.float32, affine: np.ndarray | None = None, **header: Any
    ) -> Path:
        """A NIfTI-1 file; `header`: fields to set, `slope` and `inter` of the scaling, `kind` of the image."""
        kind, scaling = header.pop("kind", nib.Nifti1Image), (header.pop("slope", 1), header.pop("inter", 0))
        order = header.pop("order", "<")
        affine = self.affine if affine is None else affine
        image = kind(np.asarray(data, dtype=np.dtype(dtype)), affine, kind.header_class(endianness=order))
        image.header.set_data_dtype(np.dtype(dtype))
        image.header["xyzt_units"] = 2
        if hasattr(image, "set_sform"):
            image.set_sform(affine, 1)
            image.set_qform(affine, 1)
        image.header.set_slope_inter(*scaling)
        for key, value in header.items():
            image.header[key] = value
        made = self.path(name)
        image.to_filename(made)
        codes = [header[key] for key in ("qform_code", "sform_code") if key in header]
        if codes:  # which nibabel would not leave at 0
            content = bytearray(gzip.decompress(made.read_bytes()))
            content[CODES : CODES + 2 * len(codes)] = np.array(codes, "<i2").tobytes()
            made.write_bytes(gzip.compress(content))
        return made


def detect(scan: Path, *more: str | Path) -> tuple[str | Path, ...]:
    """What is typed for one scan; results next to it, from one noise level, which is quicker, unless `more` says."""
    quick = scan.parents[1] / "quick.toml"
    quick.write_text("[reconstruction]\nlevels = [500]\n")
    given = () if "--config" in more else ("--config", quick)
    made = scan.parent / "out" / f"{scan.name.split('.')[0]}_map.nii.gz"
    return ("detect", scan, "-o", made, "--overwrite", *given, *more)


def intensities(m: Maker) -> Iterator[Case]:
    """Line 1: the same scan on other scales, in other types, with other backgrounds."""
    head, brain, inside = m.head, m.brain, m.inside
    z = (brain - brain[inside].mean()) / brain[inside].std()
    yield Case("1", "whole head", detect(m.save("i/head_FLAIR.nii.gz", head, np.int16), *QUICK), 0)
    yield Case("1", "stripped", detect(m.save("i/brain_FLAIR.nii.gz", brain, np.int16), *BRAIN), 0)
    for name, data, dtype, header in (
        ("times 1e-9", head * 1e-9, np.float32, {}),
        ("times 1e12, minus 1e15", head * 1e12 - 1e15, np.float64, {}),
        ("minus 1024 (as CT software stores)", head - 1024, np.int16, {}),
        ("uint16 from 30000 on", head + 30000, np.uint16, {}),
        ("int16 from -32768 on", head - 32768, np.int16, {}),
        ("int32 with slope 1e-4 and intercept -7", head, np.int32, {"slope": 1e-4, "inter": -7}),
        ("float64, big-endian", head, np.float64, {"order": ">"}),
        ("int16, big-endian", head, np.int16, {"order": ">"}),
    ):
        like = "whole head"
        yield Case(
            "1",
            f"head, {name}",
            detect(m.save(f"i/{_plain(name)}_FLAIR.nii.gz", data, dtype, **header), *QUICK),
            0,
            like=like,
        )
    for name, data in (
        ("z-scored, background 0", np.where(inside, z, 0)),
        ("z-scored, background below", np.where(inside, z, z[inside].min() - 1)),
        ("z-scored, background NaN", np.where(inside, z, np.nan)),
        ("from 0 to 1", brain / brain.max()),
        ("minus 5000, all negative", brain - 5000),
        ("minus its mean, background too", brain - brain[inside].mean()),
        ("times 1e-9", brain * 1e-9),
        ("times 1e12", brain * 1e12),
        ("background -1024", np.where(inside, brain, -1024)),
        ("background above the brain (4095)", np.where(inside, brain, 4095)),
    ):
        yield Case(
            "1",
            f"stripped, {name}",
            detect(m.save(f"i/{_plain(name)}_brain_FLAIR.nii.gz", data), *BRAIN),
            0,
            like="stripped",
        )


def names(m: Maker) -> Iterator[Case]:
    """Line 2: names that contradict the image, or say that no model covers it."""
    for name in ("sub-01_T2w", "sub-01_acq-flair_T1w", "AX_T1_FLAIR", "sub-01_T1w"):
        scan = m.save(f"n/{name}.nii.gz", m.brain, np.int16)
        yield Case(
            "2",
            f"FLAIR named {name}",
            detect(scan, *BRAIN, *STRICT),
            7,
            "the file name says T., the image looks like|contrast:",
        )
    for name in ("AX_T2_star", "SWI_Images", "sub-01_T2starw", "ep2d_bold", "T1_Map"):
        scan = m.save(f"n/{name}.nii.gz", m.brain, np.int16)
        yield Case(
            "2", f"named {name}", detect(scan, *BRAIN, *STRICT), 7, "not one that a model covers: the file name says"
        )
    for name in ("sub-01_space-T1w_FLAIR", "Ax T2 FLAIR", "t2_tirm_tra_dark-fluid", "scan"):
        scan = m.save(f"n/{name}.nii.gz", m.brain, np.int16)
        yield Case("2", f"named {name}", detect(scan, *BRAIN), 0, like="stripped")


def air(m: Maker) -> Iterator[Case]:
    """Line 3: whole heads whose air is 0, and the user's word against the guess."""
    solid = skullstrip.fill(ndimage.binary_opening(m.head > 0.08 * np.percentile(m.head, 99)))
    scan = m.save("a/air_FLAIR.nii.gz", np.where(solid, m.head, 0), np.int16)
    yield Case("3", "head with air 0", detect(scan), 0, check=lambda c: c["strip"].startswith("hd-bet"))
    yield Case(
        "3",
        "head with air 0, --strip none",
        detect(scan, *BRAIN),
        0,
        check=lambda c: "does not look stripped" in c["strip"],
    )
    brain = m.save("a/brain_FLAIR.nii.gz", m.brain, np.int16)
    yield Case(
        "3",
        "stripped, --strip auto",
        detect(brain),
        0,
        like="stripped",
        check=lambda c: c["strip"] == "already stripped",
    )
    yield Case(
        "3",
        "stripped, --strip hd-bet",
        detect(brain, "--strip", "hd-bet"),
        0,
        check=lambda c: "looks stripped already" in c["strip"],
    )


def other_images(m: Maker) -> Iterator[Case]:
    """Line 4: images that are no T1w, T2w or FLAIR scan and are refused."""
    rng, shape = np.random.default_rng(0), m.head.shape
    solid = skullstrip.fill(ndimage.binary_opening(m.head > 0.08 * np.percentile(m.head, 99)))
    level = m.head / np.percentile(m.head, 99)
    bone = (level < 0.25) & solid
    ct = np.where(~solid, -1000, np.where(bone, 900, 38 - 6 * level)) + rng.normal(0, 6, shape)
    for name, data, dtype in (
        ("CT", ct, np.int16),
        ("CT plus 1024", np.clip(ct + 1024, 0, None), np.uint16),
        ("CT from 0 to 1", (ct + 1000) / 3000, np.float32),
        ("CT windowed to 0..80", np.clip(ct, 0, 80), np.uint8),
    ):
        yield Case(
            "4",
            name,
            detect(m.save(f"o/{_plain(name)}_T1w.nii.gz", data, dtype), *QUICK),
            3,
            "as a CT" if "windowed" in name else "is a CT",
        )
    tissue = np.where(
        m.inside, 1 + np.searchsorted(np.percentile(m.brain[m.inside], [25, 60]), ndimage.median_filter(m.brain, 3)), 0
    )
    blocks = np.where(m.inside, 1000 + _blocks(shape, 12), 0)
    soft = np.clip(ndimage.gaussian_filter(m.inside.astype(float), (4, 4, 1)), 0, 1)
    for name, data, dtype in (
        ("brain mask", m.inside, np.uint8),
        ("brain mask, float", m.inside, np.float32),
        ("brain mask of 0 and 255", 255 * m.inside, np.uint8),
        ("three tissues", tissue, np.int16),
        ("three tissues, float", tissue, np.float32),
        ("many labels", blocks, np.int32),
        ("many labels, float64", blocks, np.float64),
        ("probability map", soft, np.float32),
        ("probability map in bytes", np.round(255 * soft), np.uint8),
    ):
        yield Case(
            "4", name, detect(m.save(f"o/{_plain(name)}_FLAIR.nii.gz", data, dtype), *QUICK), 3, "label map or a mask"
        )
    uni = np.where(solid, 400 + 3200 * np.clip(level, 0, 1), rng.uniform(0, 4095, shape))
    scan = m.save("o/UNI_T1w.nii.gz", uni, np.int16)
    yield Case("4", "noise around the head (MP2RAGE UNI)", detect(scan, *QUICK), 3, "noise as bright as the head")
    scan = m.save("o/UNI_half.nii.gz", uni / 4095 - 0.5, np.float32)
    yield Case("4", "the same from -0.5 to 0.5", detect(scan, *QUICK), 3, "noise as bright as the head")
    yield Case(
        "4", "noise alone", detect(m.save("o/noise_T1w.nii.gz", rng.normal(0, 1, shape)), *QUICK), 3, "noise as bright"
    )
    rgb = np.zeros(shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["R"] = np.clip(255 * level, 0, 255)
    yield Case("4", "colour", detect(m.save("o/rgb_T1w.nii.gz", rgb, rgb.dtype), *QUICK), 3, "colour")
    yield Case(
        "4", "complex numbers", detect(m.save("o/complex_T1w.nii.gz", m.head, np.complex64), *QUICK), 3, "complex"
    )
    series = np.stack([m.head] * 3, axis=-1)
    yield Case(
        "4",
        "three volumes in time",
        detect(m.save("o/series_FLAIR.nii.gz", series, np.int16), *QUICK),
        3,
        "contains 3 volumes",
    )
    five = series[..., None, :]
    yield Case(
        "4", "five dimensions", detect(m.save("o/five_FLAIR.nii.gz", five, np.int16), *QUICK), 3, "contains 3 volumes"
    )
    yield Case("4", "volume 3 of 3", detect(m.path("o/series_FLAIR.nii.gz"), "--volume", "3"), 3, "has no volume 3")
    yield Case("4", "one value", detect(m.save("o/one_T1w.nii.gz", np.full(shape, 7), np.int16)), 3, "same value")


def _plain(name: str) -> str:
    return re.sub(r"\W+", "-", name)


def _blocks(shape: tuple[int, ...], side: int) -> np.ndarray:
    """Numbers that are the same within blocks."""
    place = [np.arange(n) // side for n in (shape[0], shape[1], shape[2] * 4)]
    x, y, z = np.meshgrid(place[0], place[1], place[2][::4], indexing="ij")
    return x + 37 * y + 1009 * z


def other_contrasts(m: Maker) -> Iterator[Case]:
    """Line 4: contrasts without a model, made from label maps, under a neutral name."""
    if m.data is None:
        return
    from contrast_statistics import MADE, from_levels

    from uadcli.training.examples.synthetic import label_files, load_labels

    labels = load_labels(label_files(str(m.data / "labelmaps"))[:1], m.folder / "labels")[0]
    more = {"MP2RAGE inversion 1": (0.2, 0.5, 0.7, 1.0, 0.03), "SWI": (1.25, 1.0, 0.75, 0.95, 0.04)}
    for number, (name, levels) in enumerate({**MADE, **more}.items()):
        made = from_levels(labels, levels, 0)
        scan = m.save(f"c/scan{number}.nii.gz", 1000 * made.data / made.data.max(), np.int16, GRID_AFFINE)
        # a stripped T2* scan has lost the level of air by which it differs from T2w: only a warning
        code, says = {"T2*": (0, "by the image alone"), "MP2RAGE inversion 1": (7, "unlike the training")}.get(
            name, (7, "contrast")
        )
        yield Case("4", f"{name}, made from a label map", detect(scan, *STRICT), code, says)


def units(m: Maker) -> Iterator[Case]:
    """Lines 5 and 16: units and voxel sizes."""
    for name, code, scale in (("metres", 1, 1e-3), ("microns", 3, 1e3)):
        for kind, ending in ((nib.Nifti1Image, "NIfTI-1"), (nib.Nifti2Image, "NIfTI-2")):
            affine = m.affine.copy()
            affine[:3] *= scale
            scan = m.save(f"u/{name}_{ending}_FLAIR.nii.gz", m.brain, np.int16, affine, xyzt_units=code + 8, kind=kind)
            yield Case("5", f"in {name}, {ending}", detect(scan, *BRAIN), 0, f"unit is {name}", "stripped")
    for code in (0, 4, 7, 10, 18, 58):
        scan = m.save(f"u/code{code}_FLAIR.nii.gz", m.brain, np.int16, xyzt_units=code)
        yield Case("5", f"unit code {code} (mm or none, and a unit of time)", detect(scan, *BRAIN), 0, like="stripped")
    for name, scale in (
        ("metres said to be mm", 1e-3),
        ("microns said to be mm", 1e3),
        ("cm said to be mm", 0.1),
        ("1e5 mm", 1e5),
    ):
        affine = m.affine.copy()
        affine[:3] *= scale
        yield Case(
            "16",
            name,
            detect(m.save(f"u/{_plain(name)}_FLAIR.nii.gz", m.brain, np.int16, affine)),
            3,
            "too little" if name.startswith("cm") else "plausible",
        )
    for sizes in ((0.04, 0.04, 0.04), (31, 31, 31), (1, 1, 500), (1000, 1000, 1000), (0.2, 0.2, 1)):
        scan = m.save(f"u/{'x'.join(map(str, sizes))}_FLAIR.nii.gz", m.brain, np.int16, np.diag([*sizes, 1.0]))
        yield Case(
            "16",
            f"voxels of {' x '.join(map(str, sizes))} mm",
            detect(scan),
            3,
            "too little" if sizes[0] == 0.2 else "plausible",
        )


def masks(m: Maker) -> Iterator[Case]:
    """Line 6: files given as `--brain-mask`."""
    scan = m.save("m/scan_FLAIR.nii.gz", m.head, np.int16)
    inside = m.inside
    sizes = np.linalg.norm(m.affine[:3, :3], axis=0)
    soft = np.clip(ndimage.gaussian_filter(inside.astype(float), 3 / sizes), 1e-6, 1 - 1e-6)
    signed = ndimage.distance_transform_edt(~inside, sampling=sizes) - ndimage.distance_transform_edt(
        inside, sampling=sizes
    )
    tissue = np.where(
        inside, 1 + np.searchsorted(np.percentile(m.brain[inside], [25, 60]), ndimage.median_filter(m.brain, 3)), 0
    )

    def cut(content: dict[str, Any]) -> bool:
        volume = content["brain_volume_ml"] / m.millilitres(soft >= 0.5)
        return "probabilities, cut at" in content["strip"] and abs(volume - 1) < 0.02

    yield Case("6", "mask", detect(scan, "--brain-mask", m.save("m/mask.nii.gz", inside, np.uint8)), 0)
    for name, data, dtype in (
        ("of 0 and 255", 255 * inside, np.uint8),
        ("float, 0 and 1", inside, np.float64),
        ("three labels", tissue, np.int16),
        ("FreeSurfer labels, float", np.where(tissue > 0, 1000 + tissue * 17, 0), np.float32),
        ("NaN outside", np.where(inside, 1, np.nan), np.float32),
    ):
        file = m.save(f"m/{_plain(name)}.nii.gz", data, dtype)
        yield Case("6", f"mask, {name}", detect(scan, "--brain-mask", file), 0, like="mask")
    for name, data, dtype in (
        ("probabilities above 0 everywhere", soft, np.float32),
        ("probabilities in percent", np.round(100 * soft), np.uint8),
        ("probabilities in bytes", np.round(255 * soft), np.uint8),
    ):
        file = m.save(f"m/{_plain(name)}.nii.gz", data, dtype)
        yield Case("6", f"mask, {name}", detect(scan, "--brain-mask", file), 0, check=cut)
    for name, data, says in (
        ("signed distances, negative inside", signed, "below 0"),
        ("signed distances, positive inside", -signed, "below 0"),
        ("distances inside", np.clip(-signed, 0, None), "distance map"),
        ("log-odds", np.log(soft / (1 - soft)), "below 0"),
        ("the scan itself", m.head, "image|labels"),
        ("empty", 0 * inside, "no voxel|is empty|contains no"),
    ):
        file = m.save(f"m/{_plain(name)}.nii.gz", data)
        yield Case("6", f"mask, {name}", detect(scan, "--brain-mask", file), 3, says)
    shifted = m.affine.copy()
    shifted[:3, 3] += 20
    other = m.save("m/elsewhere.nii.gz", inside, np.uint8, shifted)
    yield Case("6", "mask on another grid", detect(scan, "--brain-mask", other), 3, "grid")


def orientations(m: Maker) -> Iterator[Case]:
    """Line 7: headers that do not say which side is left."""
    sizes = np.linalg.norm(m.affine[:3, :3], axis=0)
    no_sides = {"check": lambda c: all(one["side"] is None for one in c["anomaly"]["components"])}
    analyze = m.path("g/analyze_FLAIR.img")
    image = nib.AnalyzeImage(m.brain.astype(np.int16), None)
    image.header.set_zooms(sizes)
    image.to_filename(analyze)
    yield Case("7", "Analyze", detect(analyze, *BRAIN), 0, "left and right are unknown", **no_sides)
    for name, dtype in (("mgz", np.float32), ("mgh", np.int16)):
        mgh = nib.MGHImage(m.brain.astype(dtype), m.affine)
        mgh.header["goodRASFlag"] = 0
        mgh.to_filename(m.path(f"g/no_orientation_FLAIR.{name}"))
        yield Case(
            "7",
            f"{name} without goodRASFlag",
            detect(m.path(f"g/no_orientation_FLAIR.{name}"), *BRAIN),
            0,
            "unknown",
            **no_sides,
        )
    nib.MGHImage(m.brain.astype(np.float32), m.affine).to_filename(m.path("g/good_FLAIR.mgz"))
    yield Case("7", "mgz with an orientation", detect(m.path("g/good_FLAIR.mgz"), *BRAIN), 0, like="stripped")
    none = m.save("g/codes0_FLAIR.nii.gz", m.brain, np.int16, sform_code=0, qform_code=0)
    yield Case("7", "sform and qform code 0", detect(none, *BRAIN), 0, "left and right are unknown", **no_sides)
    yield Case(
        "7",
        "the same, --geometry trust",
        detect(none, *BRAIN, "--geometry", "trust"),
        0,
        check=lambda c: any(one["side"] for one in c["anomaly"]["components"]),
    )
    mirrored = nib.Nifti1Image(m.brain.astype(np.int16), m.affine)
    mirrored.set_qform(np.diag([-1.0, 1, 1, 1]) @ m.affine, 1)
    mirrored.set_sform(m.affine, 1)
    mirrored.to_filename(m.path("g/mirrored_FLAIR.nii.gz"))
    yield Case(
        "7",
        "sform and qform mirror each other",
        detect(m.path("g/mirrored_FLAIR.nii.gz"), *BRAIN),
        0,
        "disagree about the patient's sides",
        **no_sides,
    )


def files(m: Maker) -> Iterator[Case]:
    """Line 9: files that are not what their names say."""
    good = m.save("f/good_FLAIR.nii.gz", m.brain, np.int16)
    raw = m.save("f/plain_FLAIR.nii", m.brain, np.int16)
    yield Case(
        "9",
        "NIfTI-2",
        detect(m.save("f/nifti2_FLAIR.nii.gz", m.brain, np.int16, kind=nib.Nifti2Image), *BRAIN),
        0,
        like="stripped",
    )
    packed = m.path("f/packed_FLAIR.nii")
    shutil.copy(good, packed)
    yield Case("9", "compressed, named .nii", detect(packed, *BRAIN), 0, "compressed, contrary to its name", "stripped")
    unpacked = m.path("f/unpacked_FLAIR.nii.gz")
    shutil.copy(raw, unpacked)
    yield Case(
        "9", "plain, named .nii.gz", detect(unpacked, *BRAIN), 0, "not compressed, contrary to its name", "stripped"
    )
    middle = m.brain.shape[2] // 2
    for name, data, says in (
        ("one slice, 2-D", m.brain[..., middle], "one slice"),
        ("one slice, X x Y x 1", m.brain[..., middle : middle + 1], "one slice"),
        ("slices in time, X x Y x 1 x N", m.brain[:, :, None, :], "slices as volumes in time"),
        ("one row, 1-D", m.brain[:, 0, 0], "dimension|voxels"),
        ("8 slices", m.brain[..., :8], "At least 16"),
    ):
        yield Case("9", name, detect(m.save(f"f/{_plain(name)}_FLAIR.nii.gz", data, np.int16)), 3, says)
    bent = bytearray(raw.read_bytes())
    for name, value in (("dim[0] = 0", 0), ("dim[0] = 9", 9)):
        bent[40:42] = value.to_bytes(2, "little")
        m.path(f"f/{_plain(name)}.nii").write_bytes(bent)
        yield Case("9", name, detect(m.path(f"f/{_plain(name)}.nii")), 3, "dimensions|damaged")
    page = "<!DOCTYPE html><html><title>Sign in</title></html>"
    for name, content, says in (
        (
            "Git LFS pointer",
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
            "Git LFS pointer",
        ),
        ("git-annex pointer", "/annex/objects/MD5E-s1--00.nii.gz\n", "git-annex pointer"),
        ("HTML page", page, "HTML page"),
        ("HTML page, compressed", gzip.compress(page.encode()), "HTML page"),
        ("JSON", '{"message": "Not Found"}', "JSON"),
        ("XML of a store", "<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"),
        ("empty", b"", "is empty"),
        ("zeros", bytes(10000), "zeros"),
        ("DICOM", bytes(128) + b"DICM" + bytes(500), "DICOM"),
        ("ZIP archive", b"PK\x03\x04" + bytes(100), "ZIP"),
        ("bzip2", b"BZh9" + bytes(100), "bzip2"),
        ("compressed twice", gzip.compress(good.read_bytes()), "compressed twice"),
        ("cut short", good.read_bytes()[:-5000], "cut short"),
        ("header alone", raw.read_bytes()[:352], "cut short"),
        ("random bytes", bytes(range(7, 256)) * 10, "not a readable image"),
    ):
        made = m.path(f"f/{_plain(name)}_FLAIR.nii.gz")
        made.write_bytes(content if isinstance(content, bytes) else content.encode())
        yield Case("9", name, detect(made), 3, says)
    for name, target, says in (
        ("dangling link", "../nowhere.nii.gz", "does not exist"),
        ("link to itself", "loop_FLAIR.nii.gz", "back to itself"),
        ("git-annex link", "../.git/annex/objects/a/b.nii.gz", "git-annex link"),
    ):
        made = m.path("f/loop_FLAIR.nii.gz" if "itself" in name else f"f/{_plain(name)}_FLAIR.nii.gz")
        made.symlink_to(target)
        yield Case("9", name, detect(made), 3, says)
    os.mkfifo(m.path("f/pipe_FLAIR.nii.gz"))
    yield Case("9", "pipe", detect(m.path("f/pipe_FLAIR.nii.gz")), 3, "is a pipe")
    m.path("f/folder_FLAIR.nii.gz").mkdir()
    yield Case("9", "folder", detect(m.path("f/folder_FLAIR.nii.gz")), 3, "is a folder")
    yield Case("9", "no such file", detect(m.path("f/absent_FLAIR.nii.gz")), 3, "no such file")
    yield Case("9", "other suffix", detect(m.path("f/scan.txt")), 3, "no such file|by its name")


def batches(m: Maker) -> Iterator[Case]:
    """Lines 9 and 18: lists of scans, twins, tables."""
    scan = m.save("b/in/scan_FLAIR.nii.gz", m.brain, np.int16)
    plan = ("-o", m.path("b/out"), "--dry-run")
    for name, text, code in (
        ("with a byte-order mark", f"{scan}\n", "utf-8-sig"),
        ("in UTF-16", f"{scan}\r\n", "utf-16"),
        ("in UTF-16, big-endian, no mark", f"{scan}\n", "utf-16-be"),
        ("in quotes", f'"{scan}"\n', "utf-8"),
        ("in single quotes, blanks", f"  '{scan}'  \n", "utf-8"),
        ("with the line ends of Windows", f"{scan}\r\n", "utf-8"),
        ("relative to the list", "in/scan_FLAIR.nii.gz\n", "utf-8"),
    ):
        listed = m.path(f"b/{_plain(name)}.txt")
        listed.write_bytes(text.encode(code))
        yield Case("9", f"list {name}", ("batch", "--list", listed, *plan), 0, r"(?s)\A(?!.*missing).*\"run\"")
    listed = m.path("b/missing.txt")
    listed.write_text(f"{scan}\n/nowhere/x_T1w.nii.gz\n")
    yield Case("9", "list with a path that is not there", ("batch", "--list", listed, *plan), 0, "missing")
    listed = m.path("b/nothing.txt")
    listed.write_text("\n\n")
    yield Case("9", "empty list", ("batch", "--list", listed, *plan), 2, "the list is empty")
    yield Case("9", "list that is not there", ("batch", "--list", m.path("b/absent.txt"), *plan), 3, "cannot be read")
    same = m.path("b/same/T1.nii")
    m.save("b/same/T1.nii", m.brain, np.int16)
    with open(same.with_name("T1.nii.gz"), "wb") as stream, gzip.GzipFile("", "wb", fileobj=stream, mtime=0) as out:
        out.write(same.read_bytes())
    yield Case(
        "9", "T1.nii beside T1.nii.gz, the same content", ("batch", same.parent, *plan), 0, "has the same content as"
    )
    m.save("b/differ/T1.nii", m.brain, np.int16)
    m.save("b/differ/T1.nii.gz", m.brain[::-1], np.int16)
    yield Case(
        "9",
        "T1.nii beside T1.nii.gz, other content",
        ("batch", m.path("b/differ/T1.nii").parent, *plan),
        0,
        "(?s)T1.nii.*T1.nii.gz",
    )


def settings(m: Maker) -> Iterator[Case]:
    """Line 13: settings out of bounds."""
    scan = m.path("s/scan_FLAIR.nii.gz")
    shutil.copy(EXAMPLE, scan)
    for table, text in (
        ("scoring", "min_volume_mm3 = nan"),
        ("scoring", "min_volume_mm3 = inf"),
        ("scoring", "min_volume_mm3 = -1"),
        ("scoring", "erosion = 50"),
        ("scoring", "erosion = -1"),
        ("scoring", "erosion = 2.5"),
        ("scoring", "median = 0"),
        ("scoring", "median = -1"),
        ("scoring", "median = 101"),
        ("reconstruction", "levels = [0]"),
        ("reconstruction", "levels = [1001]"),
        ("reconstruction", "levels = 500"),
        ("reconstruction", "seed = -1"),
        ("reconstruction", "batch_size = 0"),
        ("preprocess", "lower_percentile = -1"),
        ("preprocess", "upper_percentile = 101"),
        ("preprocess", "lower_percentile = 99\nupper_percentile = 1"),
        ("preprocess", "curvature_flow = 1000"),
        ("preprocess", 'strip = "bet"'),
        ("scoring", "min_volume = 3"),
        ("scorings", "median = 3"),
    ):
        config = m.path(f"s/{_plain(text)}.toml")
        config.write_text(f"[{table}]\n{text}\n")
        key = re.split(r"\W", text)[0] if table != "scorings" else "scorings"
        yield Case("13", f"`{table}`: `{text}`".replace("\n", "`, `"), detect(scan, "--config", config), 2, key)
    for option, value in (
        ("--min-volume", "nan"),
        ("--min-volume", "inf"),
        ("--seed", "-1"),
        ("--batch-size", "0"),
        ("--threads", "0"),
        ("--threshold", "nan"),
        ("--threshold", "-1"),
        ("--threshold", "rate:2"),
        ("--stability", "0"),
    ):
        yield Case("13", f"`{option} {value}`", detect(scan, option, value), 2, option.strip("-"))


def shared_cache(m: Maker) -> Iterator[Case]:
    """Line 14: rubbish in a shared cache; other entries stay usable."""
    for name, content in (
        ("model is a list of lists", '[[model]]\nname = ["x"]\n'),
        ('`model = ["x"]`', 'model = ["x"]\n'),
        ("no TOML", "\x00\x01"),
        ("deep nesting", f"x = {'[' * 5000}{']' * 5000}\n"),
        ("a number of 5,000 digits", f"x = {'9' * 5000}\n"),
        ("a folder", None),
    ):
        place = m.path(f"k/{_plain(name)}/weights/x/registry.toml")
        place.mkdir() if content is None else place.write_text(content)
        typed = ("CACHE", m.path(f"k/{_plain(name)}"), "weights", "list")
        yield Case("14", f"`uad weights list`, registry: {name}", typed, 0, r"/x/registry\.toml: .*Remove the folder")


def streams(m: Maker) -> Iterator[Case]:
    """Line 9: closed standard streams."""
    scan = m.save("t/scan_FLAIR.nii.gz", m.brain, np.int16)
    for name, ending in (
        ("2>&-", "2>&-"),
        (">&-", ">&-"),
        ("<&- >&- 2>&-", "<&- >&- 2>&-"),
        ("| head -1", "2>&1 | head -1"),
        ("| true", "| true"),
    ):
        yield Case("9", f"`uad detect ... {name}`", ("SHELL", ending, *detect(scan, *BRAIN)), 0, like="stripped")


PARTS: tuple[Callable[[Maker], Iterator[Case]], ...] = (
    intensities,
    names,
    air,
    other_images,
    other_contrasts,
    units,
    masks,
    orientations,
    files,
    batches,
    settings,
    shared_cache,
    streams,
)


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, what it printed to stderr, and the sidecar if there is one."""

    code: int
    said: str
    sidecar: dict[str, Any] | None
    printed: str = ""


def run(case: Case) -> Ended:
    """Run `uad` in this process, or in a shell if standard streams are part of the case."""
    typed = [str(one) for one in case.typed]
    environment, ending = dict(os.environ), ""
    if typed[0] == "CACHE":
        environment["UAD_CACHE"], typed = typed[1], typed[2:]
    if typed[0] == "SHELL":
        ending, typed = typed[1], typed[2:]
    made = Path(typed[typed.index("-o") + 1]) if typed[0] == "detect" else None
    sidecar = made.with_name(made.name.removesuffix(".nii.gz") + ".json") if made else None
    if made:
        shutil.rmtree(made.parent, ignore_errors=True)  # of a case before
    if ending or environment != dict(os.environ):
        command = " ".join(f"'{one}'" for one in [sys.executable, "-m", "uadcli", *typed])
        ended = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {command} {ending}"],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        code, said, printed = ended.returncode, ended.stderr, ended.stdout
    else:
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = uad(typed)
        said, printed = (stream.buffer.getvalue().decode() for stream in (err, out))  # type: ignore[attr-defined]
    content = json.loads(sidecar.read_text()) if sidecar and sidecar.exists() else None
    return Ended(code, said, content, printed)


def faults(case: Case, ended: Ended, seen: dict[str, dict[str, Any]]) -> list[str]:
    """What is not as it should be."""
    found = []
    text = ended.said + ended.printed
    if ended.code != case.code:
        found.append(f"exit {ended.code}, not {case.code}")
    if case.says and not re.search(case.says, text):
        found.append(f"does not say {case.says!r}")
    if "Traceback" in text or "this is a bug" in text:
        found.append("is a bug")
    if case.typed[0] == "detect" and case.code == 3:
        scan = Path(case.typed[1]).name
        given = Path(case.typed[case.typed.index("--brain-mask") + 1]).name if "--brain-mask" in case.typed else scan
        errors = [line for line in ended.said.splitlines() if line.startswith("error: ")]
        if len(errors) != 1 or not (scan in errors[0] or given in errors[0]):
            found.append("not one line that names the file")
        if ended.sidecar is not None:
            found.append("left a sidecar")
    if ended.sidecar is not None:
        found += ["another finding or decision"] if not case.check(ended.sidecar) else []
        if case.like and (other := seen.get(case.like)) and not same(ended.sidecar, other):
            found.append(f"other findings than {case.like}: {findings(other)}")
        if re.search(r"(^| |=)/", ended.sidecar["command"] or ""):
            found.append("an absolute path in the sidecar's command")
    elif case.code in (0, 7) and case.typed[0] in ("detect", "SHELL"):
        found.append("no sidecar")
    return found


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two sidecars have the same findings, but for rounding of the intensities."""
    first, second = (c["anomaly"] for c in (one, other))
    if len(first["components"]) != len(second["components"]):
        return False
    return (
        abs(first["volume_ml"] - second["volume_ml"]) <= CLOSE_ML
        and one["contrast"]["value"] == other["contrast"]["value"]
    )


def findings(content: dict[str, Any]) -> str:
    """The findings of a sidecar in words, and the verdict of quality control."""
    found = content["anomaly"]
    return f"{len(found['components'])} findings, {found['volume_ml']:.2f} ml; QC {content['qc']['verdict']}"


def in_short(case: Case, ended: Ended, folder: Path) -> str:
    """What a row says: the error, or findings and warnings."""
    text = ended.said.replace(f"{folder}/", "")
    lines = [line.strip() for line in text.splitlines() if line.startswith(("error: ", "warning: "))]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    notes = [line.removeprefix("warning: ") for line in lines if line.startswith("warning: ")]
    if errors:
        return re.sub(r"^\S*?: ", "", errors[0])
    if case.typed[0] == "CACHE":
        return next((line for line in ended.printed.splitlines() if "imported" in line), "").replace(f"{folder}/", "")
    if case.typed[0] == "batch":
        plan = [json.loads(line) for line in ended.printed.splitlines()]
        steps = [
            f"{Path(one['scan']).name} to {Path(one['map']).name}: {one['action']}, {one['reason']}" for one in plan
        ]
        return "; ".join([*steps, *(line for line in text.splitlines() if " has the same content as " in line)])
    parts = [findings(ended.sidecar)] if ended.sidecar else []
    return "; ".join([*parts, *notes]) or " ".join(ended.printed.replace(f"{folder}/", "").split())[:160]


@dataclass(frozen=True)
class Row:
    """What came of a case, and what is wrong with that."""

    case: Case
    code: int
    said: str
    wrong: list[str]

    @property
    def kind(self) -> tuple[str, int, str, str]:
        """What rows have in common that the table joins: line, exit code, and the message or the findings."""
        same = self.case.says if self.code not in (0, 7) else self.said
        return self.case.line, self.code, same, "; ".join(self.wrong)


def rows(parts: Sequence[Callable[[Maker], Iterator[Case]]], given: argparse.Namespace) -> Iterator[Row]:
    """Run every case that is asked for."""
    with tempfile.TemporaryDirectory() as name:
        folder, seen = Path(name).resolve(), dict[str, dict[str, Any]]()
        maker = Maker(folder, given.data)
        for part in parts:
            for case in part(maker):
                long = case.code not in (2, 3) and case.typed[0] in ("detect", "SHELL")
                if (given.lines and case.line not in given.lines) or (given.quick and long):
                    continue
                ended = run(case)
                wrong = faults(case, ended, seen)
                if ended.sidecar and case.name in ("whole head", "stripped", "mask"):
                    seen[case.name] = ended.sidecar
                yield Row(case, ended.code, in_short(case, ended, folder), wrong)


def table(found: Sequence[Row]) -> Iterator[str]:
    """The rows as Markdown; those of one kind in one row, with the message of the first."""
    for kind in dict.fromkeys(row.kind for row in found):
        alike = [row for row in found if row.kind == kind]
        names, first = "; ".join(row.case.name for row in alike), alike[0]
        wrong = f" **{'; '.join(first.wrong)}**" if first.wrong else ""
        said = f"{first.said}{wrong}".replace("|", "\\|")
        yield f"| {first.case.line} | {names} | {first.code} | {said} |"


def main() -> int:
    """Print the table; 1 if a row is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--lines", nargs="+", default=[])
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    found = []
    for row in rows(PARTS, given):
        found.append(row)
        if row.wrong:
            print(f"{row.case.line}, {row.case.name}: {'; '.join(row.wrong)}", file=sys.stderr, flush=True)
    print("| line | input | exit code | message or findings |\n|---|---|---|---|")
    for line in table(found):
        print(line)
    return int(any(row.wrong for row in found))


if __name__ == "__main__":
    sys.exit(main())
