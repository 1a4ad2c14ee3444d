"""What quality control measures of a prepared scan, of one to examine as of a healthy one to adapt by."""

from __future__ import annotations

import dataclasses

from uadcli import contrasts
from uadcli.data.artefacts import Artefacts
from uadcli.data.prepare import Prepared
from uadcli.scoring import quality


def measures(prepared: Prepared, contrast: str, signs: Artefacts) -> quality.Measures:
    """What quality control measures of a prepared scan of a contrast, before a model sees it."""
    return quality.Measures(
        prepared.brain_volume_ml,
        prepared.mask_overlap,
        prepared.border_fraction,
        stretch=prepared.stretch,
        similarity=prepared.similarity,
        similarity_limits=contrasts.ALL[contrast].similarity,
        artefacts=dataclasses.asdict(signs),
        upper_limits=contrasts.ALL[contrast].quality,
    )
