"""What `--threshold` means, and findings beside those of healthy scans."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import phantoms
import pytest

from uadcli.config import DetectConfig, PreprocessConfig, ReconstructionConfig, ScoringConfig, to_dict
from uadcli.detection.record import threshold_of
from uadcli.errors import InputError, UsageError
from uadcli.model import threshold
from uadcli.model.healthy_scans import FEWEST, compare_with_healthy, strengths_of, why_unknown
from uadcli.model.threshold import Basis, Threshold
from uadcli.scoring.calibration import interval_of_share
from uadcli.scoring.metrics import dice
from uadcli.settings.threshold import AUTO_RATE, BORROWED_EXTENT, CONFORMAL_EXTENT, EXTENT, ThresholdRule
from uadcli.weights.card import ModelCard

CARD = ModelCard(
    name="m",
    version="0",
    contrasts=("T1w",),
    scores={"T1w": "siamese"},
    thresholds={"siamese": {"T1w": 0.2}},
    threshold_rule="by healthy voxels",
    levels=(250,),
    intensity_range="",
    training_data="",
    licence="",
    strengths={"siamese": {"T1w": [i / 20 for i in range(20)]}},
    tails={"siamese": {"T1w": [(0.01, 0.1), (0.001, 0.4), (0.0001, 0.9)]}},
)


rule = ThresholdRule.parse


def test_auto_is_conformal_where_the_healthy_scans_suffice_and_findings_extend_to_a_gentler_rate() -> None:
    strict = threshold.resolve(rule("conformal"), CARD, "siamese", "T1w")
    extent = threshold.resolve(rule(f"rate:{CONFORMAL_EXTENT}"), CARD, "siamese", "T1w")
    assert isinstance(strict, Threshold)
    assert isinstance(extent, Threshold)
    found = threshold.resolve(rule("auto"), CARD, "siamese", "T1w")
    assert found == Threshold(strict.value, dataclasses.replace(strict.basis, extent=CONFORMAL_EXTENT), extent.value)
    assert "conformal: " in found.basis.in_words()
    assert found.basis.in_words().endswith("extended to connected voxels above which 0.05 % of healthy voxels lie")


def test_findings_do_not_extend_where_the_gentler_rate_is_not_below() -> None:
    low = dataclasses.replace(CARD, strengths={"siamese": {"T1w": [0.05] * 20}})
    assert threshold.resolve(rule("auto"), low, "siamese", "T1w") == threshold.resolve(
        rule("conformal"), low, "siamese", "T1w"
    )


def test_auto_is_rate_with_few_healthy_scans_and_calibrated_without_rates() -> None:
    for strengths in ({"siamese": {"T1w": [0.1] * 18}}, {}):
        few = dataclasses.replace(CARD, strengths=strengths)
        found = threshold.resolve(rule("auto"), few, "siamese", "T1w")
        strict, gentle = (
            threshold.resolve(rule(f"rate:{rate}"), few, "siamese", "T1w") for rate in (AUTO_RATE, EXTENT)
        )
        assert isinstance(found, Threshold)
        assert (found.value, found.extent) == (strict.value, gentle.value)
        assert found.basis.kind == "rate"
        lent = dataclasses.replace(few, borrowed={"T1w": "FLAIR"})
        narrow = threshold.resolve(rule(f"rate:{BORROWED_EXTENT}"), few, "siamese", "T1w")
        of_another = threshold.resolve(rule("auto"), lent, "siamese", "T1w")
        assert isinstance(of_another, Threshold)
        assert (of_another.value, of_another.extent) == (strict.value, narrow.value)
        old = dataclasses.replace(few, tails={})
        assert threshold.resolve(rule("auto"), old, "siamese", "T1w") == Threshold(
            0.2, Basis("calibrated", card_rule="by healthy voxels")
        )


def test_by_false_discoveries_the_map_sets_the_threshold() -> None:
    found = threshold.resolve(rule("fdr:0.1"), CARD, "siamese", "T1w")
    assert isinstance(found, threshold.ScanThreshold)
    mask = np.ones((10, 10, 100), dtype=bool)
    mask[0] = False
    few, many = (np.full(mask.shape, 0.01, np.float32) for _ in range(2))
    few[1, 1, :10], many[1:4, :, :] = 0.95, 0.95  # rarer than once in 10,000
    few[5, 5, :5] = many[5, 5, :5] = 0.3  # rarer than once in 100
    few[0], many[0] = 5, 5  # outside the brain
    marked = [int(((one > found.of(one, mask).value) & mask).sum()) for one in (few, many)]
    assert marked == [10, 3005]
    assert found.of(few, mask).basis.in_words().startswith("fdr: at most 10 % of the marked voxels")
    with pytest.raises(UsageError, match="has no score quantiles"):
        threshold.resolve(rule("fdr"), CARD, "fisher", "T1w")
    lent = dataclasses.replace(CARD, borrowed={"T1w": "FLAIR"})
    assert "from healthy FLAIR scans" in threshold.resolve(rule("fdr"), lent, "siamese", "T1w").basis.in_words()


def test_borrowed_thresholds_include_rates_and_name_the_lender() -> None:
    lent = dataclasses.replace(CARD, borrowed={"T1w": "FLAIR"}, strengths={})
    found = threshold.resolve(rule("auto"), lent, "siamese", "T1w")
    own = threshold.resolve(rule("auto"), dataclasses.replace(CARD, strengths={}), "siamese", "T1w")
    assert isinstance(found, Threshold)
    assert isinstance(own, Threshold)
    assert found.value == own.value
    words = own.basis.in_words().replace("above which 0.5 %", "above which 0.1 %")
    assert found.basis.in_words() == f"{words}; from healthy FLAIR scans, as there are no healthy T1w ones"
    assert "from healthy FLAIR scans" in threshold.resolve(rule("rate"), lent, "siamese", "T1w").basis.in_words()
    assert threshold.resolve(rule("0.3"), lent, "siamese", "T1w").basis.in_words() == "given by the user"


def test_each_rule_gives_its_value_and_says_so() -> None:
    texts = ("calibrated", "conformal:0.1", "rate:0.001", "0.3")
    by = {text: threshold.resolve(rule(text), CARD, "siamese", "T1w") for text in texts}
    assert by["calibrated"] == Threshold(0.2, Basis("calibrated", card_rule="by healthy voxels"))
    assert by["conformal:0.1"].value == 18 / 20  # rank 19 of 20
    assert "0.1" in by["conformal:0.1"].basis.in_words()
    assert "20" in by["conformal:0.1"].basis.in_words()
    assert by["rate:0.001"].value == pytest.approx(0.4)
    assert by["rate:0.001"].basis.in_words().startswith("rate: 0.1 % of the model's healthy voxels")
    assert by["0.3"] == Threshold(0.3, Basis("value"))


@pytest.mark.parametrize(
    ("text", "contrast", "says"),
    [
        ("conformal", "FLAIR", "no whole healthy FLAIR scans"),
        ("conformal:0.04", "T1w", "20 healthy scans are too few"),
        ("calibrated", "FLAIR", "no threshold"),
        ("rate", "FLAIR", "no score quantiles"),
        ("rate:0.00001", "T1w", "do not determine the threshold"),
        ("rate:0.2", "T1w", "do not determine the threshold"),
    ],
)
def test_what_the_healthy_scans_do_not_give_is_an_error(text: str, contrast: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        threshold.resolve(rule(text), CARD, "siamese", contrast)


@pytest.mark.parametrize(("kind", "most"), [("siamese", 1), ("ssim", 2), ("absolute", 1)])
def test_a_value_that_no_voxel_can_exceed_is_refused(kind: str, most: float) -> None:
    below = ThresholdRule("value", most - 0.01)
    assert threshold.resolve(below, CARD, kind, "T1w").basis.kind == "value"
    with pytest.raises(UsageError, match=rf"no voxel can exceed a threshold of {most}: .*'{kind}' is at most {most}"):
        threshold.resolve(ThresholdRule("value", most), CARD, kind, "T1w")
    for unlimited in ("fisher", "robust-z", f"z-{kind}"):
        assert threshold.resolve(ThresholdRule("value", 99.0), CARD, unlimited, "T1w").basis.kind == "value"


def test_healthy_comparison_needs_the_settings_of_the_calibration() -> None:
    assert strengths_of(CARD, "siamese", "T1w", DetectConfig()) == CARD.strengths["siamese"]["T1w"]
    assert strengths_of(CARD, "siamese", "FLAIR", DetectConfig()) is None
    other = dataclasses.replace(DetectConfig(), scoring=ScoringConfig(min_volume_mm3=8))
    assert strengths_of(CARD, "siamese", "T1w", other) is None


def test_too_few_healthy_scans_give_no_share_but_the_reason() -> None:
    for count, said in ((0, "no whole healthy T1w scans"), (1, "1 whole healthy T1w scan "), (FEWEST - 1, "8 whole")):
        card = dataclasses.replace(CARD, strengths={"siamese": {"T1w": [0.5] * count}})
        assert strengths_of(card, "siamese", "T1w", DetectConfig()) is None
        assert said in (why_unknown(card, "siamese", "T1w", DetectConfig()) or "")
    enough = dataclasses.replace(CARD, strengths={"siamese": {"T1w": [0.5] * FEWEST}})
    assert strengths_of(enough, "siamese", "T1w", DetectConfig()) == [0.5] * FEWEST
    assert why_unknown(enough, "siamese", "T1w", DetectConfig()) is None
    assert "other settings" in (why_unknown(enough, "siamese", "T1w", OTHERS["median"]) or "")


OTHERS = {
    "min_volume": DetectConfig(scoring=ScoringConfig(min_volume_mm3=8)),
    "median": DetectConfig(scoring=ScoringConfig(median=3)),
    "levels": DetectConfig(reconstruction=ReconstructionConfig(levels=(500,))),
    "overlap": DetectConfig(reconstruction=ReconstructionConfig(overlap=True)),
    "strip": DetectConfig(preprocess=PreprocessConfig(strip="atlas")),
    "percentiles": DetectConfig(preprocess=PreprocessConfig(upper_percentile=98)),
    "bf16": DetectConfig(reconstruction=ReconstructionConfig(arithmetic="bf16")),
}
FREE = ReconstructionConfig(levels=CARD.levels, seed=7, batch_size=3, arithmetic="float32")


def test_conformal_is_approximate_for_scores_with_a_healthy_reference() -> None:
    kinds = {"siamese": False, "z-absolute": True, "fisher": True}
    card = dataclasses.replace(CARD, strengths=dict.fromkeys(kinds, CARD.strengths["siamese"]))
    for kind, nearly in kinds.items():
        assert ("approximately" in threshold.resolve(rule("conformal"), card, kind, "T1w").basis.in_words()) == nearly


@pytest.mark.parametrize("text", ["auto", "calibrated", "rate", "conformal", "0.3"])
def test_thresholds_may_not_hold_under_other_settings(text: str) -> None:
    plain = threshold.resolve(rule(text), CARD, "siamese", "T1w")
    assert "may not hold" not in plain.basis.in_words()
    free = DetectConfig(preprocess=PreprocessConfig(curvature_flow=3, precision="float32"), reconstruction=FREE)
    assert threshold.resolve(rule(text), CARD, "siamese", "T1w", free) == plain
    for name, config in OTHERS.items():
        found = threshold.resolve(rule(text), CARD, "siamese", "T1w", config)
        # the rates of voxels know nothing of components
        silent = text == "0.3" or (name == "min_volume" and text in ("calibrated", "rate"))
        assert ("may not hold" in found.basis.in_words()) != silent, name
        assert found.basis.valid == silent, name
        assert found.value == plain.value
        assert strengths_of(CARD, "siamese", "T1w", config) is None


def test_weights_of_other_settings_are_accepted_for_these() -> None:
    own = PreprocessConfig(bias_field=False, upper_percentile=99.5)
    card = dataclasses.replace(CARD, preprocess=to_dict(own))
    known = strengths_of(card, "siamese", "T1w", DetectConfig(preprocess=own))
    assert known == CARD.strengths["siamese"]["T1w"]
    assert strengths_of(card, "siamese", "T1w", DetectConfig()) is None
    assert "may not hold" in threshold.resolve(rule("auto"), card, "siamese", "T1w").basis.in_words()
    assert (
        "may not hold"
        not in threshold.resolve(rule("auto"), card, "siamese", "T1w", DetectConfig(preprocess=own)).basis.in_words()
    )


def test_best_dice_is_reached_at_its_threshold_and_says_that_it_is_an_oracle() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((12, 13, 14), dtype=bool)
    truth[3:8, 3:8, 3:8] = True
    scores = (rng.random(truth.shape) + truth).astype(np.float32)
    used = threshold.best_dice(scores, truth)
    by_hand = max(dice(scores >= value, truth) for value in np.unique(scores))
    assert dice(scores > used.value, truth) == by_hand
    assert f"{by_hand:.3f}" in used.basis.in_words()
    assert "oracle" in used.basis.in_words()
    with pytest.raises(InputError, match="empty"):
        threshold.best_dice(scores, truth & False)


def test_a_lesion_that_scores_nothing_has_no_dice_by_marking_every_voxel() -> None:
    """Only scores above a threshold are marked, so those of 0 never are."""
    truth = np.zeros((6, 6, 6), dtype=bool)
    truth[:3] = True
    scores = np.where(truth, 0, 0.5).astype(np.float32)
    used = threshold.best_dice(scores, truth)
    assert not (truth & (scores > used.value)).any()
    assert used.basis.dice == 0


class Prepared:
    jacobian = 1.0


def test_scan_and_components_are_counted_against_healthy_scans() -> None:
    score_map = np.zeros((30, 12, 12), dtype=np.float32)
    score_map[2:6, 2:6, 2:6], score_map[12:15, 4:7, 4:7] = 0.42, 0.81
    labels = np.zeros(score_map.shape, dtype=np.uint8)
    labels[score_map == np.float32(0.42)], labels[score_map == np.float32(0.81)] = 1, 2
    healthy = CARD.strengths["siamese"]["T1w"]
    beside = compare_with_healthy(score_map, labels, healthy, Prepared(), DetectConfig())  # type: ignore[arg-type]
    assert (beside.scans, beside.as_strong, beside.components) == (20, 3, [11, 3])
    assert beside.p_value == pytest.approx(4 / 21)
    assert beside.strength == pytest.approx(0.81)
    assert beside.of_scan == {
        "scans": 20, "brains": 20, "as_strong": 3, "share": 0.15, "interval": list(interval_of_share(3, 20)),
        "p_value": 4 / 21,
    }  # fmt: skip
    weaker = beside.of_component(1)
    assert weaker is not None
    assert (weaker["as_strong"], weaker["share"], weaker["p_value"]) == (11, 0.55, 12 / 21)
    assert beside.of_component(3) is None
    nothing = compare_with_healthy(0 * score_map, 0 * labels, healthy, Prepared(), DetectConfig())  # type: ignore[arg-type]
    assert (nothing.as_strong, nothing.components, nothing.p_value) == (20, [], 1.0)


def test_copies_count_as_scans_but_not_as_brains() -> None:
    score_map = np.zeros((30, 12, 12), dtype=np.float32)
    score_map[12:15, 4:7, 4:7] = 0.81
    labels = (score_map > 0).astype(np.uint8)
    healthy = 3 * CARD.strengths["siamese"]["T1w"]
    found = compare_with_healthy(score_map, labels, healthy, Prepared(), DetectConfig(), 2)  # type: ignore[arg-type]
    assert (found.scans, found.brains, found.as_strong) == (60, 20, 9)
    assert found.of_scan["interval"] == pytest.approx(interval_of_share(3, 20))


def test_copies_do_not_make_few_scans_enough() -> None:
    few = dataclasses.replace(CARD, strengths={"siamese": {"T1w": [0.5] * 3 * (FEWEST - 1)}}, degraded=2)
    assert strengths_of(few, "siamese", "T1w", DetectConfig()) is None
    enough = dataclasses.replace(CARD, strengths={"siamese": {"T1w": [0.5] * 3 * FEWEST}}, degraded=2)
    assert strengths_of(enough, "siamese", "T1w", DetectConfig()) == [0.5] * 3 * FEWEST


def test_a_conformal_threshold_names_the_copies() -> None:
    card = dataclasses.replace(CARD, strengths={"siamese": {"T1w": 2 * CARD.strengths["siamese"]["T1w"]}}, degraded=1)
    words = threshold.resolve(rule("conformal:0.1"), card, "siamese", "T1w").basis.in_words()
    assert words.startswith("conformal: at most 0.1 of healthy scans like the model's 20 and a degraded copy of each")
    assert words.endswith("have any finding; approximately, as copies of a brain are alike")


def test_a_score_without_a_threshold_is_refused_before_the_scan_is_prepared(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uadcli.detection import detect
    from uadcli.detection.options import DetectOptions

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the scan was prepared")

    monkeypatch.setattr(detect, "prepare", never)
    brain = phantoms.brain()
    scan = phantoms.save(tmp_path / "a_FLAIR.nii.gz", brain.data, brain.affine)
    options = DetectOptions(weights=str(exported), score="absolute")
    with pytest.raises(UsageError, match="no threshold for the score 'absolute' in FLAIR"):
        detect.detect(scan, options=options)
    with pytest.raises(AssertionError, match="prepared"):
        detect.detect(scan, options=DetectOptions(weights=str(exported), score="absolute", threshold="0.1"))


def test_the_sidecar_says_how_a_threshold_was_chosen_in_fields_and_in_words() -> None:
    """In the words, the doubt about the settings comes first, then the lender, then the doubt about the adaptation."""
    lent = dataclasses.replace(CARD, borrowed={"T1w": "FLAIR"})
    found = threshold.resolve(rule("rate:0.001"), lent, "siamese", "T1w", OTHERS["strip"])
    found = threshold.mismatched(found, "adapted")
    assert isinstance(found, Threshold)
    assert threshold_of(found) == {
        "value": found.value,
        "extent": None,
        "rule": "rate: 0.1 % of the model's healthy voxels lie above; calibrated with different settings; may not hold "
        "for these; from healthy FLAIR scans, as there are no healthy T1w ones; calibrated without --adapt; may not "
        "hold with it",
        "kind": "rate",
        "share": 0.001,
        "borrowed_from": "FLAIR",
        "valid": False,
    }
    given = threshold.mismatched(Threshold(0.3, Basis("value")), "adapted")
    assert threshold_of(given) == {
        "value": 0.3,
        "extent": None,
        "rule": "given by the user",
        "kind": "value",
        "share": None,
        "borrowed_from": None,
        "valid": True,
    }
