"""ANTs is imported without the parts that nothing here uses, and whoever uses them later has them all the same."""

from __future__ import annotations

import subprocess
import sys

LEAN = """
import sys
import numpy as np
from uadcli.imaging import registration, template
head = template.head()
found = registration.register_affine(head, head, step_mm=10.0)
assert np.abs(found - np.eye(4)).max() < 1, found
print(*(name in sys.modules for name in ("ants", "statsmodels", "sklearn", "scipy.stats", "matplotlib.pyplot")))
import ants
image = ants.from_numpy(np.arange(64, dtype=np.float32).reshape(4, 4, 4))
print(ants.rank_intensity(image).numpy().max() > 0, "statsmodels" in sys.modules)
print(ants.plot.__module__, ants.sparse_decom2.__module__)
import ants.plotting
print(ants.plotting.plot is ants.plot, hasattr(ants, "never_heard_of"))
"""
USER = """
import ants
before = ants.plot
from uadcli.imaging import registration, template
registration.register_affine(template.head(), template.head(), step_mm=10.0)
print(ants.plot is before, "__getattr__" in vars(ants))
"""


def said(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_unused_parts_are_not_imported_but_can_be_used() -> None:
    assert said(LEAN) == [
        "True False False False False",
        "True True",
        "ants.plotting.plot ants.learn.decomposition",
        "True False",
    ]


def test_an_ants_that_is_there_already_stays_as_it_is() -> None:
    assert said(USER) == ["True False"]
