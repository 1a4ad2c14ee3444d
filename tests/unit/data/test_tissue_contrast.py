"""What the tissues say: the contrast, what is none of them, and what is done where name and image disagree."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from uadcli.data import contrast
from uadcli.data.contrast import FoundContrast
from uadcli.data.prepare import Prepared
from uadcli.data.tissue_contrast import ContrastGuess, classify_contrast, measure
from uadcli.errors import InputError, QualityError
from uadcli.imaging import template
from uadcli.report import sidecar
from uadcli.scoring import quality

TISSUE = template.on_grid("mni_tissue_dseg").astype(np.uint8)
MASK = TISSUE > 0
DEEP, PALLIDUM = (7, 8, 9, 10, 11, 12), (13, 14)
# fluid, grey, white, deep grey, pallidum, the darkest (vessels), noise
KNOWN = {
    "T1w": (0.25, 0.6, 0.85, 0.72, 0.82, 0.1, 0.05),
    "T1w of a patient, thick slices": (0.5, 0.6, 0.7, 0.63, 0.68, 0.2, 0.06),
    "FLAIR": (0.2, 0.8, 0.74, 0.76, 0.7, 0.1, 0.05),
    "FLAIR, fluid hardly dark": (0.7, 0.8, 0.79, 0.8, 0.75, 0.2, 0.05),
    "T2w": (1.0, 0.5, 0.38, 0.42, 0.32, 0.05, 0.05),
    "T2w of little contrast": (0.9, 0.55, 0.43, 0.47, 0.4, 0.1, 0.05),
}
OTHER = {
    "proton density": (1.1, 1.0, 0.8, 0.92, 0.85, 0.2, 0.04),
    "proton density, fluid darker": (0.93, 1.0, 0.8, 0.92, 0.85, 0.2, 0.04),
    "T2*": (1.35, 1.0, 0.86, 0.85, 0.6, 0.1, 0.05),
    "T1 map": (3900, 1350, 850, 1150, 1000, 700, 50),
    "diffusion coefficient": (3.0, 0.85, 0.78, 0.8, 0.75, 0.5, 0.05),
}


def brain(levels: tuple[float, ...]) -> np.ndarray:
    """A brain on the model's grid of these intensities, with noise."""
    fluid, grey, white, deep, pallidum, darkest, noise = levels
    rng, regions = np.random.default_rng(0), template.regions()
    data = np.choose(TISSUE, [0, fluid, grey, white]).astype(np.float32)
    data[np.isin(regions, DEEP)] = deep
    data[np.isin(regions, PALLIDUM)] = pallidum
    data[rng.random(data.shape) < 0.01] = darkest
    return np.where(MASK, data + rng.normal(0, noise, data.shape), 0).astype(np.float32)


@pytest.mark.parametrize("name", KNOWN)
def test_the_known_contrasts_are_recognised_and_covered(name: str) -> None:
    found = classify_contrast(brain(KNOWN[name]), MASK, TISSUE)
    assert name.startswith(found.contrast)
    assert not found.other


@pytest.mark.parametrize("name", OTHER)
def test_other_contrasts_are_known_for_what_they_are_not(name: str) -> None:
    assert classify_contrast(brain(OTHER[name]), MASK, TISSUE).other


@pytest.mark.parametrize(
    ("levels", "other"),
    [
        ((1.4, 1.0, 0.88, 0.85, 0.6, 0.6, 0.03), True),
        ((1.3, 1.0, 0.86, 0.85, 0.6, 0.5, 0.04), True),
        (KNOWN["T2w"], False),
        (KNOWN["T2w of little contrast"], False),
        (KNOWN["FLAIR"], False),
        (KNOWN["T1w"], False),
    ],
)
def test_t2_star_of_a_whole_head_is_known_by_its_fluid(levels: tuple[float, ...], other: bool) -> None:
    """A stripped scan has lost the level of air: there it may pass."""
    assert bool(classify_contrast(brain(levels), MASK, TISSUE, from_air=True).other) is other


@pytest.mark.parametrize(
    ("strip", "ratio"),
    [
        ("atlas", 2.0),
        ("hd-bet in bf16", 2.0),
        ("already stripped", None),
        ("none", None),
        ("hd-bet, though the scan looks stripped already", None),
        ("given: mask.nii (voxels above 0)", None),
    ],
)
def test_the_level_of_air_is_that_of_whole_heads(strip: str, ratio: float | None) -> None:
    data = brain((1.0, 0.6, 0.5, 0.55, 0.5, 0.2, 0.01))
    found = Prepared(data, MASK, np.eye(4), strip, 1400.0, 0.0, 0.95, 0.3).contrast().statistics.ratio
    assert found == (ratio if ratio is None else pytest.approx(ratio, abs=0.02))


@pytest.mark.parametrize("name", ["T1w", "FLAIR", "T2w", "proton density", "T1 map"])
@pytest.mark.parametrize(("slope", "shift"), [(1e-9, 0), (1e12, 0), (40, -1024), (0.5, -7)])
def test_an_increasing_linear_map_changes_nothing(name: str, slope: float, shift: float) -> None:
    data = brain((KNOWN | OTHER)[name])
    before = classify_contrast(data, MASK, TISSUE)
    after = classify_contrast((data * slope + shift).astype(np.float32), MASK, TISSUE)
    assert (after.contrast, after.other, after.doubtful) == (before.contrast, before.other, before.doubtful)
    figures = dataclasses.asdict(measure((data * slope + shift).astype(np.float32), MASK, TISSUE))
    expected = dataclasses.asdict(before.statistics)
    assert figures.pop("ratio") is expected.pop("ratio") is None  # which only the level of air makes meaningful
    assert figures == pytest.approx(expected, rel=0.02, abs=0.02)


