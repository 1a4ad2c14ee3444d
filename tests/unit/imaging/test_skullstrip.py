"""Brain masks: stripped or not, and without holes."""

from __future__ import annotations

import numpy as np
import phantoms

from uadcli.imaging import skullstrip, template


def test_a_stripped_brain_is_recognised_and_a_head_is_not() -> None:
    assert skullstrip.looks_stripped(phantoms.brain())
    assert not skullstrip.looks_stripped(template.head())
    found = skullstrip.extract(phantoms.brain(), "hd-bet")
    assert found.method == "already stripped"


def test_holes_are_filled_in_every_slice() -> None:
    mask = np.zeros((20, 20, 4), dtype=bool)
    mask[4:16, 4:16] = True
    mask[8:10, 8:10] = False  # open to top and bottom
    assert skullstrip.fill(mask)[9, 9, 0]
