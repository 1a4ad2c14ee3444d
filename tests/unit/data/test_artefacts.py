"""Signs of damage: each is flagged where a phantom has it, at any scale of the intensities, and is silent elsewhere."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from uadcli import contrasts
from uadcli.config import PreprocessConfig
from uadcli.data import artefacts, prepare
from uadcli.data.artefacts import Artefacts, measure
from uadcli.data.prepare import Stripped, common_scale
from uadcli.imaging import geometry, template
from uadcli.imaging.geometry import resample
from uadcli.imaging.levels import levelled
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE
from uadcli.imaging.volume import Volume
from uadcli.report import phrases
from uadcli.scoring import quality

SCRIPT = Path(__file__).parents[3] / "packaging" / "evaluation" / "artefacts.py"


def script() -> ModuleType:
    """The script that makes the artefacts of the table in the documentation."""
    spec = importlib.util.spec_from_file_location("evaluation_artefacts", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


DAMAGE = script()
MAKE = {one.name: one.make for one in DAMAGE.ARTEFACTS}
MAKE["three ghosts"] = DAMAGE.on_data(lambda data: DAMAGE.ghosting(data, 0.9, 3))  # a small field of view takes more
FLAGS = {  # what a damaged head is flagged by, at least
    "three ghosts": "ghosts",
    "spikes, strong": "spikes",
    "empty slices": "empty_slices",
    "15 mm of slices left out": "slice_step",
    "empty front quarter": "coverage",
    "left half empty": "coverage",
    "without the vertex (a fifth)": "coverage",
    "six grey values": "grey_values",
    "bias, extreme": "bias",
    "noise of 10 %": "noise",
    "noise of 25 %": "noise",
}


AIR = ((12, 12), (12, 12), (0, 0))  # voxels around the template's head


def head(seed: int = 0) -> Volume:
    """The template's head in weak noise, as magnitude images have it, with air around."""
    source, rng = template.head(), np.random.default_rng(seed)
    data = np.pad(source.data, AIR)
    one, two = (rng.normal(0, 3, data.shape) for _ in range(2))
    affine = source.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ [12, 12, 0]
    return Volume(np.hypot(data + one, two).astype(np.float32), affine)


BRAIN = np.pad(template.brain_mask(), AIR)


def stripped(volume: Volume) -> Volume:
    return Volume(np.where(BRAIN, volume.data, 0).astype(np.float32), volume.affine)


def brain_in(volume: Volume) -> np.ndarray:
    """The template's brain on the grid of a phantom."""
    to_own = np.linalg.inv(template.head().affine) @ volume.affine
    places = np.indices(volume.shape).reshape(3, -1)
    inside = template.brain_mask().astype(np.uint8)
    found = ndimage.map_coordinates(inside, to_own[:3, :3] @ places + to_own[:3, 3:], order=0)
    return np.asarray(found.reshape(volume.shape) > 0)


ON_GRID = template.on_grid("mni_brain_mask") > 0
FIELD = np.exp(np.linspace(-0.2, 0.2, GRID_SHAPE[0], dtype=np.float32))[:, None, None]  # that a phantom is divided by


def resampled(volume: Volume) -> np.ndarray:
    return resample(volume.data, volume.affine, GRID_SHAPE, GRID_AFFINE, np.eye(4), order=3, antialias=True)


def prepared(volume: Volume, field: np.ndarray = FIELD) -> Any:
    """A phantom's part of `Prepared`: a registration that it has by its making, and a field that was corrected."""
    return SimpleNamespace(world_map=np.eye(4), mask=ON_GRID, data=np.where(ON_GRID, resampled(volume) / field, 0))


def measured(volume: Volume) -> Artefacts:
    level = common_scale(volume)[0].volume
    return measure(volume, Stripped(level, brain_in(volume), np.eye(4)), prepared(level))


def verdict_of(name: str, volume: Volume) -> str:
    """The verdict of one measure alone, which is quicker."""
    level = levelled(volume).volume
    brain = brain_in(volume) & (level.data > 0)
    one = {
        "noise": lambda: artefacts.noise(level, brain),
        "ghosts": lambda: artefacts.ghosts(level, brain, np.eye(4)),
        "spikes": lambda: artefacts.spikes(level),
        "empty_slices": lambda: artefacts.empty_slices(level.data),
        "slice_step": lambda: artefacts.slice_step(level, brain),
        "bias": lambda: artefacts.bias(resampled(level), ON_GRID),
        "grey_values": lambda: artefacts.grey_values(volume.data, brain),
        "coverage": lambda: artefacts.coverage(level, np.eye(4)),
    }[name]
    return quality.assess(quality.Measures(None, None, None, artefacts={name: one()})).checks[-1].verdict


def verdicts(found: Artefacts) -> dict[str, str]:
    good: dict[str, Any] = {"brain_volume_ml": 1400, "mask_overlap": 0.95, "border_fraction": 0.0}
    return {
        check.name: check.verdict
        for check in quality.assess(quality.Measures(**good, artefacts=asdict(found))).checks[-9:]
    }


def test_every_measure_has_limits_a_text_and_sentences() -> None:
    assert set(asdict(Artefacts())) == set(quality.ARTEFACT_LIMITS)
    assert all({"pass", "warn", "fail"} == set(phrases.CHECKS[name]) for name in quality.ARTEFACT_LIMITS)


def test_an_undamaged_head_passes_all() -> None:
    assert set(verdicts(measured(head())).values()) == {"pass"}


