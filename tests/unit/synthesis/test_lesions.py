"""Synthetic lesions and synthetic contrasts: the truth is exact, the rest is healthy."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from uadcli.synthesis import masses, tissue
from uadcli.synthesis.anatomy import Anatomy
from uadcli.synthesis.brains import CORTEX, CSF, WHITE, brain_of, from_labels, tissue_intensities
from uadcli.synthesis.lesions import ANYWHERE, IN_TISSUE, SHARES, Brain, paste_kind, paste_lesions, paste_together
from uadcli.synthesis.random_fields import smooth_noise
from uadcli.synthesis.scanner import bias_field, degrade, thick_slices, uneven_contrast, with_rim
from uadcli.synthesis.tissue import VISIBLE


def brain() -> tuple[np.ndarray, np.ndarray]:
    x, y, z = np.indices((60, 70, 50))
    distance = ((x - 30) / 26) ** 2 + ((y - 35) / 31) ** 2 + ((z - 25) / 21) ** 2
    mask = distance < 1
    return np.where(mask, np.where(distance < 0.6, 0.7, 0.5), 0).astype(np.float32), mask


@pytest.mark.parametrize("kind", ["T1w", "T2w", "FLAIR"])
def test_lesions_are_inside_the_brain_and_visible(kind: str) -> None:
    x, mask = brain()
    sizes, darkest, brightest = [], 0.0, 0.0
    for seed in range(24):
        pasted, truth = paste_lesions(x, mask, kind, np.random.default_rng(seed))
        change = pasted - x
        assert not change[~mask].any()
        assert not truth[~mask].any()
        assert not truth.any() or np.median(np.abs(change[truth])) > 0.8 * VISIBLE
        far = ndimage.distance_transform_edt(~truth) > 45 if truth.any() else np.zeros_like(mask)
        assert not (np.abs(change[far]) > 0.5).any()
        assert np.isfinite(pasted).all()
        sizes.append(int(truth.sum()))
        if truth.any():
            darkest, brightest = min(darkest, change[truth].min()), max(brightest, change[truth].max())
    assert 0 in sizes
    assert max(sizes) > 20 * np.quantile(sizes, 0.25) > 0
    assert darkest < -0.1
    assert brightest > 0.1


def test_lesions_are_the_same_for_the_same_seed_and_begin_where_they_may() -> None:
    x, mask = brain()
    allowed = np.zeros_like(mask)
    allowed[:, :, 20:24] = True
    for seed in range(12):
        one, truth = paste_lesions(x, mask, "FLAIR", np.random.default_rng(seed), allowed)
        two, _ = paste_lesions(x, mask, "FLAIR", np.random.default_rng(seed), allowed)
        assert np.array_equal(one, two)
        assert not truth.any() or truth[:, :, 15:30].any()
    nothing, truth = paste_lesions(x, mask, "FLAIR", np.random.default_rng(1), np.zeros_like(mask))
    assert nothing is x
    assert not truth.any()


def test_degrading_keeps_the_order_of_tissues_and_moves_the_edge_of_the_mask_a_little() -> None:
    x, mask = brain()
    inner, outer = mask & (x > 0.6), mask & (x < 0.6)
    sizes = []
    for seed in range(24):
        worse, other = degrade(x, mask, np.random.default_rng(seed))
        assert not (other & ~ndimage.binary_dilation(mask, ndimage.generate_binary_structure(3, 3), 3)).any()
        assert other.sum() > 0.6 * mask.sum()
        assert not worse[~other].any()
        assert np.median(worse[inner & other]) > np.median(worse[outer & other])
        sizes.append(np.sign(int(other.sum()) - int(mask.sum())))
    assert set(sizes) == {-1, 0, 1}


def test_a_rim_is_outside_the_brain_and_leaves_it_as_it_is() -> None:
    x, mask = brain()
    wide = [with_rim(x, mask, np.random.default_rng(seed)) for seed in range(12)]
    for worse, wider in wide:
        assert not (mask & ~wider).any()
        assert np.array_equal(worse[mask], x[mask])
        assert (worse[wider & ~mask] > 0).all()
        assert wider.sum() < 1.5 * mask.sum()
    assert sum(wider.sum() > mask.sum() for _, wider in wide) > 6


def test_contrast_differs_from_region_to_region_and_tissues_keep_their_order() -> None:
    powers = [np.exp(uneven_contrast((60, 70, 50), np.random.default_rng(seed))) for seed in range(20)]
    grey, white = ([level**power for power in powers] for level in (0.5, 0.8))
    spread = [float(np.ptp(w - g)) for g, w in zip(grey, white, strict=True)]
    assert min(spread) < 0.05
    assert max(spread) > 0.1
    assert all((g < w).all() for g, w in zip(grey, white, strict=True))
    steps = [np.abs(np.diff(power, axis=axis)).max() for power in powers for axis in range(3)]
    assert max(steps) < 0.2


def test_a_bias_field_is_smooth_and_has_lobes_in_most_scans() -> None:
    _, mask = brain()
    fields = [np.log(bias_field(mask, np.random.default_rng(seed))) for seed in range(40)]
    assert max(float(np.abs(np.diff(field, axis=axis)).max()) for field in fields for axis in range(3)) < 0.08
    strongest = [float(np.ptp(field[mask])) for field in fields]
    assert min(strongest) < 0.15
    assert max(strongest) > 0.35
    assert bias_field(np.zeros_like(mask), np.random.default_rng(0)).shape == mask.shape


def test_noise_has_the_scale_that_was_asked_for() -> None:
    rough, smooth = (smooth_noise((40, 40, 40), cell, np.random.default_rng(0)) for cell in (2, 15))
    for field in (rough, smooth):
        assert abs(field.std() - 1) < 0.05
    assert np.abs(np.diff(rough, axis=0)).mean() > 3 * np.abs(np.diff(smooth, axis=0)).mean()


@pytest.mark.parametrize(
    ("kind", "order"),
    [("T1w", (CSF, CORTEX, WHITE)), ("T2w", (WHITE, CORTEX, CSF)), ("FLAIR", (CSF, WHITE, CORTEX))],
)
def test_tissues_have_their_physical_order(kind: str, order: tuple[int, int, int]) -> None:
    for seed in range(50):
        means = tissue_intensities(kind, np.random.default_rng(seed))
        assert means[order[0]] < means[order[1]] <= means[order[2]]


def test_a_label_map_becomes_a_brain_at_half_the_resolution() -> None:
    labels = np.zeros((60, 60, 60), dtype=np.int16)
    labels[10:50, 10:50, 10:50] = 3
    labels[18:42, 18:42, 18:42] = 2
    labels[26:34, 26:34, 26:34] = 4
    labels[:5] = 515  # outside the brain
    image = from_labels(labels, "T2w", np.random.default_rng(0))
    assert image.shape == (30, 30, 30)
    assert image[15, 15, 15] > image[7, 15, 15] > image[11, 15, 15] > 0
    assert not image[:2].any()
    assert not brain_of(labels)[:5].any()


def anatomy() -> tuple[np.ndarray, np.ndarray, Anatomy]:
    """A brain of ellipsoids in FLAIR: ventricles of two sides, white matter, cortex, fluid around."""
    x, y, z = np.indices((60, 70, 50))
    distance = np.sqrt(((x - 30) / 26) ** 2 + ((y - 35) / 31) ** 2 + ((z - 25) / 21) ** 2)
    mask, inner = distance < 1, distance < 0.8
    ventricles = (((np.abs(x - 30) - 4) / 3) ** 2 + ((y - 35) / 9) ** 2 + ((z - 25) / 4) ** 2) < 1
    fluid = ventricles | (mask & (distance > 0.95))
    white = inner & ~ventricles
    known = Anatomy(white, mask & ~white & ~fluid, fluid, ventricles)
    values = np.where(fluid, 0.1, np.where(white, 0.5, 0.58))
    return np.where(mask, values, 0).astype(np.float32), mask, known


@pytest.mark.parametrize("kind", sorted(IN_TISSUE))
def test_every_kind_lies_in_the_brain_and_its_truth_is_what_changed(kind: str) -> None:
    x, mask, known = anatomy()
    found = 0
    for seed in range(6):
        pasted, truth = paste_kind(kind, Brain(x, mask, "FLAIR", anatomy=known), np.random.default_rng(seed))
        again, _ = paste_kind(kind, Brain(x, mask, "FLAIR", anatomy=known), np.random.default_rng(seed))
        assert np.array_equal(pasted, again)
        assert not (pasted - x)[~mask].any()
        assert not truth[~mask].any()
        assert np.isfinite(pasted).all()
        if truth.any():
            found += 1
            change = np.abs(pasted - x)
            assert np.median(change[truth]) > VISIBLE
            assert np.median(change[mask & (ndimage.distance_transform_edt(~truth) > 4)]) < 0.02
    assert found >= 4


def test_white_matter_disease_is_many_small_bright_lesions_in_white_matter() -> None:
    x, mask, known = anatomy()
    numbers, sizes, brightest = [], [], []
    for seed in range(12):
        pasted, truth = paste_kind("dots", Brain(x, mask, "FLAIR", anatomy=known), np.random.default_rng(seed))
        labels, count = ndimage.label(truth)
        numbers.append(count)
        sizes += np.bincount(labels.ravel())[1:].tolist()
        brightest.append(pasted.max())
        assert known.white[truth].mean() > 0.9
    assert max(numbers) > 15
    assert np.quantile(sizes, 0.5) < 30  # voxels of 8 mm3
    assert min(sizes) <= 2
    assert max(brightest) > 1.4 * x.max()  # beyond all normal tissue


def test_sheets_lie_along_the_ventricles_and_grow_confluent() -> None:
    x, mask, known = anatomy()
    away = ndimage.distance_transform_edt(~known.ventricles)
    largest, nearest = [], []
    for seed in range(12):
        _, truth = paste_kind("sheet", Brain(x, mask, "T2w", anatomy=known), np.random.default_rng(seed))
        labels, count = ndimage.label(truth)
        if count:
            largest.append(np.bincount(labels.ravel())[1:].max())
            nearest.append(np.median(away[truth]) < np.median(away[known.white]))
    assert max(largest) > 2000
    assert np.mean(nearest) > 0.7


def test_a_lacune_has_a_dark_core_and_a_bright_rim_in_flair() -> None:
    x, mask, known = anatomy()
    cores = rims = 0
    for seed in range(12):
        pasted, truth = paste_kind("lacunes", Brain(x, mask, "FLAIR", anatomy=known), np.random.default_rng(seed))
        cores += bool((pasted[truth & known.white] < 0.3).any())
        rims += bool((pasted[truth & known.white] > 0.62).any())
    assert cores >= 8
    assert rims >= 5


def test_an_infarct_stays_in_its_hemisphere() -> None:
    x, mask, known = anatomy()
    for seed in range(8):
        _, truth = paste_kind("infarct", Brain(x, mask, "T1w", anatomy=known), np.random.default_rng(seed))
        assert not (truth[:30].any() and truth[31:].any())


def test_shares_of_lesion_kinds_add_up_and_all_sizes_occur() -> None:
    assert all(sum(shares.values()) == pytest.approx(1) for shares in SHARES.values())
    assert set(IN_TISSUE) | set(ANYWHERE) == set(SHARES["bright"]) == set(SHARES["dark"])
    x, mask, known = anatomy()
    sizes = []
    for seed in range(40):
        _, truth = paste_lesions(x, mask, "T2w", np.random.default_rng(seed), anatomy=known)
        sizes += np.bincount(ndimage.label(truth)[0].ravel())[1:].tolist()
    assert min(sizes) == 1
    assert max(sizes) > 3000


def test_kinds_that_need_an_anatomy_say_so() -> None:
    x, mask, _ = anatomy()
    with pytest.raises(ValueError, match="anatomy"):
        paste_kind("dots", Brain(x, mask, "FLAIR"), np.random.default_rng(0))


def test_slices_may_be_thick_with_gaps_between_them() -> None:
    x = np.zeros((4, 4, 60), dtype=np.float32)
    x[:, :, 30] = 1
    seen = [thick_slices(x, 2, np.random.default_rng(seed)) for seed in range(30)]
    assert all(one.shape == x.shape for one in seen)
    assert all(one.max() < 0.8 for one in seen)
    sums = [one.sum() / x.sum() for one in seen]  # what lies in a gap is seen less, what a slice hits is seen more
    assert min(sums) < 0.9 < 1.05 < max(sums)
    flat = thick_slices(np.ones_like(x), 2, np.random.default_rng(0))
    assert np.allclose(flat, 1)


@functools.cache
def contrasts_of_a_brain() -> list[Brain]:
    """T1w, T2w and FLAIR of the brain of `anatomy`, with its grain."""
    x, mask, known = anatomy()
    grain = 0.03 * smooth_noise(x.shape, 2.0, np.random.default_rng(4)) * mask
    levels = {"T1w": (0.1, 0.5, 0.8), "T2w": (1.0, 0.4, 0.25), "FLAIR": (0.1, 0.58, 0.5)}
    made = []
    for contrast, (fluid, grey, white) in levels.items():
        values = np.where(known.fluid, fluid, np.where(known.white, white, grey))
        volume = np.where(mask, values + grain, 0).astype(np.float32)
        made.append(Brain(volume, mask, contrast, anatomy=known))
    return made


@pytest.mark.parametrize("kind", sorted([*ANYWHERE, *IN_TISSUE]))
def test_lesions_of_several_contrasts_have_the_same_shape(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mask of each contrast, if even what cannot be seen counts."""
    for module in (masses, tissue):
        monkeypatch.setattr(module, "VISIBLE", -1.0)
    brains = contrasts_of_a_brain()
    for seed in (1, 2):
        truth = paste_together(kind, brains, np.random.default_rng(seed))[1]
        assert truth.any()
        for one in brains[1:]:  # T1w guides
            guided = replace(one, guide=brains[0].x)
            rng = np.random.default_rng(int(np.random.default_rng(seed).integers(2**63)))
            assert np.array_equal(truth, paste_kind(kind, guided, rng)[1])


def test_the_mask_of_several_contrasts_is_what_at_least_one_shows() -> None:
    brains = contrasts_of_a_brain()
    for kind in ("lacunes", "spots"):
        pasted, truth = paste_together(kind, brains, np.random.default_rng(3))
        largest = np.max([np.abs(new - one.x) for new, one in zip(pasted, brains, strict=True)], axis=0)
        assert np.median(largest[truth]) > VISIBLE
        assert largest[ndimage.distance_transform_edt(~truth) > 6].max() < VISIBLE


def test_gliosis_is_dark_in_t1w_and_bright_in_t2w_and_flair() -> None:
    brains = contrasts_of_a_brain()
    pasted, truth = paste_together("oedema", brains, np.random.default_rng(0))
    means = [float((new - one.x)[truth].mean()) for new, one in zip(pasted, brains, strict=True)]
    assert means[0] < -VISIBLE
    assert min(means[1:]) > VISIBLE
