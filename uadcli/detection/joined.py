"""The findings in several contrasts of one patient: each by itself, then their evidence joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from uadcli.arrays import Array, Mask
from uadcli.data.names import Outputs
from uadcli.data.prepare import Prepared, to_native
from uadcli.detection.examined import Examined, examined
from uadcli.detection.findings import Contribution, Findings, Further, ReadyScan
from uadcli.detection.further import UNUSABLE, left_out, named
from uadcli.detection.session import Session
from uadcli.detection.verdict import judge
from uadcli.errors import InputError, UsageError
from uadcli.imaging.volume import Scan
from uadcli.model import components, joint
from uadcli.model import threshold as thresholds
from uadcli.model.joint import Evidence
from uadcli.scoring.calibration import rarity
from uadcli.scoring.quality import Check, Quality, with_check

SCORE = "joined"


def find(ready: ReadyScan, files: Outputs, session: Session) -> Examined:
    """The first scan under its model, with the findings in all contrasts together. Raises a `UadError`.

    A further contrast that cannot be examined is left out, with a warning.
    """
    alone = replace(session, options=session.options.alone)
    own = examined(replace(ready, labels=None, further=()), files, alone)
    itself = Further(ready.scan.path, ready.scan.sha256, ready.described, ready)
    first = Contribution(itself, own.asked.model, own.findings, _verdict(ready, own.findings))
    evidence = [Evidence(own.asked.contrast, _rarity(own, own.findings.anomaly_map, session), ready.prepared.mask)]
    gave = [first]
    for one in ready.further:
        contribution, more = _contribution(one, session)
        gave.append(contribution)
        evidence += more
    finer = _own_map(ready, own, evidence, session)
    return replace(own, findings=_joined(ready, gave, evidence, finer, session))


def judge_all(verdict: Quality, gave: Sequence[Contribution]) -> Quality:
    """The verdict on the first scan with a check whether all contrasts were joined; the same for a single scan."""
    if not gave:
        return verdict
    missing = [one.of.path.name for one in gave if one.of.left_out]
    text = f"left out: {', '.join(missing)}" if missing else "all contrasts were joined"
    return with_check(verdict, Check("contrasts", None, "warn" if missing else "pass", text))


def _contribution(one: Further, session: Session) -> tuple[Contribution, list[Evidence]]:
    """What a further scan gives; without evidence if it is left out."""
    ready, alignment = one.ready, one.alignment
    if ready is None or alignment is None:
        return Contribution(one), []
    try:
        with named(one.path, session.reporter):
            own = examined(ready, Outputs({}), replace(session, options=session.options.of_further))
            verdict = _verdict(ready, own.findings)
            if verdict == "fail":
                raise InputError("quality control failed")
            if own.findings.distance.beyond:
                raise InputError("is unlike the training scans of the model")
            rare = _rarity(own, own.findings.anomaly_map, session)
    except UNUSABLE as error:
        return Contribution(left_out(one, error.what, session)), []
    evidence = Evidence(own.asked.contrast, alignment.brought(rare), alignment.brought_mask(ready.prepared.mask))
    return Contribution(one, own.asked.model, own.findings, verdict), [evidence]


def _verdict(ready: ReadyScan, findings: Findings) -> str:
    return judge(ready, findings.distance).verdict


def _rarity(one: Examined, values: Array, session: Session) -> Array:
    """How rare scores (X, Y, Z) are among healthy voxels of the contrast. Raises `UsageError` if unknown."""
    asked = one.asked
    card = asked.model.card_by(session.config.reconstruction)
    tail = card.tail_of(asked.score, asked.contrast)
    if not tail:
        what = f"{card.name} has no score quantiles of healthy {asked.contrast} voxels for the score {asked.score!r}"
        raise UsageError(what, hint="Choose another --score or --weights.")
    return rarity(values, tail)


def _own_map(ready: ReadyScan, own: Examined, evidence: Sequence[Evidence], session: Session) -> Array | None:
    """The joined map on the first scan's grid, where its own map has more detail; otherwise None."""
    finer = own.findings.own_map
    return None if finer is None else on_own_grid(_rarity(own, finer, session), evidence, ready.scan, ready.prepared)


def on_own_grid(
    finer: Array, evidence: Sequence[Evidence], scan: Scan, prepared: Prepared, table: joint.Weights | None = None
) -> Array:
    """The joined map (X, Y, Z) on the first scan's canonical grid; `finer` is the rarity of its own map there, and
    `evidence` that of all scans on its model grid. The weights are those of `table`, by default the shipped ones."""

    def brought(values: Array | Mask) -> Array:
        return to_native(values.astype(np.float32), scan, prepared, 1)

    inside = brought(prepared.mask) >= 0.5
    others = [replace(one, rarity=brought(one.rarity), mask=brought(one.mask) >= 0.5) for one in evidence[1:]]
    return joint.joined([Evidence(evidence[0].contrast, finer, inside), *others], inside, table)


def _joined(
    ready: ReadyScan,
    gave: Sequence[Contribution],
    evidence: Sequence[Evidence],
    finer: Array | None,
    session: Session,
) -> Findings:
    """The findings of all contrasts on the first scan's model grid; `finer` is their map on its own grid, if any."""
    prepared = ready.prepared
    anomaly_map = joint.joined(evidence, prepared.mask)
    own = {one.contrast: one.own for one in gave if one.contrast and one.own}
    if ready.labels is not None:
        session.reporter.warn("the threshold was chosen by lesion labels: for comparison with papers only")
        native = to_native(anomaly_map, ready.scan, prepared, 1) if finer is None else finer
        used = thresholds.best_dice(native, ready.labels)
    else:
        used = joint.threshold(session.options.rule, {name: one.threshold for name, one in own.items()})
    marked, table = components.find(anomaly_map, used.value, prepared, session.config, used.extent)
    weights = joint.weights_of(list(own))
    return replace(
        next(iter(own.values())),
        anomaly_map=anomaly_map,
        own_map=finer,
        labels=marked,
        score=SCORE,
        threshold=used,
        components=table,
        comparison=None,
        strength=components.strength_of(anomaly_map, prepared, session.config),
        why_unknown="there are no healthy subjects with several contrasts",
        joined=tuple(replace(one, weight=weights[one.contrast]) if one.contrast and one.own else one for one in gave),
    )