def settled(option: str | None, name: str, guess: ContrastGuess | None) -> FoundContrast:
    return contrast.settle(contrast.known_before(Path(name), option), Path(name), guess)


def guessed(name: str) -> ContrastGuess:
    return classify_contrast(brain((KNOWN | OTHER)[name]), MASK, TISSUE)


@pytest.mark.parametrize(
    ("option", "name", "image", "expected", "verdict", "text"),
    [
        (None, "sub-01_acq-flair_T1w.nii", "T1w", "T1w", "pass", ""),
        (None, "flair_reg_to_T1.nii", "T1w", "T1w", "pass", ""),
        (None, "flair_reg_to_T1.nii", "FLAIR", "FLAIR", "pass", ""),
        (None, "sub-01_FLAIR.nii", "T1w", "FLAIR", "fail", "the file name says FLAIR, the image looks like T1w"),
        (None, "sub-01_T2w.nii", "T1w", "T2w", "fail", "the file name says T2w, the image looks like T1w"),
        ("T2w", "sub-01_T1w.nii", "T1w", "T2w", "fail", "--contrast says T2w, the image looks like T1w"),
        (None, "sub-01_T2w.nii", "T2*", "T2w", "fail", "not one that a model covers"),
        (None, "scan.nii", "proton density", "T2w", "fail", "not one that a model covers"),
        (None, "scan.nii", "T2w", "T2w", "warn", "T2* and diffusion images can look the same"),
        (None, "scan.nii", "FLAIR", "FLAIR", "pass", ""),
        ("T2w", "scan.nii", "T2w", "T2w", "pass", ""),
        (None, "dwi_b0.nii", "T2w", "T2w", "fail", "not one that a model covers: the file name says dwi"),
        ("T2w", "dwi_b0.nii", "T2w", "T2w", "pass", ""),
        (None, "T1w.nii", "T1w of a patient, thick slices", "T1w", "pass", ""),
        (None, "FLAIR.nii", None, "FLAIR", "not computed", "too little"),
    ],
)
def test_the_image_is_asked_whatever_the_name_says(
    option: str | None, name: str, image: str | None, expected: str, verdict: str, text: str
) -> None:
    found = settled(option, name, guessed(image) if image else None)
    assert found.check is not None
    assert (found.contrast, found.check.verdict) == (expected, verdict)
    assert text in found.check.text


def raise_in_words(content: dict[str, object]) -> None:
    """What `--strict` makes of a sidecar, with its remedy."""
    try:
        sidecar.refuse_failed(Path("sub-01_FLAIR.nii"), content)
    except QualityError as error:
        raise QualityError(str(error)) from error


def test_the_check_counts_in_the_verdict_of_the_scan() -> None:
    good = quality.assess(quality.Measures(1400.0, 0.95, 0.0, stretch=1.0))
    failed = settled(None, "sub-01_FLAIR.nii", guessed("T1w")).check
    passed = settled(None, "sub-01_T1w.nii", guessed("T1w")).check
    assert failed is not None
    assert passed is not None
    assert good.verdict == quality.with_check(good, passed).verdict == "pass"
    bad = quality.with_check(good, failed)
    assert bad.verdict == "fail"
    content = {"qc": {"verdict": "fail", "checks": [dataclasses.asdict(check) for check in bad.checks]}}
    with pytest.raises(QualityError, match=r"\(contrast: the file name says FLAIR, the image looks.*--contrast"):
        raise_in_words(content)


@pytest.mark.parametrize(
    ("failed", "remedy"),
    [
        (["contrast"], "--contrast"),
        (["spikes"], "an undamaged one"),
        (["spikes", "contrast"], "an undamaged one"),
        (["spikes", "stretch"], "--brain-mask"),
        (["brain_volume_ml"], "--brain-mask"),
    ],
)
def test_the_remedy_is_that_of_what_failed(failed: list[str], remedy: str) -> None:
    checks = [{"name": name, "verdict": "fail", "text": ""} for name in failed]
    with pytest.raises(QualityError, match=remedy):
        raise_in_words({"qc": {"verdict": "fail", "checks": checks}})


@pytest.mark.parametrize(
    ("levels", "expected"), [((30, 70, 100), "T1w"), ((200, 110, 80), "T2w"), ((20, 100, 90), "FLAIR")]
)
def test_contrast_by_tissues(levels: tuple[int, int, int], expected: str) -> None:
    tissue = template.on_grid("mni_tissue_dseg").astype(np.uint8)
    data = np.choose(tissue, [0, *levels]).astype(np.float32)
    if expected != "T2w":
        mild = np.choose(tissue, [0, 30, 100, 106]).astype(np.float32)
        assert classify_contrast(mild, tissue > 0, tissue).doubtful
    data += np.random.default_rng(0).normal(0, 3, data.shape).astype(np.float32)
    assert classify_contrast(data, tissue > 0, tissue).contrast == expected
    with pytest.raises(InputError, match="--contrast"):
        classify_contrast(data, tissue == 1, tissue)


def test_the_likeness_to_t1w_is_the_rank_correlation_of_spearman():
    image = np.random.default_rng(0).integers(0, 50, MASK.shape).astype(np.float32)  # many equal values
    expected = stats.spearmanr(image[MASK], template.on_grid("mni_head_T1w", 1)[MASK]).statistic
    assert measure(image, MASK, TISSUE).correlation == pytest.approx(expected, abs=1e-12)
