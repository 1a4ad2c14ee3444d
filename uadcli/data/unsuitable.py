"""Refusing files that are certainly not usable MR scans: label maps, CT, negatives, and heads surrounded by noise.

All measures are invariant to an increasing linear map of the intensities. `packaging/evaluation/contrast_statistics.py`
prints them for real scans.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uadcli import contrasts
from uadcli.arrays import Array
from uadcli.errors import InputError
from uadcli.imaging.geometry import spacing
from uadcli.imaging.volume import Volume

PLATEAU_MM = 5.0  # two voxels of a label map this far apart are often in the same structure
# Shares above which a file is refused, each far above every real scan; see the table that the script prints.
PLATEAUS, ONE_TISSUE, NOISE, SATURATED = 0.35, 0.35, 0.35, 0.06
BLOCK, NOISY = 4, 0.1  # voxels along the side of a block; a step of noise, as a share of the intensity range
WINDOW = 0.04  # half the width around the most common intensity, as a share of its distance from air
# The most that this distance counts, as a share of the range of what is not empty: a constant background far below the
# tissue (-1024 around a stripped brain) is not air. In CT, bone keeps the range wide.
FARTHEST = 0.6
BRIGHT_BORDER = 0.5  # of a negative, whose most common intensity is that of air
AT_TOP = 0.995  # of the way from air to the brightest: the most common intensity of a probability map


@dataclass(frozen=True)
class Signs:
    """Shares in 0..1: equal neighbours (`plateaus`), voxels at one intensity (`one_tissue`), blocks of pure `noise`,
    voxels at the highest value (`saturated`); `common` is the most common intensity, from 0 (air) to 1 (the brightest),
    `border` the median of the volume's faces, from 0 (the darkest) to 1.
    """

    plateaus: float
    one_tissue: float
    noise: float
    saturated: float = 0.0
    common: float = 0.0
    border: float = 0.0


def signs(volume: Volume) -> Signs:
    """Measure a volume of any intensities; every sign is 0 if it is empty."""
    data = _from_0_to_1(volume.data)
    empty = _empty(data)
    filled = data[~empty]
    low, high = (float(v) for v in np.percentile(filled, [1, 99.5])) if filled.size else (0.0, 0.0)
    if not high > low:
        return Signs(float(bool(filled.size)), 0.0, 0.0)
    air = min(low, float(data[empty].min())) if empty.any() else low
    tissue = data[~empty & (data > air + 0.25 * (high - air))]
    common = _most_common(tissue)
    distance = min(common - air, FARTHEST * (high - low))
    inside = ~empty & (data > air + 0.1 * (high - air))
    return Signs(
        plateaus=_plateaus(data, inside, spacing(volume.affine)),
        one_tissue=float((np.abs(tissue - common) < WINDOW * distance).mean()),
        noise=_noise(data, NOISY * (high - air)),
        saturated=float((data[inside] >= 1).mean()),
        common=(common - air) / (high - air),
        border=float(np.median(_faces(data))),
    )


def _from_0_to_1(data: Array) -> Array:
    """The data from 0 to 1: a histogram cannot be made of values that lie within a few steps of single precision."""
    low, high = float(data.min()), float(data.max())
    return ((data.astype(np.float64) - low) / ((high - low) or 1.0)).astype(np.float32)


def _empty(data: Array) -> NDArray[np.bool_]:
    """The voxels with the constant value, such as 0, that most of the border has."""
    faces = _faces(data)
    values, counts = np.unique(faces, return_counts=True)
    return (
        np.asarray(data == values[np.argmax(counts)]) if counts.max() > faces.size / 2 else np.zeros(data.shape, bool)
    )


def _faces(data: Array) -> Array:
    """The voxels (N,) of the six faces of a volume."""
    return np.concatenate([np.take(data, end, axis=axis).ravel() for axis in range(3) for end in (0, -1)])


def refuse(volume: Volume, path: Path, *, masked: bool = False) -> None:
    """Raises `InputError` for a label map, a CT, a negative, and for a head in noise unless its brain mask is given
    (`masked`)."""
    found = signs(volume)
    if found.plateaus <= PLATEAUS and found.one_tissue > ONE_TISSUE and found.border > BRIGHT_BORDER:
        what = "is a negative: the air around the head is brighter than the head"
        raise InputError(what, path=path, hint="Correct the sign of its intensities, or the slope in its header.")
    if found.plateaus > PLATEAUS or (found.one_tissue > ONE_TISSUE and found.common > AT_TOP):
        raise InputError("is a label map or a mask, not a scan", path=path, hint="Give the scan it belongs to.")
    if found.one_tissue > ONE_TISSUE:
        raise InputError("is a CT, not an MR scan", path=path, hint=f"Give a {contrasts.in_words()} scan.")
    if found.saturated > SATURATED:
        what = (
            f"has {100 * found.saturated:.0f} % of its voxels at the highest value, as a CT shown in a brain window has"
        )
        raise InputError(what, path=path, hint=f"Give a {contrasts.in_words()} scan with all of its intensities.")
    if found.noise > NOISE and not masked:
        raise InputError(
            "has noise as bright as the head around it, as in MP2RAGE UNI images",
            path=path,
            hint="Give the denoised UNI image, set the noise to 0, or give --brain-mask.",
        )


def _plateaus(data: Array, inside: NDArray[np.bool_], sizes: NDArray[np.float64]) -> float:
    """The share of voxels that equal the one `PLATEAU_MM` away, along the two axes with the finest voxels."""
    equal = count = 0
    for axis in np.argsort(sizes)[:2]:
        step = max(1, round(PLATEAU_MM / float(sizes[axis])))
        here, there = (np.moveaxis(data, axis, 0)[part] for part in (slice(None, -step), slice(step, None)))
        both = np.moveaxis(inside, axis, 0)
        both = both[:-step] & both[step:]
        equal += int((here[both] == there[both]).sum())
        count += int(both.sum())
    return equal / count if count else 0.0


def _most_common(values: Array) -> float:
    """The most common of some values; in CT, where soft tissues are nearly equal, many are near it."""
    counts, edges = np.histogram(values.astype(np.float64), bins=400)  # single precision may lack 400 steps
    place = int(np.argmax(np.convolve(counts, np.ones(5), mode="same")))
    return float(edges[place] + edges[place + 1]) / 2


def _noise(data: Array, limit: float) -> float:
    """The share of blocks in which half of the neighbours differ by more than `limit`; at edges, fewer do."""
    steps = np.abs(np.diff(data, axis=0))
    count = [max(n // BLOCK, 1) for n in steps.shape]
    side = [min(BLOCK, n) for n in steps.shape]
    cut = steps[tuple(slice(n * m) for n, m in zip(count, side, strict=True))]
    x, y, z = count
    blocks = cut.reshape(x, side[0], y, side[1], z, side[2]).transpose(0, 2, 4, 1, 3, 5).reshape(x * y * z, -1)
    return float((np.median(blocks, axis=1) > limit).mean())
