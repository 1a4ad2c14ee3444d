"""What healthy scans say of the scores that are held against them: each scan against the others, `fisher` of both."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from uadcli.calibration import health
from uadcli.calibration.fit_fusion import Part
from uadcli.calibration.health import Calibration, Cohort
from uadcli.config import DetectConfig
from uadcli.data.dataset import Case
from uadcli.data.prepare import Prepared
from uadcli.imaging import template
from uadcli.imaging.intensity import robust_z
from uadcli.imaging.slices import GRID_AFFINE
from uadcli.model.subject import Subject
from uadcli.scoring import coarse_grid, healthy_reference, scores
from uadcli.scoring.calibration import healthy_quantile, healthy_tail, strength, tails_of_the_others
from uadcli.scoring.fusion import FISHER, PARTS, fisher_score, prior

SHAPE, SCANS = (16, 20, 12), 6
SMALLEST = DetectConfig().scoring.min_volume_mm3
MASK = np.zeros(SHAPE, dtype=bool)
MASK[2:14, 2:18, 2:10] = True
TISSUE = np.indices(SHAPE)[1] < 10
CALIBRATED = health.calibrated()


@pytest.fixture
def maps(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, np.ndarray]]:
    """What stands for the scores of six healthy scans, by score; the networks are left out."""
    rng = np.random.default_rng(3)
    made = [
        {kind: np.where(MASK, rng.gamma(2, 0.1, SHAPE), 0).astype(np.float32) for kind in CALIBRATED}
        for _ in range(SCANS)
    ]
    numbers = itertools.cycle(range(SCANS))
    nothing = np.zeros(SHAPE, np.float32)
    prepared = SimpleNamespace(mask=MASK, jacobian=1.0, data=nothing, scaled=lambda _: nothing)
    monkeypatch.setattr(health, "prepare_cached", lambda *_: prepared)
    monkeypatch.setattr(health, "healthy_part", lambda *_: MASK)
    monkeypatch.setattr(template, "tissue", lambda: TISSUE)
    monkeypatch.setattr(Subject, "of", lambda *_: SimpleNamespace(raw=made[next(numbers)].__getitem__))
    return made


def model_of(odds: float = 1.0) -> Any:
    card = SimpleNamespace(reference_erosion=1, without_shading=False, odds_outside_white_matter=odds)
    return SimpleNamespace(card=card)


def calibrated(contrast: str, count: int = SCANS, degraded: int = 0, odds: float = 1.0) -> tuple[Calibration, Any]:
    cases = [Case(str(i), "lab", "val", contrast, Path(f"{i}.nii")) for i in range(count)]
    cohort = Cohort(cases, (), Path(), degraded=degraded)
    return health.calibrate(model_of(odds), cohort, DetectConfig(), CALIBRATED)


def test_progress_counts_each_scan_and_each_of_its_scores(maps: list[dict[str, np.ndarray]]) -> None:
    """Scores take longer than reconstructions: the progress once stood at the last scan for minutes."""
    seen: list[tuple[int, int]] = []
    cases = [Case(str(i), "lab", "val", "T1w", Path(f"{i}.nii")) for i in range(SCANS)]
    health.calibrate(
        model_of(),
        Cohort(cases, (), Path()),
        DetectConfig(),
        CALIBRATED,
        progress=lambda done, total: seen.append((done, total)),
    )
    total = SCANS * (1 + len(CALIBRATED))
    assert seen == [(done, total) for done in range(total)]


@pytest.mark.parametrize("odds", [1.0, 0.1])
def test_fisher_is_calibrated_with_reference_and_quantiles_of_the_other_scans(
    maps: list[dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch, odds: float
) -> None:
    white = np.linspace(0, 1, SHAPE[0], dtype=np.float32)[:, None, None] * np.ones(SHAPE, np.float32)
    monkeypatch.setattr(template, "white_matter", lambda: white)
    found, references = calibrated("T1w", odds=odds)
    learned, *normalised = PARTS["T1w"]
    pairs = {learned: [(one[learned], MASK) for one in maps]}
    for kind in normalised:
        raw, score = [(one[kind], MASK) for one in maps], scores.find(kind)
        z = healthy_reference.cross_fitted(raw, [MASK] * SCANS, score.own_scale, width=score.spread)
        places = coarse_grid.enlarged(coarse_grid.means(TISSUE), SHAPE) if score.in_tissue else 1
        z = [np.asarray(one * places, dtype=np.float32) for one in z]
        pairs[kind] = [(one, MASK) for one in z]
        assert found.thresholds[kind]["T1w"] == pytest.approx(healthy_quantile(pairs[kind]))
    fused = []
    for i in range(SCANS):
        parts = [
            (pairs[kind][i][0], healthy_tail([pair for j, pair in enumerate(pairs[kind]) if j != i]), share)
            for kind, share in PARTS["T1w"].items()
        ]
        fused.append(fisher_score(parts, MASK, prior(odds, white)))
    for kind, of in pairs.items():
        assert found.tails[kind]["T1w"] == healthy_tail(of)
    assert found.thresholds[FISHER]["T1w"] == pytest.approx(healthy_quantile([(one, MASK) for one in fused]))
    assert found.strengths[FISHER]["T1w"] == [strength(one, SMALLEST, GRID_AFFINE) for one in fused]
    assert {kind for kind, _ in references} == set(scores.plain())
    assert {kind for (kind, _), one in references.items() if one.places is not None} == {"brightness"}


def test_the_shares_of_fisher_are_fitted_where_lesions_are_pasted(
    maps: list[dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def by_shares(scans: Any, parts: dict[str, Part]) -> dict[tuple[float, ...], float]:
        asked.append((scans, parts))
        return {tuple(PARTS["T1w"].values()): 0.3, (0.8, 0.1, 0.1): 0.4, (0.6, 0.2, 0.2): 0.37}

    monkeypatch.setattr(health.fit_fusion, "precision_by_shares", by_shares)
    cases = [Case(str(i), "lab", "val", "T1w", Path(f"{i}.nii")) for i in range(SCANS)]
    pasted: Any = {"T1w": ["scans"]}
    found, _ = health.calibrate(model_of(), Cohort(cases, (), Path()), DetectConfig(), CALIBRATED, pasted)
    # nearly as good as the best, and nearer to the usual ones
    assert found.shares == {"T1w": {"log-odds": 0.6, "z-absolute": 0.2, "z-brightness": 0.2}}
    assert found.precision_by_shares["T1w"]["0.8 0.1 0.1"] == 0.4
    ((scans, parts),) = asked
    assert scans == ["scans"]
    raw = [(one["z-absolute"], MASK) for one in maps]
    own = healthy_reference.of_the_others(raw, scores.find("z-absolute").own_scale)
    assert parts["log-odds"].references is None
    assert all(np.array_equal(a.mean, b.mean) for a, b in zip(parts["z-absolute"].references, own, strict=True))
    others = healthy_tail([(one["log-odds"], MASK) for one in maps[:2] + maps[3:]])
    np.testing.assert_allclose(parts["log-odds"].tails[2], others, rtol=1e-6)
    equal, _ = calibrated_again(maps, monkeypatch)
    assert found.thresholds[FISHER]["T1w"] != equal.thresholds[FISHER]["T1w"]


def calibrated_again(maps: list[dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch) -> tuple[Calibration, Any]:
    """The same scans once more, without lesions in them."""
    monkeypatch.setattr(health.fit_fusion, "precision_by_shares", lambda *_: {})
    return calibrated("T1w")


def test_degraded_copies_count_and_are_left_out_with_their_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    """The map of a scan is its intensities, so that what the copies are can be seen in it."""
    rng = np.random.default_rng(5)
    data = [np.where(MASK, 0.5 + 0.1 * rng.random(SHAPE), 0).astype(np.float32) for _ in range(SCANS)]

    def prepared(path: Path, *_: object) -> Prepared:
        return Prepared(data[int(path.stem)], MASK, np.eye(4), "none", 1.0, 0.0, 1.0, 1.0)

    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def of(_: object, x: np.ndarray, mask: np.ndarray, *__: object) -> Any:
        seen.append((x, mask))
        return SimpleNamespace(raw=lambda _: x)

    monkeypatch.setattr(health, "prepare_cached", prepared)
    monkeypatch.setattr(health, "healthy_part", lambda *_: MASK)
    monkeypatch.setattr(template, "tissue", lambda: TISSUE)
    monkeypatch.setattr(Subject, "of", of)
    cases = [Case(str(i), "lab", "val", "T1w", Path(f"{i}.nii")) for i in range(SCANS)]
    made = [health.calibrate(model_of(), Cohort(cases, (), Path(), degraded=n), DetectConfig(), CALIBRATED)[0]
            for n in (0, 2, 2)]  # fmt: skip
    plain, found, again = made
    assert found == again
    assert len(seen) == (1 + 3 + 3) * SCANS
    of_run = seen[SCANS : 4 * SCANS]
    assert all(np.array_equal(one[0], other[0]) for one, other in zip(seen[:SCANS], of_run[:SCANS], strict=True))
    copies = [one[0] for one in of_run[SCANS:]]
    assert all(not np.array_equal(one, other[0]) for one in copies for other in of_run[:SCANS])
    assert not any(np.array_equal(copies[i], copies[i + SCANS]) for i in range(SCANS))
    assert len(found.strengths[FISHER]["T1w"]) == 3 * len(plain.strengths[FISHER]["T1w"]) == 3 * SCANS
    pairs = [(x, MASK & mask) for x, mask in of_run]
    expected = tails_of_the_others(pairs, [i % SCANS for i in range(3 * SCANS)])
    assert found.tails["siamese"]["T1w"] == healthy_tail(pairs)
    assert expected[1] != tails_of_the_others(pairs)[1]


def test_a_scan_is_not_compared_with_another_session_of_its_subject(maps: list[dict[str, np.ndarray]]) -> None:
    """Two sessions show one brain; in folders that are no BIDS dataset a subject is not known."""

    def found(*subjects: str) -> tuple[Calibration, Any]:
        cases = [Case(one, "lab", "val", "T1w", Path(f"{i}.nii")) for i, one in enumerate(subjects)]
        return health.calibrate(model_of(), Cohort(cases, (), Path()), DetectConfig(), CALIBRATED)

    twice, _ = found("sub-1", "sub-2", "sub-3", "sub-1", "sub-2", "sub-3")
    folder, _ = found(*["site"] * SCANS)
    raw, score = [(one["z-absolute"], MASK) for one in maps], scores.find("z-absolute")
    for calibration, brains in ((twice, [0, 1, 2, 0, 1, 2]), (folder, None)):
        z = healthy_reference.cross_fitted(raw, [MASK] * SCANS, score.own_scale, brains, score.spread)
        expected = [strength(one, SMALLEST, GRID_AFFINE) for one in z]
        assert calibration.strengths["z-absolute"]["T1w"] == pytest.approx(expected)
    alone, references = found(*["sub-1"] * SCANS)
    assert not references
    assert FISHER not in alone.thresholds


def test_borrowed_thresholds_exclude_scores_normalised_to_healthy_scans(
    maps: list[dict[str, np.ndarray]],
) -> None:
    found, _ = calibrated("FLAIR")
    assert "FLAIR" in found.thresholds[FISHER]
    assert found.shares == {"FLAIR": PARTS["FLAIR"]}
    found.lend("FLAIR", "T2w")
    assert found.borrowed == {"T2w": "FLAIR"}
    lent = {kind for kind, of_score in found.thresholds.items() if "T2w" in of_score}
    assert lent == {kind for kind in CALIBRATED if not kind.startswith("z-")}


@pytest.mark.parametrize("degraded", [0, 2])
def test_one_healthy_scan_makes_no_reference_nor_do_its_copies(
    maps: list[dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch, degraded: int
) -> None:
    monkeypatch.setattr(health, "version_of", lambda *_: (health.prepare_cached(), MASK))
    found, references = calibrated("T2w", 1, degraded)
    assert not references
    assert {kind for kind in CALIBRATED if not kind.startswith("z-")} == set(found.thresholds)


def test_healthy_t2w_scans_calibrate_fisher_for_t2w(maps: list[dict[str, np.ndarray]]) -> None:
    assert "T2w" in calibrated("T2w")[0].thresholds[FISHER]


def test_training_scans_join_the_reference_of_a_score_that_no_training_changes(
    maps: list[dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    further = np.random.default_rng(8).gamma(2, 0.3, SHAPE).astype(np.float32)
    prepared = SimpleNamespace(mask=MASK, data=further, scaled=lambda _: 0 * further)
    usual = health.prepare_cached
    monkeypatch.setattr(
        health, "prepare_cached", lambda path, *rest: prepared if path.name == "more.nii" else usual(path, *rest)
    )
    cases = [Case(str(i), "lab", "val", "FLAIR", Path(f"{i}.nii")) for i in range(SCANS)]
    training = [Case("more", "lab", "train", "FLAIR", Path("more.nii"))]
    found, references = health.calibrate(model_of(), Cohort(cases, training, Path()), DetectConfig(), CALIBRATED)
    kind = "z-robust-z"
    scale, pairs = scores.find(kind).own_scale, [(one[kind], MASK) for one in maps]
    expected = healthy_reference.fit([*pairs, (robust_z(further, MASK), MASK)], scale)
    np.testing.assert_allclose(references["robust-z", "FLAIR"].mean, expected.mean, rtol=1e-6)
    residual = healthy_reference.fit([(one["z-absolute"], MASK) for one in maps], 0.75)
    np.testing.assert_allclose(references["absolute", "FLAIR"].mean, residual.mean, rtol=1e-6)
    others = healthy_reference.fit([*pairs[1:], (robust_z(further, MASK), MASK)], scale)
    first = healthy_reference.z_score(maps[0][kind], others, MASK)
    assert found.strengths[kind]["FLAIR"][0] == pytest.approx(strength(first, SMALLEST, GRID_AFFINE), rel=1e-4)
