"""The tables of `join_dev.py` and `scan_level.py`."""

from __future__ import annotations

from development_scripts import said

from uadcli.model import joint


def test_every_set_of_other_weights_is_joined_and_compared() -> None:
    found = said(
        """
import pathlib, types
import numpy as np
import join_dev
from join_dev import Evidence, Row, Scored, Threshold

ones = np.ones((2, 2, 2), np.float32)
rare = {"FLAIR": 4 * ones, "T1w": 0 * ones}
join_dev.prepare_cached = lambda *given: types.SimpleNamespace(mask=ones > 0)
join_dev.scored = lambda case, *given: Scored(rare[case.contrast], rare[case.contrast], None)
join_dev.row = lambda case, contrast, prepared, found: Row("", "", contrast, 0.5, float(found.values.max()), 2.0, 1.0)
join_dev.same_patient = types.SimpleNamespace(
    align=lambda *given: types.SimpleNamespace(brought=lambda v: v, brought_mask=lambda v: v), fault=lambda *given: ""
)
join_dev.read_scan = lambda path: None
join_dev.joint.threshold = lambda *given: None
patient = [types.SimpleNamespace(contrast=name, scan=pathlib.Path(name)) for name in rare]
weights = [{"FLAIR": 0.5, "T1w": 0.5}, {"FLAIR": 0.25, "T1w": 0.75}, {"FLAIR": 0.5, "T2w": 0.5}]
rows = list(join_dev.rows_of(patient, dict.fromkeys(rare), None, weights))
join_dev.summary(rows)
"""
    )
    own = joint.weights_of(["FLAIR", "T1w"])["FLAIR"]
    differences = {cells[0]: cells[7] for line in found if len(cells := line.split(" | ")) == 12}
    assert {name: value.split()[0] for name, value in differences.items() if "joined, " in name} == {
        "| joined, FLAIR=0.5,T1w=0.5": f"{4 * own - 2:+.3f}",  # 4 in FLAIR alone, 0 in T1w
        "| joined, FLAIR=0.25,T1w=0.75": f"{4 * own - 1:+.3f}",
    }
    assert found[-4].endswith(f"| 1.000 | 1.000 | +0.000 (+nan to +nan) | 1, by at most {4 - 4 * own:.3f} |")


def test_scans_of_other_scanners_are_compared_by_themselves_unless_there_is_but_one() -> None:
    found = said(
        """
import types
import numpy as np
from scan_level import Strength, against_other_scanners

def scan(part, sick):
    return Strength(types.SimpleNamespace(part=part, lesions="a" if sick else None), 0.0)

own, other, ill = scan("val", False), scan("healthy", False), scan("dev", True)
for scans, values in (([own, own, other, other, ill], [0, 1, 5, 2, 3]), ([own, own, other, ill], [0, 1, 2, 3])):
    print(against_other_scanners(np.array(values, float), scans, [str(i) for i in range(len(scans))]).value)
"""
    )
    assert found == ["0.5", "nan"]


def test_a_model_of_scans_that_are_prepared_otherwise_is_refused() -> None:
    """Its maps of scans prepared as here would be those of other inputs than it was trained on."""
    found = said(
        """
import dataclasses
import scenes
from uadcli.errors import UsageError
from uadcli.weights import weights
path, digest = weights.find(None, "T1w")
bundled = weights.load(path, digest)
for changes in ({}, {"scaling": "tissue"}, {"curvature_flow": 3}):
    card = dataclasses.replace(bundled.card, **changes)
    scenes.model.load = lambda *_: scenes.Model(dataclasses.replace(bundled, card=card))
    try:
        print(*scenes.models(path.stem))
    except UsageError as error:
        print(error.what)
"""
    )
    assert found[0] == "T1w"
    assert "these weights need tissue" in found[1]
    assert "curvature flow" in found[2]
