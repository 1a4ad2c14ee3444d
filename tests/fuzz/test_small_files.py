"""Weights, registries, sidecars, tables, settings and checkpoints that are damaged: each is a value or a `UadError`.

`make fuzz` runs UAD_FUZZ cases of each kind; in `make test` it is a share. A case is its number (see `test_reader`).
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import limits
import numpy as np
import pytest
import torch
from hub import Hub
from stand import OPTIONS, Stand, counts, run

from uadcli.batches import inputs, tables
from uadcli.calibration import export
from uadcli.config import DetectConfig, ModelConfig, TrainConfig, TrainingConfig, read_toml, to_toml, with_settings
from uadcli.console import Reporter
from uadcli.data import dataset, matching, prepare
from uadcli.doctor import examine
from uadcli.evaluation import read
from uadcli.files import DAMAGED
from uadcli.imaging.slices import GRID_SHAPE
from uadcli.model import adapt
from uadcli.training import checkpoint, log, run_folder
from uadcli.training.reconstruction import Trainer
from uadcli.weights import cache as caches
from uadcli.weights import hub as client
from uadcli.weights import manage, registry, weights

CASES = int(os.environ.get("UAD_FUZZ", "3000")) // 10
FIRST = int(os.environ.get("UAD_FUZZ_FIRST", "0"))
ODD = [None, True, -1, 0, 10**30, 1e308, float("nan"), float("inf"), "", "x", "../x", "\0", [], ["x"], {}, {"x": []}]
RUBBISH = [b"", b"\0" * 9, b"\xff\xfe", b"[" * 5000, b"x = " + b"9" * 5000, b"<html>proxy</html>", b"model = ['x']\n"]


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The content with bytes changed, a piece left out, doubled or cut off; sometimes rubbish."""
    if rng.random() < 0.05:
        return rng.choice(RUBBISH)
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        end = min(end, at + rng.choice((1, 4, 40, 4000)))
        kind = rng.randrange(5)
        if kind == 0:
            data[at:end] = bytes(rng.randrange(256) for _ in range(end - at))
        elif kind == 1:
            del data[at:end]
        elif kind == 2:
            data[at:at] = data[at:end]
        elif kind == 3:
            data[at : at + 1] = rng.choice((b'"', b"\n", b"\t", b"{", b"]", b"-", b"9" * 40, b"\\", b"\x80"))
        elif rng.random() < 0.2:
            del data[at:]
    return bytes(data)


def odd_values(content: object, rng: random.Random) -> object:
    """JSON content with one value, anywhere in it, replaced, taken away or wrapped."""
    copied = json.loads(json.dumps(content))
    place = copied
    while isinstance(place, dict | list) and place:
        key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
        if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.75:  # type: ignore[index]
            place = place[key]  # type: ignore[index]
            continue
        if rng.random() < 0.2:
            del place[key]  # type: ignore[arg-type]
        else:
            place[key] = rng.choice(ODD)  # type: ignore[index]
        break
    return copied


