"""The names of the bundled models, which change with every new one."""

from __future__ import annotations

from uadcli.weights import registry

T1W, T2W, FLAIR = (next(e.name for e in registry.bundled() if c in e.contrasts) for c in ("T1w", "T2w", "FLAIR"))
