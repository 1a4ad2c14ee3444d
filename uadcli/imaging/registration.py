"""Registration with ANTs (the only module that imports it), and how well two registered brains agree."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli import device, streams
from uadcli.arrays import Affine, Array, Mask
from uadcli.errors import InputError
from uadcli.imaging.geometry import RAS_TO_LPS, resample, scaled_grid, spacing
from uadcli.imaging.volume import Volume
from uadcli.running.deferred import deferred
from uadcli.running.temporary import temporary_folder

SEED = 42
FINEST = 100  # iterations at the finest resolution, at most
RIM, STRONG, TINY = 3, 3.0, 1e-9  # of `gradient_agreement`: voxels, times the median length, and what counts as none
# Parts of ANTs that nothing here uses. They import statsmodels, scikit-learn and matplotlib: four fifths of the time.
UNUSED = ("ants.learn", "ants.deeplearn", "ants.plotting", "ants.contrib", "ants.math.quantile")


def register_affine(moving: Volume, fixed: Volume, *, step_mm: float = 3.0, finest: int = FINEST) -> Affine:
    """Affine registration by mutual information; returns the 4x4 map from fixed world points to moving ones, RAS+ mm.

    Both volumes are resampled to `step_mm` first (if finer); `finest` limits the iterations at that resolution. The
    result is bit-identical on one machine: ANTs runs on one thread with a fixed seed. Raises `InputError` if ANTs finds
    no transform.
    """
    return _registered(moving, fixed, "Affine", step_mm, finest)


def register_rigid(moving: Volume, fixed: Volume, *, step_mm: float = 3.0) -> Affine:
    """The same by a rotation and a shift alone, for two scans of one head."""
    found = _registered(moving, fixed, "Rigid", step_mm)
    return nearest_rigid(found, np.zeros(3))


def nearest_rigid(affine: Affine, centre: NDArray[np.float64]) -> Affine:
    """The rotation and shift nearest to an affine (4x4), which maps the point `centre` (3,) as the affine does."""
    u, _, vt = np.linalg.svd(affine[:3, :3])
    result = np.eye(4)
    result[:3, :3] = u @ vt
    result[:3, 3] = affine[:3, :3] @ centre + affine[:3, 3] - result[:3, :3] @ centre
    return result


def _registered(moving: Volume, fixed: Volume, kind: str, step_mm: float, finest: int = FINEST) -> Affine:
    fixed, moving = (Volume(v.data, steady(v.affine)) for v in (fixed, moving))
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"  # ANTs is reproducible only on one thread
    with device.no_socket_probe(), deferred("ants", UNUSED):
        import ants

    ants.config.set_ants_deterministic(True, SEED)
    with temporary_folder() as folder:
        try:
            with streams.mute_libraries():
                result = ants.registration(
                    _ants_image(coarsen(fixed, step_mm)),
                    _ants_image(coarsen(moving, step_mm)),
                    type_of_transform=kind,
                    outprefix=str(folder / "affine_"),
                    aff_iterations=(500, 250, finest),
                    aff_shrink_factors=(4, 2, 1),
                    aff_smoothing_sigmas=(2, 1, 0),
                )
        except MemoryError:
            raise
        except Exception as error:  # ANTs raises RuntimeError, ValueError and its own kinds alike
            target = "the template" if kind == "Affine" else "the patient's first scan"
            raise InputError(f"registration to {target} failed", hint="Check the scan's orientation.") from error
        return _world_map(ants.read_transform(result["fwdtransforms"][0]))


def steady(affine: Affine) -> Affine:
    """An affine rounded to steps far below a voxel (0.0001 for directions times spacing, 0.01 mm for the origin).

    Headers have single precision, so the same scan with its axes in another order differs in the last bits, which an
    optimiser that samples at random would turn into another optimum.
    """
    result = np.round(affine, 4)
    result[:3, 3] = np.round(affine[:3, 3], 2)
    return result


def _world_map(transform: Any) -> Affine:
    """An ITK affine, y = A (x - c) + c + t in LPS+, as a 4x4 matrix in RAS+."""
    parameters = np.array(transform.parameters, dtype=np.float64)
    if len(parameters) != 12:
        raise TypeError(f"an affine has 12 parameters, {transform.transform_type} has {len(parameters)}")
    centre = np.array(transform.fixed_parameters, dtype=np.float64)
    matrix = np.eye(4)
    matrix[:3, :3] = parameters[:9].reshape(3, 3)
    matrix[:3, 3] = parameters[9:] + centre - matrix[:3, :3] @ centre
    return RAS_TO_LPS @ matrix @ RAS_TO_LPS


def _ants_image(volume: Volume) -> object:
    import ants

    lps = RAS_TO_LPS @ volume.affine
    size = spacing(lps)
    return ants.from_numpy(
        np.ascontiguousarray(volume.data, dtype=np.float32),
        origin=lps[:3, 3].tolist(),
        spacing=size.tolist(),
        direction=lps[:3, :3] / size,
    )


def coarsen(volume: Volume, step_mm: float) -> Volume:
    """Resample to voxels of at least `step_mm` along each axis, keeping the field of view and the directions."""
    size = spacing(volume.affine)
    factor = np.maximum(step_mm / size, 1.0)
    if np.allclose(factor, 1.0, atol=0.05):
        return volume
    shape = tuple(int(n) for n in np.maximum(np.ceil(np.array(volume.shape) / factor), 1))
    affine = scaled_grid(volume.affine, factor)
    return Volume(resample(volume.data, volume.affine, shape, affine, antialias=True), affine)  # type: ignore[arg-type]


def robust_range(data: Array, inside: NDArray[np.bool_] | None = None) -> Array:
    """Clip a volume (X, Y, Z) at the 0.5 and 99.5 percentiles of `inside`, a mask of its shape; None: voxels above 0.

    Bright vessels would mislead the registration.
    """
    values = data[inside] if inside is not None else data[data > 0]
    low, high = np.percentile(values, [0.5, 99.5])
    return np.clip(data, min(low, 0.0), high).astype(np.float32)


def similarity(registered: Array, template: Array, mask: NDArray[np.bool_], bins: int = 32) -> float | None:
    """Correlation ratio in [0, 1] of a registered scan given the template, (X, Y, Z), in `mask` (Roche et al. 1998).

    The part of the scan's variance that the template's intensity explains; blind to which tissue is bright. None if
    there are fewer voxels than `bins`, or all have one value.
    """
    x, y = registered[mask].astype(float), template[mask].astype(float)
    if len(x) < bins or x.std() == 0:
        return None
    edges = np.quantile(y, np.linspace(0, 1, bins + 1)[1:-1])
    group = np.searchsorted(edges, y)
    count = np.maximum(np.bincount(group, minlength=bins), 1)
    mean = np.bincount(group, x, bins) / count
    within = np.bincount(group, x**2, bins).sum() - (count * mean**2).sum()
    return float(np.clip(1 - within / (len(x) * x.var()), 0, 1))


def gradient_agreement(one: Array, other: Array, mask: Mask) -> float | None:
    """How well the edges of two registered volumes (X, Y, Z) run along each other inside `mask`, in [0, 1].

    The mean of the squared cosine between their gradients, which does not depend on which tissue is bright in which
    contrast (normalised gradient fields, Haber and Modersitzki 2006); strong edges of both weigh more, up to a limit. A
    third is chance. The rim of the mask does not count, because all brains have it. None without voxels inside the rim,
    or without edges of both volumes there.
    """
    from scipy import ndimage

    inner = ndimage.binary_erosion(mask, iterations=RIM)
    if not inner.any():
        return None
    a, b = _gradient(one, mask, inner), _gradient(other, mask, inner)
    lengths = [np.linalg.norm(part, axis=0) for part in (a, b)]
    weight = np.prod([np.minimum(x / max(float(np.median(x)), TINY), STRONG) for x in lengths], axis=0)
    cosine = (a * b).sum(axis=0) / np.maximum(lengths[0] * lengths[1], TINY)
    total = float(weight.sum())
    return float((weight * cosine**2).sum() / total) if total > 0 else None


def _gradient(data: Array, mask: Mask, inner: Mask) -> Array:
    """The gradient (3, N) of a volume at the voxels of `inner`, of a Gaussian of one voxel; the median is around it."""
    from scipy import ndimage

    filled = np.where(mask, data, np.median(data[mask])).astype(np.float64)
    axes = [ndimage.gaussian_filter(filled, 1.0, order=[int(axis == n) for n in range(3)]) for axis in range(3)]
    return np.stack([part[inner] for part in axes])
