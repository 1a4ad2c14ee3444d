"""Brain masks: stripped or not, and without holes."""

from __future__ import annotations

import sys

import numpy as np
import phantoms
import pytest
from scipy import ndimage

from uadcli.arrays import Array
from uadcli.imaging import registration, skullstrip, template
from uadcli.imaging.levels import levelled
from uadcli.imaging.volume import Volume
from uadcli.scoring.metrics import dice


def test_a_stripped_brain_is_recognised_and_a_head_is_not() -> None:
    brain, head = levelled(phantoms.brain()), levelled(template.head())
    assert skullstrip.looks_stripped(brain)
    assert not skullstrip.looks_stripped(head)
    assert skullstrip.extract(brain, "auto").method == "already stripped"


def test_torch_is_not_loaded_for_a_brain_that_is_stripped_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of it is an error
    known = skullstrip.Arithmetic(precision="auto")
    assert skullstrip.extract(levelled(phantoms.brain()), "auto", known, stripped=True).method == "already stripped"
    with pytest.raises(ImportError):
        skullstrip.extract(levelled(template.head()), "hd-bet", known, stripped=False)


def _air_set_to_zero(height_mm: float, bright_fat: bool = True) -> Volume:
    """The upper part of the template's head, air exactly 0: the volume of a brain, where little of it is seen."""
    head = template.head()
    solid = ndimage.binary_fill_holes(ndimage.binary_closing(head.data > 25, iterations=3))
    top = int(np.flatnonzero(solid.any(axis=(0, 1))).max())
    data = head.data if bright_fat else np.minimum(head.data, np.where(template.brain_mask(), 255, 20))
    return Volume(np.where(solid, np.maximum(data, 1), 0)[:, :, top - int(height_mm / 2) :], head.affine)


@pytest.mark.parametrize("height_mm", [90, 100, 110, 120, 130])
@pytest.mark.parametrize("bright_fat", [True, False])
def test_a_head_with_zero_air_is_not_taken_for_stripped(height_mm: float, bright_fat: bool) -> None:
    head = levelled(_air_set_to_zero(height_mm, bright_fat))
    assert head.constant
    assert not skullstrip.looks_stripped(head)


def test_what_the_user_says_of_stripping_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    brain, head = levelled(phantoms.brain()), levelled(_air_set_to_zero(110))
    half = template.brain_mask() & (np.indices(template.brain_mask().shape)[0] % 2 == 0)
    monkeypatch.setattr(skullstrip, "_hd_bet", lambda volume, device: half[..., : volume.shape[2]])
    monkeypatch.setattr(skullstrip, "_atlas", lambda volume, head: half[..., : volume.shape[2]])
    for method in ("hd-bet", "atlas"):
        found = skullstrip.extract(brain, method)
        assert found.mask.sum() == half.sum()
        assert found.method == f"{method}, though the scan looks stripped already"
        assert skullstrip.extract(head, method).method == method
    assert skullstrip.extract(head, "auto").method == "hd-bet"
    assert skullstrip.extract(brain, "none").method == "none"
    assert skullstrip.extract(head, "none").method == "none, though the scan does not look stripped"


class Sizes:
    """The sizes in voxels of the images that the network has seen."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seen: list[int] = []
        self.predict = skullstrip._predict
        patch.setattr(skullstrip, "_predict", self.noted)

    def noted(self, image: Array, arithmetic: skullstrip.Arithmetic) -> Array:
        self.seen.append(image.size)
        return self.predict(image, arithmetic)


@pytest.fixture(scope="module")
def usual() -> tuple[skullstrip.BrainMask, list[int]]:
    """The template's head stripped by the network in float32, and the sizes that the network has seen."""
    with pytest.MonkeyPatch.context() as patch:
        sizes = Sizes(patch)
        return skullstrip.extract(levelled(template.head()), "hd-bet"), sizes.seen


@pytest.mark.slow
@pytest.mark.xdist_group("hd-bet")  # in one process, so that the head is stripped once
def test_the_mask_in_bfloat16_is_that_in_float32(usual: tuple[skullstrip.BrainMask, list[int]]) -> None:
    exact, _ = usual
    fast = skullstrip.extract(levelled(template.head()), "hd-bet", skullstrip.Arithmetic(precision="bf16"))
    assert (exact.method, fast.method) == ("hd-bet", "hd-bet in bf16")
    assert dice(exact.mask, fast.mask) > 0.998


@pytest.mark.slow
@pytest.mark.xdist_group("hd-bet")
def test_the_network_sees_the_whole_head_but_never_a_whole_field_that_is_too_large(
    usual: tuple[skullstrip.BrainMask, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, seen = usual
    head = template.head()
    assert seen == [head.data.size]
    before = 40, 30, 50  # voxels of 2 mm
    affine = head.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ before
    wide = Volume(np.pad(head.data, [(n, 30) for n in before]), affine)
    sizes = Sizes(monkeypatch)
    large = skullstrip.extract(levelled(wide), "hd-bet").mask
    assert wide.data.size > skullstrip.WHOLE_VOXELS > sizes.seen[0]
    inside = large[tuple(slice(n, n + size) for n, size in zip(before, head.shape, strict=True))]
    assert large.sum() == inside.sum()
    assert dice(whole.mask, inside) > 0.985


@pytest.mark.parametrize("shape", [(20, 30, 7), (5, 5, 1), (1, 4, 3), (9, 9, 9)])
def test_holes_are_those_of_scipy(shape: tuple[int, int, int]) -> None:
    for seed in range(5):
        mask = np.random.default_rng(seed).random(shape) < 0.6
        solid = ndimage.binary_fill_holes(mask)
        expected = np.stack([ndimage.binary_fill_holes(solid[..., z]) for z in range(shape[2])], axis=2)
        np.testing.assert_array_equal(skullstrip.fill(mask), expected)


@pytest.mark.parametrize("widths", [((50, 50), (40, 41), (87, 7)), ((0, 3), (0, 0), (0, 30))])
def test_an_empty_border_does_not_change_what_the_atlas_is_registered_to(
    widths: tuple[tuple[int, int], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 10 mm of zeros around a T2w head, half of its brain was lost."""
    given: list[Volume] = []
    monkeypatch.setattr(registration, "register_affine", lambda moving, *_, **__: given.append(moving) or np.eye(4))
    head = template.head()
    affine = head.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ [start for start, _ in widths]
    box = tuple(slice(a, a + n) for (a, _), n in zip(widths, head.data.shape, strict=True))
    tight, wide = np.maximum(head.data, 1.0), np.pad(np.maximum(head.data, 1.0), widths)
    masks = [skullstrip._atlas(Volume(tight, head.affine), head), skullstrip._atlas(Volume(wide, affine), head)[box]]
    assert np.array_equal(*masks)
    assert np.array_equal(given[0].data, given[1].data)
    assert np.allclose(given[0].affine, given[1].affine)


def test_holes_are_filled_in_every_slice() -> None:
    mask = np.zeros((20, 20, 4), dtype=bool)
    mask[4:16, 4:16] = True
    mask[8:10, 8:10] = False  # open to top and bottom
    assert skullstrip.fill(mask)[9, 9, 0]
