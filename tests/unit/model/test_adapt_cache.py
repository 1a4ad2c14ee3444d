"""The cache of `--adapt` on a shared machine: what somebody else wrote, or made for another scan, is not used."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import cohort
import numpy as np
import phantoms
import pytest

from uadcli.config import DetectConfig, PreprocessConfig, to_dict
from uadcli.console import Reporter
from uadcli.errors import WeightsError
from uadcli.imaging.slices import GRID_AFFINE
from uadcli.model import adapt
from uadcli.model.adapt import ScannerAdapter
from uadcli.model.model import load
from uadcli.reconstruction.reconstructors import CddpmReconstructor
from uadcli.weights import weights

CONFIG = DetectConfig(preprocess=PreprocessConfig(strip="none", bias_field=False))


@pytest.fixture
def adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScannerAdapter:
    """An adapter to the scanner of two healthy scans; the model reconstructs everything too dark."""
    cohort.as_they_are(monkeypatch)
    monkeypatch.setattr(CddpmReconstructor, "__call__", lambda _, slices, indices: 0.8 * slices)
    for number in range(2):
        (tmp_path / "healthy").mkdir(exist_ok=True)
        phantoms.save(tmp_path / "healthy" / f"p{number}_T1w.nii.gz", cohort.head(number), GRID_AFFINE)
    model = cohort.base(tmp_path / "model", cohort.TINY, None, preprocess=to_dict(CONFIG.preprocess))
    loaded, healthy = load(*weights.find(str(model))), adapt.find(tmp_path / "healthy")
    return ScannerAdapter.of(loaded, healthy, "T1w", CONFIG, Reporter(silent=True))


def entries(cache: Path) -> list[Path]:
    return sorted((cache / adapt.FOLDER).glob("*.npz"))


def drift(adapter: ScannerAdapter) -> np.ndarray:
    adaptation = adapter.adapted().adaptation
    assert adaptation is not None
    return adaptation.drift


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("what", ["folder", "entry"])
def test_what_belongs_to_another_user_is_refused(what: str, adapter: ScannerAdapter, cache: Path) -> None:
    adapter.adapted()
    place = cache / adapt.FOLDER if what == "folder" else entries(cache)[0]
    os.chown(place, 12345, 12345)
    with pytest.raises(WeightsError, match="belongs to another user") as caught:
        adapter.adapted()
    assert caught.value.path == place
    assert "UAD_CACHE" in str(caught.value.hint)


@pytest.mark.parametrize("what", ["folder", "entry"])
def test_what_everybody_can_change_is_refused(what: str, adapter: ScannerAdapter, cache: Path) -> None:
    adapter.adapted()
    place = cache / adapt.FOLDER if what == "folder" else entries(cache)[0]
    place.chmod(place.stat().st_mode | stat.S_IWOTH)
    with pytest.raises(WeightsError, match="writable by everyone"):
        adapter.adapted()


def test_the_entry_of_another_scan_under_this_name_is_made_again(adapter: ScannerAdapter, cache: Path) -> None:
    right = drift(adapter)
    one, two = entries(cache)
    one.write_bytes(two.read_bytes())
    assert np.array_equal(drift(adapter), right)
    assert adapt._kept(one, adapter.way.sizes(adapter.model)) is not None


def test_an_entry_with_changed_bytes_is_made_again(adapter: ScannerAdapter, cache: Path) -> None:
    right = drift(adapter)
    for file in entries(cache):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 255
        file.write_bytes(content)
    assert np.array_equal(drift(adapter), right)


def test_an_entry_without_a_key_is_made_again(adapter: ScannerAdapter, cache: Path) -> None:
    right = drift(adapter)
    with np.load(entries(cache)[0]) as values:
        other = {name: values[name] for name in values if name != "key"}
    np.savez_compressed(entries(cache)[0], **other | {"total": other["total"] + 1})
    assert np.array_equal(drift(adapter), right)
