"""Weights, registries, sidecars, tables, settings and checkpoints that are damaged: each is a value or a `UadError`.

`make fuzz` runs UAD_FUZZ cases of each kind; in `make test` it is a share. A case is its number (see `test_reader`).
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import limits
import pytest
import torch
from damage import CASES, FIRST, RUBBISH, damaged, each, odd_values
from hub import Hub
from stand import OPTIONS, Stand, counts, run

from uadcli.batches import inputs, tables
from uadcli.config import DetectConfig, TrainingConfig, read_toml, to_toml, with_settings
from uadcli.console import Reporter
from uadcli.data import dataset
from uadcli.doctor import examine
from uadcli.evaluation import marking
from uadcli.evaluation.table import from_table
from uadcli.weights import cache as caches
from uadcli.weights import hub as client
from uadcli.weights import manage, registry, weights


@pytest.fixture
def file(exported: Path) -> Path:
    return exported / "tiny 1.safetensors"


def test_bytes_of_weights(file: Path, tmp_path: Path) -> None:
    content, other = file.read_bytes(), tmp_path / "other.safetensors"

    def use(made: object) -> None:
        other.write_bytes(made)  # type: ignore[arg-type]
        weights.load(other)

    head = int.from_bytes(content[:8], "little") + 8
    each(
        lambda rng: damaged(content[:head], rng) + content[head:] if rng.random() < 0.8 else damaged(content, rng), use
    )


def test_cards_of_weights(file: Path, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(file, "pt") as stream:
        card = json.loads(stream.metadata()[weights.KEY])
    tensors, other = load_file(file), tmp_path / "other.safetensors"
    smallest = {name: value for name, value in tensors.items() if name in sorted(tensors)[:2]}

    def use(made: object) -> None:
        save_file(smallest, other, {weights.KEY: json.dumps(made)})
        weights.read_card(other)
        weights.load(other)

    def whole(made: object) -> None:
        save_file(tensors, other, {weights.KEY: json.dumps(made)})
        loaded = weights.load(other)
        manage.import_model(other, True, Reporter(silent=True))
        assert all(isinstance(one, str) for one in (loaded.card.name, loaded.card.licence))

    each(lambda rng: odd_values(card, rng), use)
    each(lambda rng: odd_values(card, rng), whole, CASES // 4)


def test_tensors_of_weights(file: Path, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(file, "pt") as stream:
        meta = stream.metadata()
    tensors, other = load_file(file), tmp_path / "other.safetensors"

    def make(rng: random.Random) -> dict[str, torch.Tensor]:
        made, name = dict(tensors), rng.choice(sorted(tensors))
        value = made.pop(name)
        kind = rng.randrange(6)
        if kind == 0:
            made[name] = value[..., None].clone()
        elif kind == 1:
            made[name] = torch.full_like(value, float("nan")) if value.is_floating_point() else value
        elif kind == 2:
            made[rng.choice(("gate.FLAIR.mean", "reference.x.FLAIR.mean", "score.x", "gate.X"))] = value
        elif kind == 3:
            made[name] = value.to(torch.int64)
        elif kind == 4:
            made[f"{name}x"] = value
        return made

    def use(made: object) -> None:
        save_file(made, other, meta)  # type: ignore[arg-type]
        weights.load(other)

    each(make, use, CASES // 2)


def test_invalid_registries_in_a_shared_cache_are_ignored(exported: Path, cache: Path) -> None:
    manage.import_model(exported, False, Reporter(silent=True))
    place = cache / "weights" / "tiny 1" / registry.FILE
    content = place.read_bytes()

    def use(made: object) -> None:
        place.write_bytes(made)  # type: ignore[arg-type]
        rows = [row for row in manage.listing() if row["source"] == "imported"]
        assert len(rows) == 1
        assert [model.folder.name for model in caches.models()] == ["tiny 1"]
        weights.find(None, "FLAIR", download=False)  # the bundled model is found whatever lies in the cache

    each(lambda rng: damaged(content, rng), use)
    for rubbish in RUBBISH:
        use(rubbish)
    assert manage.verify([])
    assert "weights" in examine()


def test_sidecars_of_a_batch_that_goes_on(scans: Path, stand: Stand) -> None:
    run(scans)
    place = scans.parent / "out" / "a_desc-anomaly_map.json"
    right = place.read_bytes()
    content = json.loads(right)
    with limits.memory():
        for number in range(FIRST, FIRST + max(CASES // 4, 1)):
            rng, result = random.Random(number), None
            made = json.dumps(odd_values(content, rng)).encode() if number % 2 else damaged(right, rng)
            place.write_bytes(made)
            with limits.bounded(f"{number}: {made!r:.300}"):
                result = run(scans)
            assert result is not None, (number, made)  # not even a `UadError`: the scan is done again
            assert result.failed == 0, (number, made)
            assert counts(result) in ((0, 3, 0), (1, 2, 0)), (number, made)


def test_tables_of_failed_scans(scans: Path, stand: Stand) -> None:
    (scans / "a.nii").write_text("bad")
    table = run(scans).failed_table
    content = table.read_bytes()
    head, rest = content.split(b"\n", 1)

    def use(made: object) -> None:
        table.write_bytes(made)  # type: ignore[arg-type]
        assert tables.read_failed(table) is not None

    each(lambda rng: head + b"\n" + damaged(rest, rng), use)
    table.write_bytes(head + b"\na_desc-anomaly_map.nii.gz\n\\q\t\\\n")
    assert counts(run(scans, retry_failed=True)) == (0, 0, 1)
    assert counts(run(scans, options=OPTIONS)) == (0, 2, 1)


def test_tables_of_participants(tmp_path: Path) -> None:
    (tmp_path / "sub-1_T1w.nii").touch()
    content = b"participant_id\tage\tsplit\nsub-1\t30\ttrain\nsub-2\t40\tval\n" * 3

    def use(made: object) -> None:
        (tmp_path / "participants.tsv").write_bytes(made)  # type: ignore[arg-type]
        dataset.find(tmp_path, 0.2)

    each(lambda rng: damaged(content, rng), use)


@pytest.mark.parametrize("kind", [DetectConfig, TrainingConfig])
def test_settings(kind: type) -> None:
    content = to_toml(kind()).encode()
    each(lambda rng: damaged(content, rng).decode("utf-8", "replace"), lambda made: read_toml(kind, str(made)))
    for text in (
        "a",
        "a=b",
        "preprocess=1",
        "preprocess.strip.x=1",
        "x=" + "[" * 5000,
        "preprocess.bias_field=" + "9" * 5000,
    ):
        each(lambda rng, text=text: text, lambda made: with_settings(kind(), [str(made)]), 1)  # type: ignore[misc]


def test_manifests_of_the_hub(published: str, hub: Hub) -> None:
    reference = client.parse(published)
    files = hub.commits[reference.repo][reference.commit]
    content = files[registry.FILE]

    def use(made: object) -> None:
        files[registry.FILE] = made  # type: ignore[assignment]
        shutil.rmtree(reference.place, ignore_errors=True)
        client.fetch(reference)

    each(lambda rng: damaged(content, rng), use, CASES // 10)


def test_tables_of_maps_and_truths(tmp_path: Path) -> None:
    content = (
        b"map\ttruth\tmask\tgroup\thealthy\nsub-1_map.nii\tsub-1_mask.nii\tn/a\tms\tn/a\nb.nii\t\t\thealthy\ttrue\n"
    )

    def use(made: object) -> None:
        (tmp_path / "cases.tsv").write_bytes(made)  # type: ignore[arg-type]
        from_table(tmp_path / "cases.tsv")

    each(lambda rng: damaged(content, rng), use)


def test_lists_of_scans(tmp_path: Path) -> None:
    content = "a.nii\n'~/b c.nii'\n\"deep er/\u00fc.nii.gz\"\r\n".encode("utf-8-sig")

    def use(made: object) -> None:
        (tmp_path / "list").write_bytes(made)  # type: ignore[arg-type]
        for nul in (False, True):
            inputs.read_list(str(tmp_path / "list"), nul)

    each(lambda rng: damaged(content, rng), use)


def test_sidecars_next_to_scans_and_maps(tmp_path: Path) -> None:
    right = {
        "synthetic": True, "threshold": {"value": 0.2}, "settings": {"scoring": {"min_volume_mm3": 27.0}},
        "requested": {"threshold": "auto"},
    }  # fmt: skip

    def use(made: object) -> None:
        (tmp_path / "a.json").write_bytes(made)  # type: ignore[arg-type]
        marking.sidecar_marking(tmp_path / "a.nii")
        dataset.is_synthetic(tmp_path / "a.nii")

    each(lambda rng: json.dumps(odd_values(right, rng)).encode(), use)
    each(lambda rng: damaged(json.dumps(right).encode(), rng), use)