def each(make: Callable[[random.Random], object], use: Callable[[object], object], cases: int = CASES) -> None:
    """Use so many damaged things; what is no `UadError`, or takes long or much, fails with the number of the case."""
    with limits.memory():
        for number in range(FIRST, FIRST + cases):
            made = make(random.Random(number))
            with limits.bounded(f"{number}: {made!r:.300}"):
                use(made)


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
    for number in range(FIRST, FIRST + max(CASES // 4, 1)):
        rng = random.Random(number)
        made = json.dumps(odd_values(content, rng)).encode() if number % 2 else damaged(right, rng)
        place.write_bytes(made)
        result = run(scans)
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


def test_checkpoints(tmp_path: Path, tiny: ModelConfig) -> None:
    Trainer(tiny, TrainConfig(steps=1)).save(tmp_path / "last.pt")
    content = (tmp_path / "last.pt").read_bytes()

    def use(made: object) -> None:
        (tmp_path / "last.pt").write_bytes(made)  # type: ignore[arg-type]
        checkpoint.read(tmp_path / "last.pt")
        Trainer.load(tmp_path / "last.pt")

    each(lambda rng: damaged(content, rng), use, CASES // 4)


def test_states_of_checkpoints(tmp_path: Path, tiny: ModelConfig) -> None:
    trainer, path = Trainer(tiny, TrainConfig(steps=1)), tmp_path / "last.pt"
    trainer.save(path)
    kept = torch.load(path, weights_only=True)
    plain = {key: value for key, value in kept.items() if key in ("train_config", "model_config", "done", "best")}

    def use(made: object) -> None:
        torch.save({**kept, **made}, path)  # type: ignore[dict-item]
        Trainer.load(path)

    each(lambda rng: odd_values(plain, rng), use, CASES // 4)


def test_manifests_of_the_hub(published: str, hub: Hub) -> None:
    reference = client.parse(published)
    files = hub.commits[reference.repo][reference.commit]
    content = files[registry.FILE]

    def use(made: object) -> None:
        files[registry.FILE] = made  # type: ignore[assignment]
        shutil.rmtree(reference.place, ignore_errors=True)
        client.fetch(reference)

    each(lambda rng: damaged(content, rng), use, CASES // 10)


@pytest.fixture
def run_of(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the settings of a run, whose trained weights are those of `file`."""
    loaded = weights.load(file)
    monkeypatch.setattr(export, "trained_weights", lambda _: loaded)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.toml").write_text(to_toml(TrainingConfig()))
    return folder


def test_thresholds_of_a_run(run_of: Path, tmp_path: Path) -> None:
    by_contrast = {"absolute": {"FLAIR": 0.2}}
    right = {
        "thresholds": by_contrast, "scans": {"FLAIR": 3}, "strengths": {"absolute": {"FLAIR": [0.1]}},
        "tails": {"absolute": {"FLAIR": [[0.01, 0.2]]}}, "shares": {"FLAIR": {"absolute": 1.0}},
        "borrowed": {"T2w": "FLAIR"}, "patients": {"FLAIR": 1}, "synthetic": {}, "fusion_power": 0.2,
        "reference_erosion": 3,
    }  # fmt: skip

    def use(made: object) -> None:
        (run_of / "thresholds.json").write_bytes(made)  # type: ignore[arg-type]
        export.export(run_of, tmp_path / "out", overwrite=True, reporter=Reporter(silent=True))
        weights.read_card(tmp_path / "out" / "out.safetensors")

    def make(rng: random.Random) -> bytes:
        if rng.random() < 0.5:
            return json.dumps(odd_values(right, rng)).encode()
        return damaged(json.dumps(right).encode(), rng)

    each(make, use, CASES // 4)


def test_tables_of_a_run(tmp_path: Path) -> None:
    head = b"subject\tpart\tcontrast\tscan\tsha256\tfault\tlesions\tlesions_sha256\tlesion_voxels\n"
    content = head + b"a\ttrain\tT1w\t/scans/a.nii\t00\t\t/masks/a.nii\t00\t12\nb\tval\tT2w\tb.nii\t11\tbad\t\t\t\n"

    def use(made: object) -> None:
        (tmp_path / "data.tsv").write_bytes(made)  # type: ignore[arg-type]
        for case in run_folder.usable_cases(tmp_path):
            case.scan.exists()
        sum(int(row.get("lesion_voxels") or 0) for row in run_folder.rows_of(tmp_path / "data.tsv") if not row["fault"])

    each(lambda rng: damaged(content, rng), use)


def test_settings_of_a_run(tmp_path: Path) -> None:
    content = to_toml(TrainingConfig()).encode()

    def use(made: object) -> None:
        (tmp_path / "config.toml").write_bytes(made)  # type: ignore[arg-type]
        run_folder.read_run(tmp_path)

    each(lambda rng: damaged(content, rng), use)


def test_logs_of_a_run(tmp_path: Path) -> None:
    content = (",".join(log.COLUMNS) + "\n5,0.5,0.4,0.1,12,60,0\n10,0.4,,,12,30,1\n15,,0.3,0.2,12,0,1\n").encode()

    def use(made: object) -> None:
        (tmp_path / "log.csv").write_bytes(made)  # type: ignore[arg-type]
        log.write_page(tmp_path, {"score": tmp_path})

    each(lambda rng: damaged(content, rng), use)


def test_tables_of_maps_and_truths(tmp_path: Path) -> None:
    content = (
        b"map\ttruth\tmask\tgroup\thealthy\nsub-1_map.nii\tsub-1_mask.nii\tn/a\tms\tn/a\nb.nii\t\t\thealthy\ttrue\n"
    )

    def use(made: object) -> None:
        (tmp_path / "cases.tsv").write_bytes(made)  # type: ignore[arg-type]
        matching.from_table(tmp_path / "cases.tsv")

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
        read.sidecar_marking(tmp_path / "a.nii")
        dataset.is_synthetic(tmp_path / "a.nii")

    each(lambda rng: json.dumps(odd_values(right, rng)).encode(), use)
    each(lambda rng: damaged(json.dumps(right).encode(), rng), use)


def test_volumes_kept_in_a_cache(tmp_path: Path) -> None:
    mask, path = np.zeros(GRID_SHAPE, dtype=bool), tmp_path / "a.npz"
    mask[40:50, 40:50, 40:50] = True
    prepare.save_prepared(path, prepare.Prepared(mask * 1.0, mask, np.eye(4), "none", 1400.0, 0.0, 0.9, 0.5))
    content = path.read_bytes()

    def use(made: object) -> None:
        path.write_bytes(made)  # type: ignore[arg-type]
        with suppress(*DAMAGED):
            assert prepare.load_prepared(path).mask.shape == GRID_SHAPE
        adapt._kept(path)

    each(lambda rng: damaged(content, rng), use, CASES // 4)
