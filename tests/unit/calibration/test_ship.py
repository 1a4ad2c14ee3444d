"""Bundled models after another was made: each contrast gets its own model before one for several."""

from __future__ import annotations

from pathlib import Path

import train_default

from uadcli.weights import registry
from uadcli.weights.registry import Entry


def model(name: str, *contrasts: str) -> Entry:
    return Entry(name, f"{name}.safetensors", "0" * 64, contrasts)


def shipped(tmp_path: Path, new: Entry, *before: Entry) -> list[str]:
    made, out = tmp_path / "made", tmp_path / "out"
    for place, entries in ((made, (new,)), (out, before)):
        place.mkdir()
        registry.write(place, *entries)
        for entry in entries:
            (place / entry.file).write_bytes(entry.name.encode())
    train_default.ship(made, out)
    assert (out / new.file).read_text() == new.name
    return [entry.name for entry in registry.read(out)]


def test_a_model_for_several_contrasts_does_not_take_the_place_of_one_for_a_single(tmp_path: Path) -> None:
    before = model("t1w", "T1w"), model("t2w", "T2w"), model("old", "T2w", "FLAIR")
    assert shipped(tmp_path, model("new", "T2w", "FLAIR"), *before) == ["t1w", "t2w", "new"]


def test_a_model_takes_the_place_of_the_one_before_for_its_contrast(tmp_path: Path) -> None:
    before = model("t1w", "T1w"), model("old", "T2w"), model("both", "T2w", "FLAIR")
    assert shipped(tmp_path, model("new", "T2w"), *before) == ["t1w", "new", "both"]
