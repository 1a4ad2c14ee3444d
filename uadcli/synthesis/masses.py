"""Masses and spots of varied shape, texture, sign and edge, and lesions of a given shape.

The variety follows the idea of DISYRE (Naval Marimont et al.): nothing is fitted to real lesions, and no lesion shape
of a data set is used unless one is given (`paste_shape`). Lengths are in voxels of 2 mm.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uadcli import contrasts
from uadcli.arrays import Array, Mask
from uadcli.synthesis.random_fields import Random, log_uniform, rotation, smooth_noise
from uadcli.synthesis.tissue import VISIBLE

MASS_AXIS, SMALL_AXIS = (3.0, 20.0), (0.8, 3.5)  # longest half-axis


def _pushed(old: Array, offset: NDArray[np.float64], axis: float, rng: Random) -> Array:
    """Tissue displaced outwards from the centre of a mass; `offset` (3, ...) are the voxels' offsets from it."""
    near = np.exp(-(offset**2).sum(axis=0) / axis**2)
    source = offset * (1 - rng.uniform(0.1, 0.45) * near)
    place = source - offset[:, :1, :1, :1]  # the box begins at the first voxel's offset
    return np.asarray(ndimage.map_coordinates(old, place, order=1, mode="nearest"), dtype=np.float32)


def _foreign_texture(old: Array, inside: Mask, rng: Random) -> Array:
    """The texture of the flipped box: structure and grain of tissue in the wrong place."""
    axes = tuple(axis for axis in range(3) if rng.random() < 0.5) or (0,)
    turned, valid = np.flip(old, axes), np.flip(inside, axes) & inside
    mean = float(turned[valid].mean()) if valid.any() else 0.0
    return np.where(valid, turned - mean, 0).astype(np.float32)


@dataclass(frozen=True)
class _Form:
    """The place of a lesion: a box of the volume, its weight there (0 to 1), and distances from its centre.

    `distance` is 0 at the centre and 1 at the rim, `bend` a smooth field on the scale of the lesion, `axis` the
    distance from centre to rim (of an ellipsoid, the longest). `tissue` is the volume in the box, perhaps displaced by
    the lesion.
    """

    box: tuple[slice, ...]
    tissue: Array
    inside: Mask
    weight: Array
    distance: Array
    bend: Array
    axis: float


def _bend(shape: tuple[int, ...], axis: float, rng: Random) -> Array:
    return smooth_noise(shape, max(2.0, axis * 0.5), rng) + 0.5 * smooth_noise(shape, max(1.5, axis * 0.2), rng)


def _ellipsoid(x: Array, mask: Mask, middle: NDArray[np.int64], axis: float, rng: Random) -> _Form:
    """A distorted ellipsoid around the voxel `middle`, with a border from sharp to diffuse."""
    reach = math.ceil(2.2 * axis) + 2
    box = tuple(slice(max(0, int(m) - reach), int(m) + reach + 1) for m in middle)
    old, inside = x[box], mask[box]
    shape = old.shape
    grid = np.stack(
        np.meshgrid(*(np.arange(s.start, s.start + n) for s, n in zip(box, shape, strict=True)), indexing="ij")
    )
    axes = axis * np.array([1.0, rng.uniform(0.5, 1.0), rng.uniform(0.4, 1.0)])
    offset = (grid - middle[:, None, None, None]).astype(np.float64)
    if axis > 5 and rng.random() < 0.5:
        old = np.where(inside, _pushed(old, offset, axis, rng), old)
    turned = np.tensordot(rotation(rng), offset, 1) / axes[:, None, None, None]
    distance = np.sqrt((turned**2).sum(axis=0)).astype(np.float32)
    bend = _bend(shape, axis, rng)
    form = 1 - distance + rng.uniform(0.05, 0.4) * bend
    edge = min(log_uniform(0.15, 6.0, rng), 0.35 * axis)  # in voxels
    weight = 1 / (1 + np.exp(-np.clip(form * axis / edge, -30, 30)))
    weight = weight * inside * (distance < 2.1)
    return _Form(box, old, inside, weight, distance, bend, axis)


def _given(x: Array, mask: Mask, shape: Array, rng: Random) -> _Form:
    """A lesion with a given shape (X, Y, Z), 0 to 1, at its place."""
    core = shape >= 0.5
    box = tuple(slice(max(0, int(i.min()) - 2), int(i.max()) + 3) for i in np.nonzero(core))
    core = core[box]
    depth = np.where(core, ndimage.distance_transform_edt(core), -ndimage.distance_transform_edt(~core))
    axis = float(depth.max())
    distance = np.maximum(1 - depth / axis, 0).astype(np.float32)
    inside = mask[box]
    return _Form(box, x[box], inside, shape[box] * inside, distance, _bend(core.shape, axis, rng), axis)


def _restricted(form: _Form, by: Array, rng: Random) -> Array:
    """The weight of a lesion in its box; that of half of the lesions is restricted to one tissue of the box `by`."""
    values = by[form.inside & (form.distance < 1.6)]
    if rng.random() >= 0.5 or not len(values):
        return form.weight
    tissue, width = float(rng.choice(values)), rng.uniform(0.1, 0.3)
    return form.weight * np.exp(-(((by - tissue) / width) ** 2) / 2)


