"""A batch with stand-ins for what is slow: both halves of a detection, and loading the weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from uadcli import __version__
from uadcli.batches import batch
from uadcli.batches.options import BatchOptions, Request
from uadcli.config import DetectConfig, to_dict
from uadcli.console import Reporter
from uadcli.data.scan_json import describe
from uadcli.detection import detect, record
from uadcli.detection.detect import DetectResult
from uadcli.detection.options import DetectOptions
from uadcli.detection.session import Session
from uadcli.errors import InputError, UsageError
from uadcli.files import file_sha256, write_json
from uadcli.report import sidecar

CONTRADICTION = "the file name says T2w, the image looks like T1w"
OPTIONS = DetectOptions(device="cpu", threads=1)


class Stand:
    """Stands for both halves of a detection: a scan's text says what happens to it; counts what is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from uadcli.weights import weights

        self.prepared: list[str] = []
        self.loads = 0
        self.sha256 = weights.find(None, "FLAIR")[1]
        monkeypatch.setattr(detect, "ready_scan", self.ready)
        monkeypatch.setattr(detect, "finish", self.finish)
        monkeypatch.setattr(weights, "load", self.load)

    def load(self, path: Path, digest: str | None) -> str | None:
        self.loads += 1
        return digest

    def ready(self, path: Path, session: Session) -> Any:
        reporter = session.reporter
        self.prepared.append(path.name)
        with reporter.stage("brain mask"):
            if not path.exists():
                raise InputError("no such file", path=path)
            if "bad" in path.read_text():
                raise InputError("no brain\twas found", path=path)
            if "bug" in path.read_text():
                raise ZeroDivisionError("by nothing")
            if "usage" in path.read_text():
                raise UsageError("no voxel can exceed a threshold of 9")
        return SimpleNamespace(path=path, sha256=file_sha256(path), described=describe(path))

    def finish(self, ready: Any, files: Any, session: Session) -> DetectResult:
        config, options, reporter, load = session.config, session.options, session.reporter, session.load
        from uadcli.weights import weights

        text = ready.path.read_text()
        with reporter.stage("reconstruction"):
            found = weights.find(options.weights, "FLAIR")
            digest = load(*found).weights if load else self.load(*found)
            if "memory" in text:
                raise MemoryError
        with reporter.stage("write"):
            for key, path in files.paths.items():
                if key != "sidecar":
                    path.write_text(f"{text} {config} {options.threshold}")
                if "full" in text:
                    raise OSError(28, "No space left on device")
        content = _content(ready, digest, files, config, options, "fail" if "poor" in text else "pass")
        write_json(files.paths["sidecar"], content)
        return DetectResult(files.map, content)


def _content(
    ready: Any, weights: str, files: Any, config: DetectConfig, options: DetectOptions, verdict: str
) -> dict[str, Any]:
    return sidecar.Sidecar(
        tool={"name": "uad", "version": __version__}, command=options.command, device="cpu", seed=0,
        input={"sha256": ready.sha256, "described": ready.described.recorded},
        contrast={"value": "FLAIR", "source": "file name"}, weights={"sha256": weights},
        score="absolute", threshold={"value": 0.1}, settings=to_dict(config), strip="none", brain_volume_ml=1400.0,
        registration={"mask_overlap": 0.9, "similarity": float("nan")},
        gate={"value": None, "limit": None, "note": "", "check": None, "beyond": None}, stability=None,
        anomaly={"volume_ml": 1.5, "components": [{"volume_ml": 1.0}, {"volume_ml": 0.5}]},
        qc={"verdict": verdict, "checks": [{"name": "contrast", "verdict": verdict, "text": CONTRADICTION}]},
        warnings=["odd"], peak_memory_mb=1.0, outputs={k: p.name for k, p in files.paths.items()}, space=options.space,
        requested=record.requested(options), seconds={"read": 1.0, "write": 0.5},
        contrasts=_contrasts(ready, options),
    ).to_dict()  # fmt: skip


def _contrasts(ready: Any, options: DetectOptions) -> list[dict[str, Any]] | None:
    """What the sidecar says of the scans of a patient; a further one with the text `odd` is left out."""
    from uadcli.weights import weights

    found = [{"name": "first", "sha256": ready.sha256, "contrast": "FLAIR", "left_out": None}]
    for scan in options.further:
        reason = "it is odd" if scan.read_text() == "odd" else None
        found.append({"name": scan.name, "sha256": file_sha256(scan), "contrast": "T2w", "left_out": reason})
    for one, path in zip(found, (ready.path, *options.further), strict=True):
        one["described"] = describe(path).recorded
        known = {"sha256": weights.find(options.weights, one["contrast"])[1]}
        one |= {"weights": None if one["left_out"] else known, "weight": None if one["left_out"] else 0.5}
    return found if options.further else None


def run(
    *paths: Path, config: DetectConfig | None = None, options: DetectOptions = OPTIONS, **more: Any
) -> batch.BatchResult:
    output = more.pop("output") if "output" in more else paths[0].parent / "out"
    asked = BatchOptions(**{"workers": 0, **more})
    request = Request(paths=paths, output=output, config=config or DetectConfig(), options=options, batch=asked)
    reporter = Reporter(silent=True)
    return batch.batch(request, batch.make_plan(request, reporter), reporter)


def steps(*paths: Path, config: DetectConfig | None = None, options: DetectOptions = OPTIONS) -> dict[str, str]:
    request = Request(
        paths=paths,
        output=paths[0].parent / "out",
        config=config or DetectConfig(),
        options=options,
        batch=BatchOptions(workers=0),
    )
    made = batch.make_plan(request, Reporter(silent=True))
    return {step.job.scan.name: step.action if step.action == "skip" else step.reason for step in made.steps}


def counts(result: batch.BatchResult) -> tuple[int, int, int]:
    return result.done, result.skipped, result.failed


def rows(path: Path) -> list[dict[str, str]]:
    first, *lines = path.read_text().splitlines()
    return [dict(zip(first.split("\t"), line.split("\t"), strict=True)) for line in lines]


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
