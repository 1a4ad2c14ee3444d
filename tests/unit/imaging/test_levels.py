"""All stages see the same numbers, whatever increasing linear map a scan was stored with."""

from __future__ import annotations

import numpy as np
import phantoms
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uadcli.data.tissue_contrast import classify_contrast
from uadcli.errors import InputError
from uadcli.imaging import template
from uadcli.imaging.levels import TOP, levelled
from uadcli.imaging.slices import GRID_SHAPE
from uadcli.imaging.volume import Volume


def _thin(volume: Volume) -> Volume:
    return Volume(np.ascontiguousarray(volume.data[::2, ::2, ::2]), volume.affine @ np.diag([2.0, 2.0, 2.0, 1.0]))


BRAIN, HEAD = _thin(phantoms.brain()), _thin(template.head())  # whole numbers, or are they
assert all(np.array_equal(one.data, np.round(one.data)) for one in (BRAIN, HEAD))
NOISY = Volume(HEAD.data + np.random.default_rng(0).gamma(2, 2, HEAD.shape).astype(np.float32), HEAD.affine)
KINDS = {"brain": BRAIN, "head": HEAD, "noisy head": NOISY}
maps = st.tuples(
    st.floats(-12, 12).map(lambda power: 10.0**power), st.sampled_from([0.0, -1024.0, 7.0, 1e6])
)  # a scale, and a shift in units of it


def mapped(volume: Volume, scale: float, shift: float) -> Volume:
    return Volume(((volume.data.astype(np.float64) + shift) * scale).astype(np.float32), volume.affine)


@pytest.mark.parametrize("kind", KINDS)
@given(change=maps)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_increasing_linear_map_changes_nothing(kind: str, change: tuple[float, float]) -> None:
    one, two = levelled(KINDS[kind]), levelled(mapped(KINDS[kind], *change))
    far = change[1] == 1e6  # of a float32 of 24 bits, a sixteenth of a unit is left behind such a shift
    if kind == "noisy head" or far:
        assert np.abs(one.volume.data - two.volume.data).max() < (2 if far else 1e-3)  # of 1000
    else:  # whole numbers
        assert np.array_equal(one.volume.data, two.volume.data)
    assert np.array_equal(one.foreground, two.foreground)
    assert one.constant == two.constant


def variants() -> dict[str, Volume]:
    """The same brain as other programs leave it."""
    inside = BRAIN.data > 0
    z = (BRAIN.data - BRAIN.data[inside].mean()) / BRAIN.data[inside].std()
    made = {
        "background amid": np.where(inside, z, 0),
        "background just below": np.where(inside, z, z[inside].min() - 0.1),
        "background far below": np.where(inside, z, -100),
        "background above": np.where(inside, z, z[inside].max() + 1),
        "all below 0": np.where(inside, BRAIN.data - 5000, 0),
    }
    return {name: Volume(data.astype(np.float32), BRAIN.affine) for name, data in made.items()}


@pytest.mark.parametrize("name", variants())
def test_a_constant_background_is_below_the_brain_wherever_it_was(name: str) -> None:
    one, two = levelled(BRAIN), levelled(variants()[name])
    assert two.constant
    assert np.array_equal(one.foreground, two.foreground)
    assert np.array_equal(one.volume.data, two.volume.data)
    assert two.volume.data[~two.foreground].max() == 0 < two.volume.data[two.foreground].min()


def test_a_background_that_a_bias_correction_varied_is_still_constant() -> None:
    """Seen in scans stripped with a background of -0.4 and then divided by a field: the brain was taken for a head."""
    inside = BRAIN.data > 0
    slope = np.linspace(0.7, 1.3, BRAIN.shape[0], dtype=np.float32)[:, None, None]
    constant = np.where(inside, BRAIN.data * slope, -1e-3)
    varied = np.where(inside, BRAIN.data, -1e-3) * slope
    one, two = (levelled(Volume(data.astype(np.float32), BRAIN.affine)) for data in (constant, varied))
    assert one.constant
    assert two.constant
    assert np.array_equal(one.foreground, two.foreground)
    assert np.abs(one.volume.data - two.volume.data).max() < 1e-2  # of 1000


def test_the_scale_is_that_of_bright_tissue() -> None:
    for volume in KINDS.values():
        assert np.percentile(levelled(volume).volume.data, 99.5) == pytest.approx(TOP, rel=0.25)


def test_air_with_noise_is_not_one_value() -> None:
    assert not levelled(NOISY).constant
    whole = Volume(np.round(NOISY.data), NOISY.affine)  # few values, of which one is frequent
    assert not levelled(whole).constant


def test_a_volume_without_an_image_is_refused() -> None:
    data = np.zeros(GRID_SHAPE, np.float32)
    data[5, 5, 5] = 1
    with pytest.raises(InputError, match="same value"):
        levelled(Volume(data, np.eye(4)))


@given(change=maps)
@settings(max_examples=15, deadline=None)
def test_the_contrast_is_told_whatever_the_scale(change: tuple[float, float]) -> None:
    tissue = template.on_grid("mni_tissue_dseg").astype(np.uint8)
    data = np.choose(tissue, [0, 200, 110, 80]).astype(np.float32)
    data += np.random.default_rng(0).normal(0, 3, data.shape).astype(np.float32)
    moved = mapped(Volume(data, np.eye(4)), *change).data
    one, two = classify_contrast(data, tissue > 0, tissue), classify_contrast(moved, tissue > 0, tissue)
    assert two.contrast == one.contrast == "T2w"
    assert two.statistics.csf_to_gm == pytest.approx(one.statistics.csf_to_gm, rel=1e-2)
