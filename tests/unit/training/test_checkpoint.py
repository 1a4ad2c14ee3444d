"""Checkpoints on a disk that is full, with too little memory, and for other users."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
import torch

from uadcli.errors import InputError, OutputError
from uadcli.training import checkpoint

NETWORKS = {"model": {"a": torch.zeros(2**16)}}


def test_a_disk_that_is_full_is_an_error_of_one_line_and_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint.write(path, {"done": 1}, NETWORKS)
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    try:
        with pytest.raises(OutputError, match="cannot be written: File too large"):
            checkpoint.write(path, {"done": 2}, NETWORKS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before


def test_who_may_read_the_folder_may_read_the_networks(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        checkpoint.write(tmp_path / "last.pt", {"done": 1}, NETWORKS)
    finally:
        os.umask(old)
    assert {one.stat().st_mode & 0o777 for one in tmp_path.iterdir()} == {0o644}


def test_too_little_memory_is_not_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.pt"
    checkpoint.write(path, {"done": 1}, NETWORKS)

    def load(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1000 bytes.")

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(RuntimeError, match="allocate"):
        checkpoint.read(path)
    path.write_bytes(b"rubbish")
    monkeypatch.undo()
    with pytest.raises(InputError, match="not a complete checkpoint"):
        checkpoint.read(path)
