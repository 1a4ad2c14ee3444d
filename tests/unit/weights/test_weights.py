"""Weight files: verified, self-describing, and refused where they are not what they should be."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import bundled
import numpy as np
import pytest
import torch

from uadcli.config import (
    DetectConfig,
    EncoderConfig,
    ModelConfig,
    ReconstructionConfig,
    ScoringConfig,
    SiameseConfig,
    UNetConfig,
    to_dict,
)
from uadcli.errors import UsageError, WeightsError
from uadcli.imaging import template
from uadcli.imaging.intensity import robust_z
from uadcli.imaging.slices import GRID_SHAPE
from uadcli.model import model, threshold
from uadcli.model.model import Model
from uadcli.model.subject import Subject
from uadcli.reconstruction.model import ConditionedDiffusion
from uadcli.reconstruction.reconstructors import BY_NAME, build, for_method
from uadcli.scoring import scores
from uadcli.scoring.calibration import rarity
from uadcli.scoring.fusion import FISHER, PARTS
from uadcli.scoring.healthy_reference import Reference, state_of
from uadcli.scoring.siamese import SiameseUNet
from uadcli.settings import methods
from uadcli.settings.threshold import ThresholdRule
from uadcli.weights import checks, registry, weights
from uadcli.weights.card import ModelCard

CARD = ModelCard(
    "m", "1", ("FLAIR",), {"FLAIR": "bright"}, {"bright": {"FLAIR": 0.2}}, "rule", (500,), "[0, 1]", "none", "CC0", 3
)


@pytest.fixture
def saved(tmp_path: Path, tiny: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    torch.manual_seed(1)
    digest = weights.save(tmp_path / "m.safetensors", ConditionedDiffusion(tiny), CARD)
    line = f'[[model]]\nname = "m"\nfile = "m.safetensors"\nsha256 = "{digest}"\ncontrasts = ["FLAIR"]\n'
    (tmp_path / "registry.toml").write_text(line)
    monkeypatch.setenv("UAD_WEIGHTS_DIR", str(tmp_path))
    return tmp_path / "m.safetensors", digest


def test_round_trip_keeps_model_and_card(saved: tuple[Path, str], tiny: ModelConfig) -> None:
    loaded = weights.load(*saved)
    torch.manual_seed(1)
    for ours, theirs in zip(ConditionedDiffusion(tiny).parameters(), loaded.model.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-3)
    assert loaded.card == CARD
    assert loaded.model.config == tiny
    assert loaded.sha256 == saved[1]


def test_a_changed_byte_is_refused(saved: tuple[Path, str]) -> None:
    path, digest = saved
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="sha256"):
        weights.load(path, digest)


@pytest.mark.parametrize("content", [b"", b"nonsense" * 100])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(WeightsError):
        weights.load(tmp_path / "x.safetensors")


def test_safetensors_of_others_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(3)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="does not describe"):
        weights.load(tmp_path / "x.safetensors")


def test_finding(saved: tuple[Path, str], tmp_path: Path) -> None:
    assert weights.find(None, "FLAIR") == saved
    assert weights.find("m") == saved
    assert weights.find(str(tmp_path)) == saved
    with pytest.raises(WeightsError, match="no model covers T2w") as caught:
        weights.find(None, "T2w")
    assert "FLAIR" in caught.value.hint
    assert caught.value.exit_code == 4
    with pytest.raises(WeightsError, match="unknown weights 'q'"):
        weights.find("q")


def test_a_registry_keeps_the_models_that_a_contrast_gets(tmp_path: Path) -> None:
    def entry(name: str, *contrasts: str) -> registry.Entry:
        return registry.Entry(name, f"{name}.safetensors", "0" * 64, contrasts)

    old, t1, others = entry("old", "T1w", "T2w", "FLAIR"), entry("t1", "T1w"), entry("others", "T2w", "FLAIR")
    assert registry.needed([t1, old]) == [t1, old]
    assert registry.needed([others, t1, old]) == [others, t1]
    registry.write(tmp_path, others, t1, comment="# two\n\n")
    assert registry.read(tmp_path) == [others, t1]
    assert (tmp_path / registry.FILE).read_text().startswith("# two\n\n[[model]]")


def test_an_empty_weights_folder_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UAD_WEIGHTS_DIR", raising=False)
    own = registry.folder()
    monkeypatch.setenv("UAD_WEIGHTS_DIR", "")
    assert registry.folder() == own


def test_bundled_models_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UAD_WEIGHTS_DIR", raising=False)
    entries = registry.bundled()
    assert {c for e in entries for c in e.contrasts} == {"T1w", "T2w", "FLAIR"}
    for entry in entries:
        card = weights.load(registry.folder() / entry.file, entry.sha256).card
        assert set(card.scores) == set(entry.contrasts)
        assert all(contrast in card.thresholds[kind] for contrast, kind in card.scores.items())
        for kind, of_score in card.thresholds.items():
            most = scores.find(kind).highest
            clipped = kind == "intensity"  # at 1, which 1 % of a healthy scan has: there the threshold marks nothing
            assert all(0 < value < most or (clipped and value == 1) for value in of_score.values())
        assert card.licence
        assert card.training_data
        assert (registry.folder() / f"{entry.name}.md").exists()


def test_the_score_network_travels_in_the_same_file(tmp_path: Path, tiny: ModelConfig) -> None:
    settings = SiameseConfig(channels=(8, 16))
    torch.manual_seed(2)
    network = SiameseUNet(settings)
    card = dataclasses.replace(CARD, siamese=to_dict(settings))
    weights.save(tmp_path / "m.safetensors", ConditionedDiffusion(tiny), card, network.state_dict())
    loaded = weights.load(tmp_path / "m.safetensors")
    one = Model(loaded)
    again = one.score_network
    assert one.score_network is again  # built once
    for ours, theirs in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-3)
    without = dataclasses.replace(loaded, card=CARD)
    with pytest.raises(WeightsError, match="siamese"):
        _ = Model(without).score_network


def test_the_threshold_belongs_to_score_and_contrast(saved: tuple[Path, str]) -> None:
    loaded = weights.load(*saved)
    assert threshold.resolve(ThresholdRule.parse("calibrated"), loaded.card, "bright", "FLAIR").value == 0.2
    for kind, contrast in (("bright", "T1w"), ("absolute", "FLAIR")):
        with pytest.raises(UsageError, match="threshold"):
            threshold.resolve(ThresholdRule.parse("calibrated"), loaded.card, kind, contrast)


def test_float16_keeps_counters_and_large_values(tmp_path: Path) -> None:
    config = ModelConfig(
        unet=UNetConfig(channels=8, multipliers=(1,), blocks=1, head_channels=8, embedding=16),
        encoder=EncoderConfig(blocks=(1,), width=8, condition=16, norm="batch"),
    )
    model = ConditionedDiffusion(config)
    norm = next(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    norm.num_batches_tracked.fill_(100_001)
    norm.running_var.fill_(1e6)
    weights.save(tmp_path / "m.safetensors", model, CARD)
    again = next(
        m for m in weights.load(tmp_path / "m.safetensors").model.modules() if isinstance(m, torch.nn.BatchNorm2d)
    )
    assert int(again.num_batches_tracked) == 100_001
    assert torch.equal(again.running_var, norm.running_var)


def knowing_health(file: Path, tiny: ModelConfig, kinds: tuple[str, ...]) -> Model:
    """A model with a score network that know the healthy T1w tails behind `fisher`, and a reference for each kind."""
    settings = SiameseConfig(channels=(8, 16))
    tails = {part: {"T1w": [(0.05, 0.1), (0.005, 0.2)]} for part in PARTS["T1w"]}
    shares = {contrast: dict(PARTS[contrast]) for contrast in ("T1w", "FLAIR")}
    card = dataclasses.replace(CARD, siamese=to_dict(settings), tails=tails, shares=shares)
    half = np.full([n // 2 for n in GRID_SHAPE], 1e-3, np.float32)
    known = state_of({(kind.removeprefix("z-"), "T1w"): Reference(half, half) for kind in kinds})
    weights.save(file, ConditionedDiffusion(tiny), card, SiameseUNet(settings).state_dict(), None, known)
    return Model(weights.load(file))


@pytest.mark.parametrize("kind", scores.names())
def test_every_score_is_a_map_inside_the_brain(kind: str, tiny: ModelConfig, tmp_path: Path) -> None:
    loaded = knowing_health(tmp_path / "m.safetensors", tiny, (kind, *PARTS["T1w"]))
    mask = np.zeros(GRID_SHAPE, dtype=bool)
    mask[30:66, 30:66, 38:42] = True
    rng = np.random.default_rng(0)
    x = np.where(mask, rng.uniform(0.3, 0.9, GRID_SHAPE), 0).astype(np.float32)
    recon = np.where(mask, rng.uniform(0.3, 0.9, GRID_SHAPE), 0).astype(np.float32)
    config = DetectConfig(scoring=ScoringConfig(erosion=0, median=1))
    z = np.where(mask, rng.normal(0, 1, GRID_SHAPE), 0).astype(np.float32)
    subject = Subject(loaded, x, recon, mask, config, "T1w", unclipped=z)
    result = subject.score(kind)
    assert result.dtype == np.float32
    assert result.shape == GRID_SHAPE
    assert not result[~mask].any()
    assert result[mask].any()
    assert (result >= 0).all()
    assert (result <= scores.find(kind).highest).all()
    with pytest.raises(UsageError, match="unknown score"):
        subject.score("none")
    with pytest.raises(UsageError, match="no healthy reference for the score 'z-ssim' in FLAIR"):
        dataclasses.replace(subject, contrast="FLAIR").score("z-ssim")


def test_the_robust_z_is_compared_with_health_on_both_sides(tiny: ModelConfig, tmp_path: Path) -> None:
    model = knowing_health(tmp_path / "m.safetensors", tiny, ())
    mask = np.ones(GRID_SHAPE, dtype=bool)
    x = np.random.default_rng(0).normal(0, 1, GRID_SHAPE).astype(np.float32)
    z = robust_z(x, mask)
    for contrast, side in (("T1w", -1), ("FLAIR", 1), ("T2w", 1)):
        subject = Subject(model, x, x, mask, DetectConfig(), contrast, unclipped=x)
        np.testing.assert_array_equal(subject.score("robust-z"), np.maximum(side * z, 0))
        np.testing.assert_array_equal(subject.raw("z-robust-z"), side * z)
    with pytest.raises(UsageError, match="unclipped intensities"):
        Subject(model, x, x, mask, DetectConfig(), "T1w").score("robust-z")
    with pytest.raises(UsageError, match="contrast"):
        Subject(model, x, x, mask, DetectConfig(), unclipped=x).score("robust-z")


def test_fisher_joins_scores_by_the_shares_of_the_card(tiny: ModelConfig, tmp_path: Path) -> None:
    known = knowing_health(tmp_path / "m.safetensors", tiny, ("z-absolute",))
    assert model.shares_of(known.card, "T2w") == {}
    old, other = (
        known.with_card(shares={"T1w": {"log-odds": share, "z-absolute": 1 - share}}) for share in (0.5, 0.25)
    )
    mask = np.zeros(GRID_SHAPE, dtype=bool)
    mask[30:66, 30:66, 38:42] = True
    x = np.where(mask, np.random.default_rng(0).uniform(0.3, 0.9, GRID_SHAPE), 0).astype(np.float32)
    kinds, recon = ("log-odds", "z-absolute", FISHER), (0.5 * x).astype(np.float32)
    for loaded, share in ((old, 0.5), (other, 0.25)):
        subject = Subject(loaded, x, recon, mask, DetectConfig(), "T1w", unclipped=x)
        found = {kind: subject.score(kind) for kind in kinds}
        learned, residual = (rarity(found[kind], loaded.card.tails[kind]["T1w"]) for kind in kinds[:2])
        expected = np.where(mask, np.sqrt(share * learned**2 + (1 - share) * residual**2), 0)
        np.testing.assert_allclose(found[FISHER], expected, atol=1e-5)


def test_what_fisher_joins_must_be_known_of_healthy_scans(tiny: ModelConfig, tmp_path: Path) -> None:
    whole, config = knowing_health(tmp_path / "m.safetensors", tiny, tuple(PARTS["T1w"])), DetectConfig()
    bare = Model(dataclasses.replace(whole.weights, reference_state={}))
    assert [part.name for part in model.parts_of(whole.card, FISHER, "T1w")] == list(PARTS["T1w"])
    whole.check(FISHER, "T1w", config.reconstruction)
    emptied = whole.with_card(tails={**whole.card.tails, "z-absolute": {"T1w": []}})
    other_method = dataclasses.replace(config, reconstruction=ReconstructionConfig(method="diffuse"))
    for loaded, contrast, settings_of, words in (
        (bare, "T1w", config, "no healthy reference for the score 'z-absolute'"),
        (whole, "T2w", config, "no score quantiles of healthy T2w"),
        (whole, "", config, "no score quantiles of healthy scans"),
        (whole, "T1w", other_method, "by diffuse has no score quantiles"),
        (emptied, "T1w", config, "no score quantiles of healthy T1w"),
    ):
        with pytest.raises(UsageError, match=words):
            loaded.check(FISHER, contrast, settings_of.reconstruction)


def test_weights_keep_the_erosion_that_their_reference_was_made_with(tiny: ModelConfig, tmp_path: Path) -> None:
    mask = np.zeros(GRID_SHAPE, dtype=bool)
    mask[30:66, 30:66, 30:50] = True
    x = mask.astype(np.float32)
    reach = {}
    for erosion in (1, 3):
        card = dataclasses.replace(CARD, reference_erosion=erosion)
        weights.save(tmp_path / "m.safetensors", ConditionedDiffusion(tiny), card)
        subject = Subject(Model(weights.load(tmp_path / "m.safetensors")), x, 0 * x, mask, DetectConfig())
        reach[erosion] = [int((subject.raw(kind) > 0).sum()) for kind in ("absolute", "z-absolute")]
    assert reach[1][0] == reach[3][0] == reach[3][1]
    assert reach[1][1] > reach[1][0]
    old = json.loads(json.dumps(dataclasses.asdict(CARD)))
    del old["reference_erosion"]
    assert ModelCard(**old).reference_erosion == 3


def test_residuals_are_compared_with_healthy_scans_without_shading_where_the_card_says_so(
    tiny: ModelConfig, tmp_path: Path
) -> None:
    mask = np.zeros(GRID_SHAPE, dtype=bool)
    mask[16:80, 10:86, 10:70] = True
    healthy = np.where(mask, np.float32(0.5), 0).astype(np.float32)
    slope = np.linspace(0.8, 1.25, GRID_SHAPE[1], dtype=np.float32)[None, :, None]
    found = {}
    for without in (False, True):
        card = dataclasses.replace(CARD, without_shading=without)
        weights.save(tmp_path / "m.safetensors", ConditionedDiffusion(tiny), card)
        model = Model(weights.load(tmp_path / "m.safetensors"))
        subject = Subject(model, healthy * slope, healthy, mask, DetectConfig())
        found[without] = {kind: float(subject.raw(kind).max()) for kind in ("absolute", "z-absolute", "z-bright")}
        assert np.array_equal(subject.recon, healthy)
        assert np.array_equal(subject.shaded, healthy) is not without
    assert found[True]["absolute"] == found[False]["absolute"] > 0.05  # the score without healthy scans stays
    for kind in ("z-absolute", "z-bright"):
        assert found[True][kind] < 0.25 * found[False][kind]


def test_weights_of_earlier_versions_keep_the_shading(tiny: ModelConfig, tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    weights.save(file, ConditionedDiffusion(tiny), dataclasses.replace(CARD, without_shading=True))
    assert weights.load(file).card.without_shading
    content = json.loads(json.dumps(dataclasses.asdict(CARD) | {"model": {**dataclasses.asdict(tiny)}}))
    del content["without_shading"], content["odds_outside_white_matter"], content["guide_radius"]
    values, _ = checks.read_description(json.dumps(content), ModelCard)
    assert values["without_shading"] is False
    assert values["odds_outside_white_matter"] == 1  # their thresholds know no prior
    assert values["guide_radius"] == 0  # nor a filter


@pytest.mark.parametrize(
    ("name", "value"),
    [*(("odds_outside_white_matter", odds) for odds in (0.0, -1.0, 1.5)), ("guide_radius", -1), ("guide_radius", 49)],
)
def test_values_that_cannot_be_are_refused(tiny: ModelConfig, tmp_path: Path, name: str, value: float) -> None:
    weights.save(tmp_path / "m.safetensors", ConditionedDiffusion(tiny), dataclasses.replace(CARD, **{name: value}))
    with pytest.raises(WeightsError, match=name):
        weights.load(tmp_path / "m.safetensors")


def test_the_prior_of_a_model_lowers_fisher_outside_white_matter_alone(tiny: ModelConfig, tmp_path: Path) -> None:
    tail = [(10.0**-n, n / 10) for n in (1, 2, 3)]
    statistics = {"tails": {"absolute": {"T1w": tail}}, "shares": {"T1w": {"absolute": 1.0}}}
    inside = template.white_matter() == 1
    mask = template.on_grid("mni_brain_mask") > 0
    x = np.where(mask, np.float32(0.7), 0).astype(np.float32)
    found = {}
    for odds in (1.0, 0.1):
        card = dataclasses.replace(CARD, odds_outside_white_matter=odds, **statistics)
        weights.save(tmp_path / "m.safetensors", ConditionedDiffusion(tiny), card)
        model = Model(weights.load(tmp_path / "m.safetensors"))
        found[odds] = Subject(model, x, 0 * x, mask, DetectConfig(), "T1w").score("fisher")
    seen = found[1.0] > 1
    assert (found[0.1] == found[1.0])[inside].all()
    far = seen & (template.white_matter() < 0.01)
    np.testing.assert_allclose(found[0.1][far], found[1.0][far] - 1, atol=0.011)
    assert far.sum() > 1000 < (seen & inside).sum()


def test_score_networks_of_earlier_versions_see_the_scan_clipped(tiny: ModelConfig) -> None:
    described = {"channels": [8, 16], "mirror": True}
    for said, seen in ((described, False), (described | {"headroom": True}, True)):
        content = dataclasses.asdict(CARD) | {"model": dataclasses.asdict(tiny), "siamese": said}
        values, _ = checks.read_description(json.dumps(content), ModelCard)
        for known in (values["siamese"], said):  # of a weight file, and of a file of the score network alone
            network = dataclasses.replace(CARD, siamese=known).score_network
            assert network is not None
            assert network.headroom is seen


@pytest.mark.parametrize("method", methods.NAMES)
def test_weights_store_their_method_and_reconstruct_with_it(method: str, tiny: ModelConfig, tmp_path: Path) -> None:
    card = dataclasses.replace(CARD, levels=BY_NAME[method].levels)
    weights.save(tmp_path / "m.safetensors", build(for_method(tiny, method)), card)
    assert weights.trained_method(tmp_path / "m.safetensors") == method
    loaded = Model(weights.load(tmp_path / "m.safetensors"))
    assert loaded.method(ReconstructionConfig()).name == method
    mask = np.zeros(GRID_SHAPE, dtype=bool)
    mask[30:66, 30:66, 40] = True
    x = np.where(mask, np.float32(0.7), 0).astype(np.float32)
    recon = loaded.reconstruct(x, mask, ReconstructionConfig())
    assert recon.shape == GRID_SHAPE
    assert not recon[~mask].any()
    assert recon[mask].any()
    by_slice = loaded.slice_scores(x, recon, mask)
    assert (list(by_slice) if by_slice else None) == ([40] if method == "vae" else None)
    if not BY_NAME[method].draws:
        with pytest.raises(UsageError, match="mahalanobis"):
            loaded.draws(x, mask, ReconstructionConfig())


def test_files_of_earlier_and_later_versions(saved: tuple[Path, str], tiny: ModelConfig, tmp_path: Path) -> None:
    import json

    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(saved[0], framework="pt") as stream:
        text = json.loads(stream.metadata()["uad"])
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    del text["model"]["method"]
    save_file(tensors, tmp_path / "old.safetensors", {"uad": json.dumps(text)})
    assert weights.load(tmp_path / "old.safetensors").model.config == tiny
    assert weights.trained_method(tmp_path / "old.safetensors") == "cddpm"
    text["model"]["method"] = "of-tomorrow"
    save_file(tensors, tmp_path / "new.safetensors", {"uad": json.dumps(text)})
    for read in (weights.load, weights.trained_method):
        with pytest.raises(WeightsError, match="does not fit"):
            read(tmp_path / "new.safetensors")


def test_another_method_needs_its_weights_and_its_threshold(saved: tuple[Path, str]) -> None:
    loaded = Model(weights.load(*saved))
    assert loaded.method(ReconstructionConfig(method="diffuse")).name == "diffuse"
    with pytest.raises(WeightsError, match="uad train DATA --out RUN --method dae"):
        loaded.method(ReconstructionConfig(method="dae"))
    assert (
        threshold.resolve(
            ThresholdRule.parse("calibrated"), model.card_for(loaded.card, "cddpm", "cddpm"), "bright", "FLAIR"
        ).value
        == 0.2
    )
    other = model.card_for(loaded.card, "cddpm", "diffuse")
    with pytest.raises(UsageError, match=r"m by diffuse has no threshold.*Give --threshold a value"):
        threshold.resolve(ThresholdRule.parse("calibrated"), other, "bright", "FLAIR")
    assert threshold.resolve(ThresholdRule.parse("0.3"), other, "bright", "FLAIR").value == 0.3


def test_a_check_that_was_loaded_is_written_as_small_as_it_was_and_keeps_its_values(tmp_path: Path) -> None:
    loaded = weights.load(*weights.find(bundled.T2W))
    file = tmp_path / "again.safetensors"
    weights.save(file, loaded.model, loaded.card, loaded.score_state, loaded.gate_state, loaded.reference_state)
    assert file.stat().st_size == pytest.approx(loaded.path.stat().st_size, abs=100)  # settings may have been added
    again = weights.load(file).gate_state
    assert all(torch.equal(again[name], value) for name, value in loaded.gate_state.items())
    exact = {name: value + 1e-4 if "mean" in name else value for name, value in loaded.gate_state.items()}
    weights.save(file, loaded.model, loaded.card, loaded.score_state, exact, loaded.reference_state)
    assert torch.equal(weights.load(file).gate_state["T2w.mean"], exact["T2w.mean"])
