"""`--adapt`: each healthy scan is reconstructed once and never compared with itself, and the sidecar says so."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path
from types import SimpleNamespace

import cohort
import numpy as np
import phantoms
import pytest
import torch

from uadcli.batches import batch
from uadcli.batches.options import BatchOptions, Request
from uadcli.config import DetectConfig, PreprocessConfig, to_dict
from uadcli.console import Reporter
from uadcli.data import artefacts, prepare
from uadcli.data.artefacts import Artefacts
from uadcli.detection.detect import detect
from uadcli.detection.options import DetectOptions
from uadcli.errors import InputError, UsageError
from uadcli.files import file_sha256
from uadcli.imaging.slices import GRID_AFFINE
from uadcli.model import adapt
from uadcli.model.adapt import ScannerAdapter
from uadcli.model.healthy_folder import HealthyScans
from uadcli.model.model import Model, load
from uadcli.reconstruction.reconstructors import CddpmReconstructor
from uadcli.weights import weights

CONFIG = DetectConfig(preprocess=PreprocessConfig(strip="none", bias_field=False))
SILENT = Reporter(silent=True)


def asked(scans: Path, folder: Path, options: DetectOptions) -> Request:
    """The request for a batch of scans in this process."""
    return Request(paths=[scans], output=folder / "out", config=CONFIG, options=options, batch=BatchOptions(workers=0))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, no_picture: None) -> None:
    """Scans are taken as they are, and reconstructed too dark everywhere: what this model gets wrong in all of them."""
    cohort.as_they_are(monkeypatch)
    monkeypatch.setattr(artefacts, "measure", lambda *_: Artefacts())  # which takes half the time
    monkeypatch.setattr(CddpmReconstructor, "__call__", lambda _, slices, indices: 0.8 * slices)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return cohort.base(tmp_path / "model", cohort.TINY, None, preprocess=to_dict(CONFIG.preprocess))


@pytest.fixture
def loaded(model: Path) -> Model:
    return load(*weights.find(str(model)))


def adapted(
    model: Model,
    healthy: HealthyScans,
    contrast: str,
    config: DetectConfig = CONFIG,
    own: str | None = None,
) -> Model:
    return ScannerAdapter.of(model, healthy, contrast, config, SILENT).adapted(own)


@pytest.fixture
def scanner(tmp_path: Path) -> Path:
    """Three healthy T1w scans of a scanner, one of them twice, and a FLAIR."""
    folder = tmp_path / "healthy"
    folder.mkdir()
    for number in range(3):
        phantoms.save(folder / f"p{number}_T1w.nii.gz", cohort.head(number), GRID_AFFINE)
    (folder / "again_T1w.nii.gz").write_bytes((folder / "p0_T1w.nii.gz").read_bytes())
    phantoms.save(folder / "p0_FLAIR.nii.gz", cohort.head(9), GRID_AFFINE)
    return folder


def test_the_same_content_counts_once_and_names_do_not(scanner: Path) -> None:
    (scanner / "p2_T1w.nii").write_bytes(gzip.decompress((scanner / "p2_T1w.nii.gz").read_bytes()))
    assert len(adapt.find(scanner).files) == 4
    (scanner / "p2_T1w.nii").unlink()
    found = adapt.find(scanner)
    assert len(found.files) == 4
    (scanner / "again_T1w.nii.gz").unlink()
    (scanner / "p1_T1w.nii.gz").rename(scanner / "other_T1w.nii.gz")
    assert adapt.find(scanner).sha256 == found.sha256
    (scanner / "p2_T1w.nii.gz").unlink()
    assert adapt.find(scanner).sha256 != found.sha256


def test_one_scan_is_too_few_and_so_are_two_of_two_contrasts(scanner: Path, loaded: Model, tmp_path: Path) -> None:
    for name in ("again_T1w", "p1_T1w", "p2_T1w"):
        (scanner / f"{name}.nii.gz").unlink()
    with pytest.raises(InputError, match="but found 1"):
        adapted(loaded, adapt.find(scanner), "T1w")
    (scanner / "p0_FLAIR.nii.gz").unlink()
    with pytest.raises(InputError, match="but found 1"):
        adapt.find(scanner)
    with pytest.raises(InputError, match="not a folder"):
        adapt.find(tmp_path / "absent")


def test_healthy_scans_are_reconstructed_once_and_the_scan_at_hand_is_left_out(
    scanner: Path, loaded: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconstructed: list[str] = []
    real = ScannerAdapter._measured

    def counted(self: ScannerAdapter, digest: str) -> dict[str, object]:
        reconstructed.append(self.healthy.files[digest].name)
        return real(self, digest)

    monkeypatch.setattr(ScannerAdapter, "_measured", counted)
    healthy = adapt.find(scanner)
    one = adapted(loaded, healthy, "T1w")
    assert sorted(reconstructed) == sorted({path.name for path in healthy.files.values() if "T1w" in path.name})
    own = file_sha256(scanner / "p1_T1w.nii.gz")
    other = adapted(loaded, healthy, "T1w", own=own)
    assert len(reconstructed) == 3  # remembered
    assert one.adaptation is not None
    assert other.adaptation is not None
    assert (one.adaptation.scans, other.adaptation.scans) == (3, 2)
    assert one.adaptation.sha256 != other.adaptation.sha256
    assert not np.array_equal(one.adaptation.drift, other.adaptation.drift)
    (scanner / "p1_T1w.nii.gz").unlink()
    without = adapted(loaded, adapt.find(scanner), "T1w")
    assert without.adaptation is not None
    assert np.array_equal(without.adaptation.drift, other.adaptation.drift)  # as if it had not been there


def test_the_scan_at_hand_is_left_out_if_only_compression_tells_it_apart(
    scanner: Path, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    unpacked = tmp_path / "elsewhere" / "p1_T1w.nii"
    unpacked.write_bytes(gzip.decompress((scanner / "p1_T1w.nii.gz").read_bytes()))
    options = DetectOptions(weights=str(model), threads=1, adapt=scanner)
    packed, again = (
        detect(scan, tmp_path / f"{name}.nii.gz", config=CONFIG, options=options).sidecar["weights"]["adapted"]
        for name, scan in (("packed", scanner / "p1_T1w.nii.gz"), ("again", unpacked))
    )
    assert packed["healthy_scans"] == 2
    assert again == packed


def test_contrast_comes_from_the_image_if_the_name_does_not_tell(scanner: Path, tmp_path: Path) -> None:
    model = cohort.base(
        tmp_path / "both", cohort.TINY, None, contrasts=("T1w", "T2w"), scores={"T1w": "absolute", "T2w": "absolute"}
    )
    loaded = load(*weights.find(str(model)))
    for number in range(3):
        (scanner / f"p{number}_T1w.nii.gz").rename(scanner / f"p{number}.nii.gz")
    (scanner / "again_T1w.nii.gz").unlink()
    with pytest.raises(InputError, match="healthy T2w scans besides the current one, but found 0"):
        adapted(loaded, adapt.find(scanner), "T2w")
    seen = adapted(loaded, adapt.find(scanner), "T1w").adaptation
    assert seen is not None
    assert seen.scans == 3
    said = adapted(loaded, adapt.find(scanner, contrast="T2w"), "T2w").adaptation
    assert said is not None
    assert said.scans == 3  # the user knows better than the image


def test_what_is_kept_is_no_image(scanner: Path, loaded: Model, cache: Path) -> None:
    adapted(loaded, adapt.find(scanner), "T1w")
    files = sorted((cache / adapt.FOLDER).glob("*.npz"))
    assert len(files) == 3
    for file in files:
        with np.load(file) as values:
            assert set(values) == {"key", "contrast", "total", "count"}
            assert values["total"].shape == (48, 48, 40)
            rough = np.abs(np.diff(values["total"], axis=0)).max()
            assert rough < 0.25 * np.abs(values["total"]).max()  # nothing finer than the smoothing
        assert not any(part in file.name for part in ("p0", "p1", "p2"))


def test_the_drift_of_the_scanner_leaves_its_healthy_residual(scanner: Path, loaded: Model) -> None:
    """The mean residual of a scan that the drift does not know shrinks: the model is too dark in all."""
    own = scanner / "p1_T1w.nii.gz"
    known = adapted(loaded, adapt.find(scanner), "T1w", own=file_sha256(own))
    scan = prepare.read_scan(own)
    prepared, _ = prepare.prepare(scan, CONFIG.preprocess)
    x = prepared.scaled(CONFIG.preprocess)
    before, after = (
        np.abs(x - one.reconstruct(x, prepared.mask, CONFIG.reconstruction))[prepared.mask].mean()
        for one in (loaded, known)
    )
    assert after < 0.8 * before
    recon = known.reconstruct(x, prepared.mask, CONFIG.reconstruction)
    assert recon.min() >= 0
    assert recon.max() <= 1
    assert not recon[~prepared.mask].any()


def test_a_synthetic_volume_with_lesions_is_refused(scanner: Path) -> None:
    (scanner / "p1_T1w.json").write_text('{"synthetic": true, "lesion_volume_ml": 1.0}')
    with pytest.raises(InputError, match=r"p1_T1w\.nii\.gz: has synthetic lesions"):
        adapt.find(scanner)


def test_a_healthy_scan_that_cannot_be_used_is_named(scanner: Path, loaded: Model) -> None:
    (scanner / "p1_T1w.nii.gz").write_bytes(b"no scan")
    with pytest.raises(InputError, match="this healthy scan cannot be used") as caught:
        adapted(loaded, adapt.find(scanner), "T1w")
    assert "p1_T1w.nii.gz" in str(caught.value)


def test_a_healthy_scan_that_fails_quality_control_has_another_content_or_no_clear_contrast_is_refused(
    scanner: Path, loaded: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy, look = adapt.find(scanner), prepare.prepare
    own = scanner / "p1_T1w.nii.gz"

    def small(*given: object, **more: object) -> tuple[prepare.Prepared, object]:
        one, mask = look(*given, **more)  # type: ignore[arg-type]
        return dataclasses.replace(one, brain_volume_ml=90.0), mask

    def upside_down(*given: object, **more: object) -> tuple[prepare.Prepared, object]:
        one, mask = look(*given, **more)  # type: ignore[arg-type]
        return dataclasses.replace(one, similarity=0.01), mask

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "prepare", small)
        with pytest.raises(InputError, match=r"cannot be used: quality control failed \(brain_volume_ml\)"):
            adapted(loaded, healthy, "T1w")
    before = own.read_bytes()
    phantoms.save(own, cohort.head(77), GRID_AFFINE)
    with pytest.raises(InputError, match="changed during the run"):
        adapted(loaded, healthy, "T1w")
    own.write_bytes(before)
    with monkeypatch.context() as patch:
        patch.setattr(artefacts, "measure", lambda *_: Artefacts(spikes=9.0))
        with pytest.raises(InputError, match=r"quality control failed \(spikes\)"):
            adapted(loaded, healthy, "T1w")
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "prepare", upside_down)
        with pytest.raises(InputError, match=r"quality control failed \(similarity\)"):
            adapted(loaded, healthy, "T1w")
    own.rename(scanner / "p1.nii.gz")
    said = own.with_name("p1.json")
    said.write_text('{"ImageType": ["ORIGINAL", "PRIMARY", "T1 MAP"]}')
    with pytest.raises(InputError, match="the JSON file says t1map"):
        adapted(loaded, adapt.find(scanner), "T1w")
    said.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(prepare.Prepared, "contrast", lambda _: SimpleNamespace(contrast="T1w", other="", doubtful=True))
        with pytest.raises(InputError, match="hard to distinguish"):
            adapted(loaded, adapt.find(scanner), "T1w")
    with monkeypatch.context() as patch:
        other = SimpleNamespace(contrast="T2w", other="as in T2*", doubtful=False)
        patch.setattr(prepare.Prepared, "contrast", lambda _: other)
        with pytest.raises(InputError, match=r"not one that a model covers: as in T2\*"):
            adapted(loaded, adapt.find(scanner), "T1w")


def test_adapting_batch_continues_if_one_contrast_has_healthy_scans_and_stops_if_none_has(
    scanner: Path, tmp_path: Path
) -> None:
    model = cohort.base(tmp_path / "both", cohort.TINY, None, contrasts=("T1w", "T2w"),
                        scores={"T1w": "absolute", "T2w": "absolute"},
                        thresholds={"absolute": {"T1w": 0.2, "T2w": 0.2}})  # fmt: skip
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a_T1w", "b_T2w"):
        phantoms.save(folder / f"{name}.nii.gz", cohort.head(len(name)), GRID_AFFINE)
    options = DetectOptions(weights=str(model), threads=1, device="cpu", adapt=scanner)

    def run() -> batch.BatchResult:
        request = asked(folder, tmp_path, options)
        return batch.batch(request, batch.make_plan(request, SILENT), SILENT)

    result = run()
    assert (result.done, result.failed) == (1, 1)
    assert "healthy T2w scans" in (tmp_path / "out" / "failed.tsv").read_text()
    (folder / "a_T1w.nii.gz").unlink()
    with pytest.raises(InputError, match="needs 2 healthy T2w scans"):
        run()


def test_the_sidecar_says_how_many_scans_adapted_and_that_the_threshold_was_not(
    scanner: Path, model: Path, tmp_path: Path
) -> None:
    scan = tmp_path / "patient_T1w.nii.gz"
    phantoms.save(scan, cohort.head(5), GRID_AFFINE)
    options = DetectOptions(weights=str(model), threads=1)
    plain = detect(scan, tmp_path / "plain.nii.gz", config=CONFIG, options=options)
    adapted = dataclasses.replace(options, adapt=scanner, html=True)
    result = detect(scan, tmp_path / "adapted.nii.gz", config=CONFIG, options=adapted)
    given = detect(
        scan, tmp_path / "value.nii.gz", config=CONFIG, options=dataclasses.replace(adapted, threshold="0.3")
    )
    assert plain.sidecar["weights"]["adapted"] is None
    assert plain.sidecar["requested"]["adapt"] is None
    said = json.loads((tmp_path / "adapted.json").read_text())
    assert said["weights"]["adapted"]["healthy_scans"] == 3
    assert said["requested"]["adapt"] == adapt.find(scanner).sha256
    assert "may not hold" in said["threshold"]["rule"]
    assert "may not hold" not in plain.sidecar["threshold"]["rule"]
    assert "may not hold" not in given.sidecar["threshold"]["rule"]  # the user's own
    assert "healthy scans from the same scanner" in (tmp_path / "adapted.html").read_text()
    assert not np.array_equal(result.image.get_fdata(), plain.image.get_fdata())
    assert np.array_equal(result.image.get_fdata(), given.image.get_fdata())
    for text in ((tmp_path / "adapted.json").read_text(), (tmp_path / "adapted.html").read_text()):
        assert not [name for name in ("again_T1w", "p0_T1w", "p1_T1w", "p2_T1w", str(scanner)) if name in text]


@pytest.mark.parametrize("kind", ["mahalanobis", "z-mahalanobis"])
def test_reconstructions_of_another_level_have_no_drift(kind: str, scanner: Path, model: Path, tmp_path: Path) -> None:
    scan = tmp_path / "patient_T1w.nii.gz"
    phantoms.save(scan, cohort.head(5), GRID_AFFINE)
    options = DetectOptions(weights=str(model), threads=1, adapt=scanner, score=kind, threshold="0.3")
    with pytest.raises(UsageError, match="another noise level"):
        detect(scan, tmp_path / "map.nii.gz", config=CONFIG, options=options)
    adapt.check("z-absolute")
    request = asked(scan, tmp_path, options)
    with pytest.raises(UsageError, match="another noise level"):
        batch.make_plan(request, SILENT)


def test_the_cache_key_of_a_residual_has_all_that_determines_it(
    scanner: Path, loaded: Model, tmp_path: Path, cache: Path
) -> None:
    def kept(w: Model, config: DetectConfig) -> int:
        adapted(w, adapt.find(scanner), "T1w", config)
        return len(list((cache / adapt.FOLDER).glob("*.npz")))

    def drawn(**changes: int) -> DetectConfig:
        return dataclasses.replace(CONFIG, reconstruction=dataclasses.replace(CONFIG.reconstruction, **changes))

    other = cohort.base(tmp_path / "other", cohort.TINY, None, steps=4)
    assert kept(loaded, CONFIG) == 3
    assert kept(loaded, drawn(batch_size=5)) == 3  # changes only time and memory
    assert kept(loaded, drawn(seed=7)) == 6
    assert kept(load(*weights.find(str(other))), CONFIG) == 9
    adapted(loaded, adapt.find(scanner, geometry="sform"), "T1w")
    assert len(list((cache / adapt.FOLDER).glob("*.npz"))) == 12
    (scanner / "p1_T1w.json").write_text('{"SeriesDescription": "T1w"}')  # may say that it is of another contrast
    assert kept(loaded, CONFIG) == 13
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert kept(loaded, CONFIG) == 16
    finally:
        torch.set_num_threads(threads)


def test_a_batch_adapts_like_detect_and_resumes_by_the_healthy_scans(
    scanner: Path, model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b"):
        phantoms.save(folder / f"{name}_T1w.nii.gz", cohort.head(ord(name)), GRID_AFFINE)
    options = DetectOptions(weights=str(model), threads=1, device="cpu", adapt=scanner)
    request = asked(folder, tmp_path, options)

    def actions() -> list[str]:
        return [step.action for step in batch.make_plan(request, SILENT).steps]

    result = batch.batch(request, batch.make_plan(request, SILENT), SILENT)
    assert (result.done, result.failed) == (2, 0)
    alone = detect(folder / "a_T1w.nii.gz", tmp_path / "alone.nii.gz", config=CONFIG, options=options)
    assert (tmp_path / "out" / "a_T1w_desc-anomaly_map.nii.gz").read_bytes() == alone.map_path.read_bytes()
    assert actions() == ["skip", "skip"]
    phantoms.save(scanner / "p3_T1w.nii.gz", cohort.head(3), GRID_AFFINE)
    assert actions() == ["run", "run"]
    (scanner / "p3_T1w.nii.gz").write_bytes(b"no scan")
    with pytest.raises(InputError, match="this healthy scan cannot be used"):
        batch.batch(request, batch.make_plan(request, SILENT), SILENT)
    (scanner / "p3_T1w.nii.gz").unlink()
    assert actions() == ["skip", "skip"]
