"""`uad train --score siamese --labels`: train only the score network, on the user's labelled scans.

The reconstruction is that of existing weights and is not changed. Labelled scans alternate with synthetic lesions in
lesion-free slices.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from uadcli import __version__
from uadcli.config import PreprocessConfig, SiameseConfig, TrainingConfig, to_toml
from uadcli.console import Reporter
from uadcli.data import lesion_labels
from uadcli.data.dataset import Case, evenly
from uadcli.data.lesion_labels import LabelledScan
from uadcli.data.prepare import scaled_as, smoothed_as
from uadcli.data.scans import Scans, each_once
from uadcli.errors import InputError, UsageError
from uadcli.files import write_bytes, write_text
from uadcli.imaging import intensity
from uadcli.model.model import Model
from uadcli.scoring.fusion import OUTSIDE_WHITE_MATTER
from uadcli.settings.training import Machine, Taught
from uadcli.training.examples.pool import ExampleMaker
from uadcli.training.examples.synthetic import Healthy, Scene, SceneMaker, Sources, load_healthy
from uadcli.training.run_folder import (
    BASE,
    CACHE,
    TABLE,
    Beginning,
    in_split,
    prepare_usable,
    rows_of,
    usable_cases,
    write_rows,
)

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from uadcli.training.score_network import SiameseTrainer
    from uadcli.weights.weights import Weights

VALIDATED, FEWEST = 8, 3  # held-out cases for choosing the best checkpoint: at most, and at least


class LabelledScenes(SceneMaker):
    """Numbered scenes: the labelled scans in turn, mirrored and degraded at random.

    Every second one has synthetic lesions in a volume of `healthy` of the same contrasts, if there are any.
    """

    def __init__(
        self, labelled: Sequence[LabelledScan], healthy: list[Healthy], preprocess: PreprocessConfig, seed: int
    ) -> None:
        free = [one for one in healthy if len(one.usable)]
        super().__init__(Sources(free, contrasts={one.kind for one in free}), preprocess, seed)
        self.labelled, self.every = labelled, 2 if free else 1

    def draw(self, number: int) -> Scene:
        """The scene with this number; it depends only on number and seed."""
        turn, synthetic = divmod(number, self.every)
        if synthetic:
            return super().draw(number)
        one, rng = self.labelled[turn % len(self.labelled)], np.random.default_rng([self.seed, number])
        side = -1 if rng.random() < 0.5 else 1
        return self.degraded(one.data[::side], one.mask[::side], one.truth[::side], one.usable, rng)

    def unmodified(self, one: LabelledScan) -> Scene:
        """The scene of a labelled scan as it is: only scaled."""
        x, above = (f(one.data, one.mask, self.preprocess) for f in (intensity.scale, intensity.headroom))
        return Scene(x, one.mask, one.truth, one.usable, headroom=above)


def beginning(data: Path, config: TrainingConfig, taught: Taught, reporter: Reporter) -> Beginning:
    """What a run on the scans of `data` begins with, with masks and weights, or the bundled ones. Writes nothing.

    Raises `InputError` if scans and masks do not match, there is no lesion to train on, or the weights do not cover a
    scan's contrast; and `WeightsError`.
    """
    labels = taught.labels
    assert labels is not None
    if config.siamese.steps < 1:
        raise UsageError(
            "siamese.steps must be at least 1 with --labels", hint="It is the score that learns from them."
        )
    cases = in_split(lesion_labels.find(data, labels, config.validation_share, reporter), reporter)
    lesion_labels.check(cases, labels)
    base = base_for(cases, taught.weights, reporter)
    return Beginning(data, cases, _as_base(config, base, reporter), base)


def begin(beginning: Beginning, out: Path, labels: Path, machine: Machine, reporter: Reporter) -> None:
    """Begin a run: prepare the scans with masks in `labels`, then train.

    Raises `InputError` if no lesion to train on is left, or a contrast is none of the weights'.
    """
    config, base = beginning.config, beginning.base
    assert base is not None
    cases = each_once(beginning.cases, reporter)
    scans = Scans(out / CACHE, config.preprocess)
    prepared = prepare_usable(cases, scans, machine.workers, reporter)
    _refuse_uncovered(list(prepared.values()), base)
    more = lesion_labels.rows(prepared, scans, reporter)
    usable = {scan: case for scan, case in prepared.items() if not more[scan].get("fault")}
    if not any(more[scan]["lesion_voxels"] for scan, case in usable.items() if case.part == "train"):
        raise lesion_labels.nothing_to_learn(labels)
    write_rows(out / TABLE, cases, prepared, more)
    write_bytes(out / BASE, base.path.read_bytes())
    write_text(out / "config.toml", to_toml(config))  # last: from here on the run can be resumed
    go_on(out, config, machine, reporter, scans)


def base_for(cases: Sequence[Case], name: str | None, reporter: Reporter) -> Weights:
    """The weights called `name`, or the bundled ones for the contrasts in the names of the scans.

    Raises `InputError` if a name has no contrast, or one that the weights do not cover; `UsageError` if no bundled
    model covers all of them; and `WeightsError`.
    """
    from uadcli.weights import registry, weights

    contrasts = sorted({case.contrast for case in cases})
    if name is None and "" in contrasts:
        unknown = next(case for case in cases if not case.contrast)
        hint = "Name it as in sub-01_FLAIR.nii.gz, or give --weights."
        raise InputError("the name does not give the contrast", path=unknown.scan, hint=hint)
    several = name is None and len(contrasts) > 1
    if several and not any(set(contrasts) <= set(one.contrasts) for one in registry.bundled()):
        what = f"no bundled model covers {' and '.join(contrasts)}"
        raise UsageError(what, hint="Train on one contrast at a time, or give --weights.")
    base = weights.load(*weights.find(name, *contrasts, reporter=reporter))
    _refuse_uncovered([case for case in cases if case.contrast], base)
    return base


def _refuse_uncovered(cases: Sequence[Case], base: Weights) -> None:
    for case in cases:
        if case.contrast not in base.card.contrasts:
            covered = ", ".join(base.card.contrasts)
            what = f"is {case.contrast}, but {base.card.name} covers {covered}"
            raise InputError(what, path=case.scan, hint="Leave it out, or give other --weights.")


def _as_base(config: TrainingConfig, base: Weights, reporter: Reporter) -> TrainingConfig:
    """The settings with the network, smoothing and scaling of the weights."""
    preprocess = smoothed_as(config.preprocess, base.card.curvature_flow, reporter)
    preprocess = scaled_as(preprocess, base.card.scaling, reporter)
    return dataclasses.replace(config, preprocess=preprocess, model=base.model.config)


def go_on(out: Path, config: TrainingConfig, machine: Machine, reporter: Reporter, scans: Scans | None = None) -> None:
    """Continue a run from its checkpoint, in one process, on a GPU if there is one."""
    from uadcli.training import devices, log, score_network
    from uadcli.weights import weights

    base, scans = weights.load(out / BASE), scans or Scans(out / "cache", config.preprocess)
    where = devices.one_process(machine)
    cases = usable_cases(out)
    training = [case for case in cases if case.part == "train"]
    scorer = _scorer(out, config, base, where, reporter)
    with reporter.stage("score"):
        labelled, healthy = lesion_labels.load(training, scans), load_healthy(training, scans)
        scenes = LabelledScenes(labelled, healthy, config.preprocess, config.siamese.seed)
        maker = ExampleMaker(scenes, Model(base, str(where.device)), scorer.config.headroom, machine.workers)
        known = starts_from(base, scorer.config)
        left = score_network.is_left(scorer, to_beat=known)
        held_out = lesion_labels.load([c for c in cases if c.part == "val"], scans) if left else []
        examples = [maker.example(scenes.unmodified(one)) for one in _validated(held_out, reporter)] if left else []
        if examples and not scorer.done:
            auprc = scorer.auprc(examples)  # None if their lesions are in no slice with enough brain
            if auprc is not None:
                reporter.info(f"AUPRC {auprc:.3f} on {len(examples)} held-out cases before any step")
        score_network.fit(scorer, maker, out / "siamese", reporter, examples, to_beat=known and bool(examples))
    log.write_page(out, {"score": out / "siamese"})
    reporter.info(f"trained; next: uad calibrate {out} HEALTHY")


def _scorer(out: Path, config: TrainingConfig, base: Weights, where: Fabric, reporter: Reporter) -> SiameseTrainer:
    """The score network of the run's checkpoint; at the start that of the weights, if it has the same sizes."""
    from uadcli.training import checkpoint
    from uadcli.training.score_network import SiameseTrainer

    steps = min(config.siamese.steps, config.max_steps or config.siamese.steps)
    found = checkpoint.find(out / "siamese")
    if found:
        return SiameseTrainer.load(found, where, steps=steps, learning_rate=config.siamese.learning_rate)
    scorer = SiameseTrainer(dataclasses.replace(config.siamese, steps=steps))
    if starts_from(base, config.siamese):
        scorer.start_from(Model(base).score_network)
        reporter.info(f"the score network starts from that of {base.card.name}")
    else:
        reporter.warn(f"{base.card.name} has no score network of these sizes: it is trained from scratch")
    scorer.place(where)
    return scorer