def _filled(x: Array, form: _Form, kind: str, rng: Random, by: Array | None = None) -> tuple[Array, Mask]:
    """The volume with a lesion, and the mask where it is visible; see `paste_lesions`.

    `by` is the box of the volume whose tissues restrict it, by default its own.
    """
    old, inside, distance = form.tissue, form.inside, form.distance
    weight = _restricted(form, old if by is None else by, rng)
    sign = 1.0 if rng.random() < contrasts.ALL[kind].bright_lesions else -1.0
    change = sign * rng.uniform(0.08, 0.6)
    core = old[inside & (distance < 0.8)]
    around = float(np.median(core)) if len(core) else 0.5
    keep = rng.uniform(0.0, 0.8)  # how much of the underlying structure remains visible
    new = keep * old + (1 - keep) * around + change
    if rng.random() < 0.5:  # texture of real tissue from another place
        new = new + rng.uniform(0.3, 1.0) * _foreign_texture(old, inside, rng)
    else:
        new = new + rng.uniform(0.3, 1.0) * (old - ndimage.gaussian_filter(old, 1.0))  # keep its own grain
    if form.axis > 4 and rng.random() < 0.45:  # a core of another intensity: necrosis, cyst or bleeding
        form_core = rng.uniform(0.25, 0.85) - distance + rng.uniform(0.0, 0.25) * form.bend
        part = 1 / (1 + np.exp(-np.clip(form_core * form.axis * 2, -30, 30)))
        new = new + part * (rng.uniform(0.0, 1.0) - new)
    new = new + rng.uniform(0.0, 0.2) * smooth_noise(old.shape, log_uniform(1.2, 5.0, rng), rng)
    result, truth = x.copy(), np.zeros(x.shape, dtype=bool)
    result[form.box] = old + weight * (np.clip(new, 0, 1.3) - old)
    ill = weight > 0.5
    if ill.any() and np.median(np.abs(result[form.box] - old)[ill]) > VISIBLE:
        truth[form.box] = ill  # all of it, including a core that happens to look like tissue
    return result, truth


class _Host(NamedTuple):
    """A volume x (X, Y, Z) of the contrast `kind`, its brain mask, the `places` (N, 3) from which centres are drawn,
    and the `guide` of `mass`."""

    x: Array
    mask: Mask
    places: NDArray[np.int64]
    kind: str
    guide: Array | None


def mass(
    x: Array, mask: Mask, places: NDArray[np.int64], kind: str, rng: Random, guide: Array | None = None
) -> tuple[Array, Mask]:
    """Paste one or two masses of any size into x (X, Y, Z); returns volume and visible mask.

    Their centres are drawn from `places` (N, 3). That of a mass with a half axis above 5 voxels moves a quarter of the
    way to the mean place, so it need not be one of them, nor in the brain; the mass is cut off at the mask.

    A lesion that is restricted to one tissue finds it by the intensities of x or, if given, of the `guide` (X, Y, Z), a
    volume of the same brain: the same generator and guide give lesions of the same shape in all contrasts.
    """
    return _at_random(_Host(x, mask, places, kind, guide), Sizes(int(rng.integers(1, 3)), MASS_AXIS), rng)


def spots(
    x: Array, mask: Mask, places: NDArray[np.int64], kind: str, rng: Random, guide: Array | None = None
) -> tuple[Array, Mask]:
    """Paste 2 to 15 small lesions of any kind into x (X, Y, Z), at `places` (N, 3); takes and returns as `mass`."""
    return _at_random(_Host(x, mask, places, kind, guide), Sizes(int(rng.integers(2, 16)), SMALL_AXIS), rng)


class Sizes(NamedTuple):
    """The number of lesions, and their shortest and longest half axis in voxels."""

    number: int
    axes: tuple[float, float]


def _at_random(host: _Host, sizes: Sizes, rng: Random) -> tuple[Array, Mask]:
    result, mask, places = host.x, host.mask, host.places
    truth = np.zeros(result.shape, dtype=bool)
    for _ in range(sizes.number):
        middle = places[rng.integers(len(places))]
        axis = log_uniform(*sizes.axes, rng)
        if axis > 5:  # a mass in the middle of tissue more often than on the rim
            middle = (0.75 * middle + 0.25 * places.mean(axis=0)).astype(np.int64)
        by = None
        if host.guide is not None:  # displaced as the volume is
            by = _ellipsoid(host.guide, mask, middle, axis, copy.deepcopy(rng)).tissue
        result, new = _filled(result, _ellipsoid(result, mask, middle, axis, rng), host.kind, rng, by)
        truth |= new
    return result, truth


def paste_shape(x: Array, mask: Mask, shape: Array, kind: str, rng: Random) -> tuple[Array, Mask]:
    """Paste one lesion with a given shape (X, Y, Z), 0 to 1, at its place; returns as `mass`.

    Texture, sign and contrast are drawn as for other masses. A shape below 0.5 everywhere changes nothing.
    """
    if not (shape >= 0.5).any():
        return x, np.zeros(x.shape, dtype=bool)
    return _filled(x, _given(x, mask, shape, rng), kind, rng)