def test_a_stripped_brain_passes_all_but_what_needs_air() -> None:
    found = verdicts(measured(stripped(head())))
    assert found.pop("ghosts") == quality.NOT_COMPUTED
    assert set(found.values()) == {"pass"}


@pytest.mark.parametrize(("name", "check"), FLAGS.items())
def test_a_damaged_head_is_flagged(name: str, check: str) -> None:
    assert verdict_of(check, MAKE[name](head())) in ("warn", "fail")


@pytest.mark.parametrize(
    "name", ["empty front quarter", "left half empty", "lower third missing", "upper half missing"]
)
def test_a_missing_part_of_the_brain_fails(name: str) -> None:
    assert verdict_of("coverage", MAKE[name](head())) == "fail"


@pytest.mark.parametrize("name", [name for name, check in FLAGS.items() if check != "ghosts"])
def test_so_is_a_damaged_brain_without_its_head(name: str) -> None:
    damaged = MAKE[name](stripped(head()))
    damaged = stripped(damaged) if damaged.shape == BRAIN.shape else damaged
    assert verdict_of(FLAGS[name], damaged) in ("warn", "fail")


@pytest.mark.parametrize(("slope", "shift"), [(1e-6, 0), (3, -1024)])
def test_an_increasing_linear_map_changes_no_measure(slope: float, shift: float) -> None:
    damaged = MAKE["three ghosts"](head())
    moved = Volume((damaged.data.astype(np.float64) * slope + shift).astype(np.float32), damaged.affine)
    found = asdict(measured(moved))
    for key, value in asdict(measured(damaged)).items():
        assert found[key] == pytest.approx(value, rel=2e-3, abs=2e-3), key


def test_the_scan_that_was_brought_to_the_grid_is_not_brought_there_again(monkeypatch: pytest.MonkeyPatch) -> None:
    volume, orders = head(), list[int]()
    one = Stripped(common_scale(volume)[0].volume, brain_in(volume), np.eye(4))
    ready = prepared(one.volume)

    def counted(*arguments: Any, order: int = 1, **more: Any) -> np.ndarray:
        orders.append(order)
        return resample(*arguments, order=order, **more)

    monkeypatch.setattr(geometry, "resample", counted)
    assert np.array_equal(prepare._on_grid(one, PreprocessConfig()), resampled(one.volume))
    measure(volume, one, ready)
    assert orders.count(3) == 1


def test_what_cannot_be_measured_is_none() -> None:
    rng = np.random.default_rng(0)
    nothing = Volume(rng.random((30, 30, 30), dtype=np.float32), np.eye(4))
    empty: Any = SimpleNamespace(world_map=np.eye(4), mask=np.zeros(GRID_SHAPE, bool))
    assert measure(nothing, Stripped(nothing, np.zeros(nothing.shape, bool), np.eye(4)), empty) == Artefacts()
    on_grid = np.ones(GRID_SHAPE, np.float32)
    assert artefacts.bias(on_grid, empty.mask) is None
    assert artefacts.bias_corrected(on_grid, on_grid / 2, empty.mask) is None
    assert artefacts.bias_corrected(on_grid, on_grid, ON_GRID) is None  # no field was fitted
    assert artefacts.spikes(Volume(np.zeros((20, 20, 20), np.float32), np.eye(4))) is None
    few = np.zeros((4, 4, 4), bool)
    assert artefacts.slice_step(Volume(np.zeros((4, 4, 4), np.float32), np.eye(4)), few) is None
    assert artefacts.noise(Volume(np.zeros((4, 4, 4), np.float32), np.eye(4)), few) is None


def test_a_strong_correction_of_bias_is_flagged_by_contrast() -> None:
    level = resampled(levelled(stripped(head())).volume)
    for strength, expected in ((0.2, set()), (0.35, {"T2w", "FLAIR"}), (0.5, {"T1w", "T2w", "FLAIR"})):
        found = artefacts.bias_corrected(level, level / FIELD ** (strength / 0.2), ON_GRID)
        assert found == pytest.approx(np.exp(2 * strength * 0.67), rel=0.1)  # the brain is as wide as 0.67 of the grid
        flagged = {
            name
            for name, one in contrasts.ALL.items()
            if quality.assess(
                quality.Measures(None, None, None, artefacts={"bias_corrected": found}, upper_limits=one.quality)
            ).verdict
            != "pass"
        }
        assert flagged == expected


def test_air_that_was_set_to_zero_says_nothing_of_ghosts() -> None:
    ghosted = MAKE["three ghosts"](head())
    cleared = np.where(np.pad(template.head().data, AIR) > 40, ghosted.data, 0).astype(np.float32)
    assert measured(Volume(cleared, ghosted.affine)).ghosts is None


def test_coverage_is_that_of_the_templates_brain_in_the_field_of_view() -> None:
    whole = head()
    assert artefacts.coverage(whole, np.eye(4)) == 1
    inside = np.argwhere(template.on_grid("mni_brain_mask") > 0)
    low = float(np.percentile(inside[:, 2] * GRID_AFFINE[2, 2] + GRID_AFFINE[2, 3], 25))
    start = round((low - whole.affine[2, 3]) / whole.affine[2, 2])
    data = whole.data.copy()
    data[..., :start] = 0  # empty, or cut off
    affine = whole.affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, start], [0, 0, 0, 1.0]])
    for one in (Volume(data, whole.affine), Volume(whole.data[..., start:], affine)):
        assert artefacts.coverage(one, np.eye(4)) == pytest.approx(0.75, abs=0.02)
