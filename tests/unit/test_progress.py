"""What takes long says so: it runs within a stage, and the stage counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import cohort
import nibabel as nib
import numpy as np
import phantoms
import pytest
import slow
from stand import Stand

from uadcli.batches import plan
from uadcli.cli.app import main
from uadcli.console import Reporter
from uadcli.data import dataset
from uadcli.evaluation import figures
from uadcli.imaging.slices import GRID_AFFINE
from uadcli.running.stage import Part
from uadcli.training import run_folder
from uadcli.training.examples import slices, synthetic


class Watched:
    """Records the stage in which functions are called, and the text of every stage each time that it moves."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch, self.within, self.said = patch, dict[str, str](), list[str]()
        self._open = ""
        real = Reporter.stage

        @contextmanager
        def stage(reporter: Reporter, name: str) -> Iterator[Any]:
            with real(reporter, name) as one:
                outer, self._open = self._open, f"{self._open}/{name}" if self._open else name
                changed = one.changed

                def moved() -> None:
                    self.said.append(f"{name}: {one.in_words()}")
                    changed()

                one.changed = moved
                try:
                    yield one
                finally:
                    self._open = outer

        patch.setattr(Reporter, "stage", stage)

    def watch(self, module: ModuleType, name: str) -> None:
        """Record in which stage a function is called for the first time."""
        real = getattr(module, name)

        def called(*given: Any, **more: Any) -> Any:
            self.within.setdefault(name, self._open)
            return real(*given, **more)

        self.patch.setattr(module, name, called)

    def counted(self, start: str) -> bool:
        """Whether a stage said a text that begins so."""
        return any(one.startswith(start) for one in self.said)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


def test_every_long_part_of_a_training_is_in_a_stage_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watched: Watched
) -> None:
    arguments = slow.training(tmp_path, monkeypatch)
    labels = np.zeros((96, 96, 80), dtype=np.int16)
    labels[20:70, 20:70, 20:60] = 2
    (tmp_path / "maps").mkdir()
    nib.save(nib.Nifti1Image(labels, GRID_AFFINE), tmp_path / "maps" / "one.nii.gz")  # type: ignore[no-untyped-call]
    monkeypatch.setattr(synthetic, "_on_grid", lambda _: np.zeros((192, 192, 160), dtype=np.int16))
    for module, name in (
        (run_folder, "prepare_all"), (run_folder, "contrast_without_option"), (run_folder, "_healthy"),
        (slices, "load_slices"), (synthetic, "load_healthy"), (synthetic, "load_labels"), (synthetic, "_on_grid"),
    ):  # fmt: skip
        watched.watch(module, name)
    more = ["--set", f"label_maps={tmp_path / 'maps'}", "--out", str(tmp_path / "run")]
    assert main([*arguments, *more]) == 0
    assert watched.within == {
        "prepare_all": "preparation",
        "_healthy": "healthy slices",
        "load_labels": "label maps",
        "_on_grid": "label maps",
        "load_slices": "slices",
        "load_healthy": "slices",
    }
    assert watched.counted("healthy slices: 2 of 3")
    assert any("making synthetic example 2 of 2, about" in one for one in watched.said)
    assert any("making validation example 2 of 2, about" in one for one in watched.said)


def test_preparation_and_checks_of_scans_count(tmp_path: Path, watched: Watched) -> None:
    made, _ = cohort.cohort(tmp_path, dict.fromkeys("abc", False), {"c": "val"})
    watched.watch(dataset, "check")
    assert main(["train", str(made), "--check"]) == 0
    assert watched.within == {"check": "check"}
    assert watched.counted("check: 2 of 3")
    counts = list[tuple[int, int]]()
    cases = dataset.find(made, 0.3)
    for case in cases:
        case.scan.write_bytes(b"broken")
    assert len(dataset.prepare_all(cases, tmp_path / "cache", _settings(), 0, lambda *n: counts.append(n))) == 3
    assert counts == [(1, 3), (2, 3), (3, 3)]


def _settings() -> Any:
    return slow.SETTINGS.preprocess


def test_the_plan_of_a_batch_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watched: Watched) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / "in" / f"{name}_FLAIR.nii").write_text(name)
    Stand(monkeypatch)
    watched.watch(plan, "decide")
    assert main(["batch", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--workers", "0", "--device", "cpu"]) == 0
    assert watched.within == {"decide": "plan"}
    assert watched.counted("plan: 2 of 2")
    assert watched.counted("scans: 2 of 2")


def test_the_statistics_of_an_evaluation_count(tmp_path: Path, watched: Watched) -> None:
    for folder in ("maps", "other", "truth"):
        (tmp_path / folder).mkdir()
        for subject in range(2):
            data = np.zeros((16, 16, 16), np.float32)
            data[2:4, 2:4, 2:4] = 1
            phantoms.save(tmp_path / folder / f"sub-{subject}_FLAIR.nii.gz", data, np.eye(4))
    for module, name in ((figures, "summarise"), (figures, "compare"), (figures, "scan_figures")):
        watched.watch(module, name)
    given = [str(tmp_path / "maps"), str(tmp_path / "other"), "--truth", str(tmp_path / "truth")]
    assert main(["evaluate", *given, "-o", str(tmp_path / "out"), "--threshold", "0.5", "--resamples", "20"]) == 0
    assert set(watched.within.values()) == {"statistics", "compare"}
    assert watched.counted("compare: 4 of 4")
    assert any("intervals of method 2 of 2" in one for one in watched.said)
    assert any("comparing by metric 2 of" in one for one in watched.said)


def test_a_part_of_a_stage_says_how_far_it_is_and_how_long_it_will_take(monkeypatch: pytest.MonkeyPatch) -> None:
    said, now = list[str](), [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    part = Part(said.append, "reading scan")
    for done in range(4):
        part(done, 3)
        now[0] += 20
    assert said == [
        "reading scan 1 of 3",
        "reading scan 2 of 3, about 40 s left",
        "reading scan 3 of 3, about 20 s left",
        "reading scan 3 of 3",
    ]
