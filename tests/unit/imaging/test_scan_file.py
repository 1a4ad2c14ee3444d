"""A scan is read once: its digest is of the bytes that were used, and a file that changes meanwhile is an error."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from uadcli.errors import InputError
from uadcli.imaging import scan_file, stored
from uadcli.imaging.volume import read_scan

NOISE = np.random.default_rng(0).integers(1, 30000, (64, 64, 64)).astype(np.int16)  # does not pack


def _scan(path: Path, data: np.ndarray = NOISE) -> Path:
    nib.Nifti1Image(data, np.eye(4)).to_filename(path)
    return path


def _during(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Do something to the files once, after the first bytes of the scan were read."""
    whole, todo = scan_file.ScanFile.fill, [change]

    def fill(self: scan_file.ScanFile, view: memoryview) -> int:
        if todo:
            todo.pop()()
        return whole(self, view)

    monkeypatch.setattr(scan_file.ScanFile, "fill", fill)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_digest_is_of_the_stored_bytes(suffix: str, tmp_path: Path) -> None:
    path = _scan(tmp_path / f"a{suffix}")
    assert read_scan(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest() == stored.sha256(path)


def test_each_file_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _scan(tmp_path / "a.nii.gz")
    opened: list[str] = []
    whole = os.open
    monkeypatch.setattr(os, "open", lambda name, *a, **k: opened.append(os.fspath(name)) or whole(name, *a, **k))
    read_scan(path)
    assert [name for name in opened if name.endswith("a.nii.gz")] == [str(path)]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mgz"])
@pytest.mark.parametrize("kind", ["truncated", "replaced", "vanished", "changed"])
def test_scan_that_changes_while_it_is_read(
    kind: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    for name, data in ((path, NOISE), (other, NOISE[::-1])):
        image = nib.MGHImage if suffix == ".mgz" else nib.Nifti1Image
        image(data.astype(np.float32) if suffix == ".mgz" else data, np.eye(4)).to_filename(name)
    changes: dict[str, Callable[[], object]] = {
        "truncated": lambda: os.truncate(path, 100_000),
        "replaced": lambda: os.replace(other, path),
        "vanished": path.unlink,
        "changed": lambda: shutil.copyfileobj(other.open("rb"), path.open("r+b")),
    }
    _during(monkeypatch, changes[kind])
    with pytest.raises(InputError, match=f"was {kind}|{kind} while") as caught:
        read_scan(path)
    assert caught.value.path == path
    assert caught.value.hint


def test_digest_of_a_pair_covers_every_file_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a.img"
    nib.Nifti1Pair(NOISE, np.eye(4)).to_filename(path)
    first = read_scan(path).sha256
    assert first == stored.sha256(path) == stored.sha256(path.with_suffix(".hdr"))
    header = path.with_suffix(".hdr")
    header.write_bytes(header.read_bytes()[:148] + b"x" + header.read_bytes()[149:])  # in `descrip`
    assert first != read_scan(path).sha256 == stored.sha256(path)


def test_stream_of_several_members_and_padding_is_read(tmp_path: Path) -> None:
    raw = _scan(tmp_path / "a.nii").read_bytes()
    path = tmp_path / "b.nii.gz"
    path.write_bytes(b"".join(gzip.compress(raw[n : n + 50_000]) for n in range(0, len(raw), 50_000)) + bytes(512))
    assert np.array_equal(read_scan(path).volume.data, NOISE)


def test_damage_behind_the_last_voxel_is_noticed(tmp_path: Path) -> None:
    path = _scan(tmp_path / "a.nii.gz")
    raw = bytearray(path.read_bytes())
    raw[-6] ^= 1  # of the checksum
    path.write_bytes(raw)
    with pytest.raises(InputError, match="damaged"):
        read_scan(path)


def test_stream_is_inflated_as_far_as_the_header_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = _scan(tmp_path / "a.nii").read_bytes()
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(raw + bytes(200_000_000)))
    inflated: list[int] = []
    whole = scan_file.ScanFile._next

    def _next(self: scan_file.ScanFile, most: int) -> bytes:
        some = whole(self, most)
        inflated.append(len(some))
        return some

    monkeypatch.setattr(scan_file.ScanFile, "_next", _next)
    assert np.array_equal(read_scan(path).volume.data, NOISE)
    assert sum(inflated) < len(raw) + 2 * scan_file.TAIL


EMPTY_MEMBER = gzip.compress(b"", mtime=0)


@pytest.mark.parametrize("member", [EMPTY_MEMBER, EMPTY_MEMBER[:10] + b"\3\0" + bytes(8)], ids=["packed", "by hand"])
def test_stream_of_empty_members_ends(member: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(member * 500_000)
    with pytest.raises(InputError, match="empty parts"):
        read_scan(path)
