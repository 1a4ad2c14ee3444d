"""Quality control: measures of a run with a verdict each, and the worst of them as the scan's."""

from __future__ import annotations

from dataclasses import dataclass

VERDICTS = ("pass", "warn", "fail")


@dataclass(frozen=True)
class Limits:
    """Where a measure stops passing, and where it fails.

    Brain volumes: adults lie between about 0.9 and 1.9 l. Overlap: registered adult heads of the development data lie
    above 0.93; a head placed wrongly, above the template or turned by 90 degrees, falls below 0.8.
    """

    volume_pass_ml: tuple[float, float] = (900.0, 2000.0)
    volume_warn_ml: tuple[float, float] = (600.0, 2400.0)
    overlap_pass: float = 0.88
    overlap_warn: float = 0.80
    border_pass: float = 0.10


@dataclass(frozen=True)
class Check:
    """One measure with its verdict in words."""

    name: str
    value: float
    verdict: str
    text: str


@dataclass(frozen=True)
class Quality:
    """All checks of a scan; `verdict` is the worst of them."""

    verdict: str
    checks: tuple[Check, ...]


def assess(
    brain_volume_ml: float, mask_overlap: float, border_fraction: float, limits: Limits | None = None
) -> Quality:
    """Judge brain volume (ml), Dice of the registered brain mask with the template's, and the mask cut by the border."""
    limits = limits or Limits()
    low, high = limits.volume_pass_ml
    least, most = limits.volume_warn_ml
    volume = "pass" if low <= brain_volume_ml <= high else ("warn" if least <= brain_volume_ml <= most else "fail")
    if mask_overlap >= limits.overlap_pass:
        overlap = "pass"
    else:
        overlap = "warn" if mask_overlap >= limits.overlap_warn else "fail"
    border = "pass" if border_fraction <= limits.border_pass else "warn"
    checks = (
        Check("brain_volume_ml", brain_volume_ml, volume, "volume of the brain mask; look at the mask if not passed"),
        Check("mask_overlap", mask_overlap, overlap, "overlap of the registered brain with the template's brain"),
        Check("border_fraction", border_fraction, border, "part of the brain's surface cut by the field of view"),
    )
    return Quality(max((c.verdict for c in checks), key=VERDICTS.index), checks)
