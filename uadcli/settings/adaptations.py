"""The names of the ways of adapting a model: those of the files in `model/ways/`.

Only what options need to know without loading torch.
"""

from __future__ import annotations

BY_HEALTHY_SCANS = ("residual", "condition")  # of the scanner
USUAL = "residual"  # of those, if none is asked for
BY_SCAN = ("low-rank",)  # the one to examine
NAMES = (*BY_HEALTHY_SCANS, *BY_SCAN)
