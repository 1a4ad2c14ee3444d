"""Shared by the development scripts: the severity axis of a model, fitted to lesions pasted into held-out scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from development import Case
from scenes import CONFIG
from scipy import stats
from severity import Axis, Change, fit, leave_one_out
from severity_lesions import STEPS, changes_of

from uadcli.data.healthy import brain_slices
from uadcli.data.scans import Scans
from uadcli.evaluation.statistics import auroc_over_scans
from uadcli.model.model import Model
from uadcli.model.out_of_distribution import gate_of, has_encoder, vectors
from uadcli.scoring.out_of_distribution import Gate, Part
from uadcli.training.examples.synthetic import load_healthy


def number(value: float | None) -> float:
    """NaN for what is unknown."""
    return np.nan if value is None else value


@dataclass(frozen=True)
class Severities:
    """The severity of each case, held-out ones by an axis fitted to the other ones; what was pasted, and those axes."""

    of: dict[Case, float | None]
    changes: list[Change]
    axes: dict[int, Axis]
    held_out: Sequence[Case]

    def growth(self) -> str:
        """How the severity of held-out brains grows with the lesions pasted into them, as cells of a table."""
        moved = np.array([self.axes[one.brain].of_change(one) for one in self.changes])
        grows = np.diff(moved.reshape(-1, len(STEPS)), axis=1, prepend=0).min(axis=1) > 0
        loads = [one.load.sum() for one in self.changes]
        before = {i: number(self.of[self.held_out[i]]) for i in self.axes}
        whole = range(len(STEPS) - 1, len(self.changes), len(STEPS))
        pasted = [before[self.changes[i].brain] + moved[i] for i in whole]
        subjects = [str(i) for i in self.axes] + [str(self.changes[i].brain) for i in whole]
        found = auroc_over_scans([*before.values(), *pasted], [False] * len(before) + [True] * len(pasted), subjects)
        rho = stats.spearmanr(moved, loads).statistic
        return f"{len(pasted)} in {len(self.axes)} brains | {grows.sum()} | {rho:.2f} | {found.value:.3f}"


def severities(chosen: Sequence[Case], cache: Path, model: Model, contrast: str) -> Severities | None:
    """The severity of cases, from the slices that count as healthy but for patients of the development scans.

    None without two held-out cases, or if the model has no encoder or no out-of-distribution check by its vectors.
    """
    network, gate = model.weights.model, gate_of(model.weights.gate_state, contrast)
    if not isinstance(gate, Gate) or not has_encoder(network):
        return None
    scans = Scans(cache, CONFIG.preprocess)
    held_out = [case for case in chosen if case.part == "val"]
    if len(held_out) < 2:
        return None
    changes = changes_of(network, load_healthy(held_out, scans), CONFIG.preprocess)
    axes, whole = leave_one_out(changes, gate), fit(changes, gate)

    def part(case: Case) -> Part:
        prepared = scans.prepared(case.scan)
        slices = brain_slices(prepared.mask) if case.part == "dev" else scans.healthy_slices(case)
        return vectors(network, prepared.scaled(CONFIG.preprocess), slices), slices

    by = {case: axes[i] for i, case in enumerate(held_out) if i in axes}
    return Severities({case: by.get(case, whole).of_scan(part(case)) for case in chosen}, changes, axes, held_out)
