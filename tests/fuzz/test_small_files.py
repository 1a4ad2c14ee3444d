"""Weights, registries, sidecars, tables, settings and checkpoints that are damaged: each is a value or a `UadError`.

`make fuzz` runs UAD_FUZZ cases of each kind; in `make test` it is a share. A case is its number (see `test_reader`).
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from stand import OPTIONS, Stand, counts, run

from uadcli.batches import tables
from uadcli.config import DetectConfig, ModelConfig, TrainingConfig, read_toml, to_toml, with_settings
from uadcli.console import Reporter
from uadcli.data import dataset
from uadcli.doctor import examine
from uadcli.errors import UadError
from uadcli.training import checkpoint
from uadcli.weights import cache as caches
from uadcli.weights import manage, registry, weights

CASES = int(os.environ.get("UAD_FUZZ", "3000")) // 10
FIRST = int(os.environ.get("UAD_FUZZ_FIRST", "0"))
SECONDS = 2.0
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
    """Use so many damaged things; what is no `UadError`, or takes long, fails with the number of the case."""
    for number in range(FIRST, FIRST + cases):
        made, began = make(random.Random(number)), time.process_time()
        try:
            use(made)
        except UadError:
            pass
        except BaseException as error:
            raise AssertionError(f"case {number}: {made!r:.300}") from error
        assert time.process_time() - began < SECONDS, number


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
    checkpoint.write(tmp_path / "last.pt", {"done": 1}, {"model": {"a": torch.zeros(3)}})
    content = (tmp_path / "last.pt").read_bytes()

    def use(made: object) -> None:
        (tmp_path / "last.pt").write_bytes(made)  # type: ignore[arg-type]
        checkpoint.read(tmp_path / "last.pt")

    each(lambda rng: damaged(content, rng), use, CASES // 2)