def starts_from(base: Weights, config: SiameseConfig) -> bool:
    """Whether a score network of these sizes can start from that of the weights."""
    sizes = base.card.score_network
    return sizes is not None and sizes.channels == config.channels and sizes.mirror <= config.mirror


def _validated(held_out: Sequence[LabelledScan], reporter: Reporter) -> list[LabelledScan]:
    """Up to eight of the held-out cases with lesions, evenly spaced; empty if there are too few."""
    ill = [one for one in held_out if one.truth.any()]
    if len(ill) < FEWEST:
        few = f"held-out cases with lesions: {len(ill)}, fewer than {FEWEST}"
        reporter.warn(f"{few}: the last checkpoint is used, not the best")
        return []
    return evenly(ill, VALIDATED)


def is_supervised(run: Path) -> bool:
    """Whether a run trains the score network on labelled cases. Raises `InputError` if it has no `data.tsv`."""
    return any("lesion_voxels" in row for row in rows_of(run / "data.tsv"))


def weights_of(run: Path, scorer: SiameseTrainer) -> Weights:
    """The run's score network with reconstruction and out-of-distribution check of its weights, not calibrated yet."""
    from uadcli.scoring.fusion import POWER
    from uadcli.scoring.healthy_reference import EROSION
    from uadcli.scoring.siamese import ALONG
    from uadcli.training.card import guide_radius, score_settings
    from uadcli.weights import weights

    base = weights.load(run / BASE)
    rows = [row for row in rows_of(run / "data.tsv") if row["part"] == "train" and not row["fault"]]
    starts = starts_from(base, scorer.config)
    counts = Counter(row["contrast"] for row in rows)
    scans = ", ".join(f"{n} {contrast} scans" for contrast, n in sorted(counts.items()))
    ill = sum(int(row["lesion_voxels"]) > 0 for row in rows)
    before = f"Reconstruction{' and first training of the score network' if starts else ''}"
    card = dataclasses.replace(
        base.card,
        name=run.name,
        version=__version__,
        scores=dict.fromkeys(base.card.contrasts, "siamese"),
        thresholds={},
        threshold_rule="",
        strengths={},
        tails={},
        along_slices=ALONG,
        guide_radius=guide_radius(base.card.contrasts),
        fusion_power=POWER,
        reference_erosion=EROSION,
        without_shading=True,
        odds_outside_white_matter=OUTSIDE_WHITE_MATTER,
        training_data=(
            f"Score network: {scans} of the user with lesion masks ({ill} with lesions), and synthetic lesions in "
            f"their slices without. {before}: {base.card.name}, sha256 {base.sha256[:12]} ({base.card.training_data})"
        ),
        licence=f"{base.card.licence}; for the score network also that of the labelled scans",
        siamese=score_settings(scorer, base.card if starts else None),
        labelled_cases=len(rows) + (base.card.labelled_cases if starts else 0),
    )
    return weights.Weights(base.model, card, run, "", scorer.average.state_dict(), base.gate_state)
