"""Which scans a batch does, which it skips, and what becomes of what was there before."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
from stand import OPTIONS, Stand, counts, files_below, run, steps

from uadcli.batches import plan
from uadcli.batches.inputs import Found
from uadcli.config import DetectConfig, PreprocessConfig, ReconstructionConfig, ScoringConfig
from uadcli.detection import together
from uadcli.errors import UsageError


def test_the_second_run_does_nothing_and_changes_nothing(scans: Path, stand: Stand) -> None:
    run(scans)
    before = files_below(scans.parent / "out")
    stand.prepared.clear()
    assert counts(run(scans)) == (0, 3, 0)
    assert stand.prepared == []
    assert files_below(scans.parent / "out") == before


@pytest.mark.parametrize(
    ("config", "options", "reason"),
    [
        ({"scoring": ScoringConfig(min_volume_mm3=8.0)}, {}, "other settings"),
        ({"reconstruction": ReconstructionConfig(seed=1)}, {}, "other settings"),
        ({"reconstruction": ReconstructionConfig(levels=(9,))}, {}, "other settings"),
        ({"reconstruction": ReconstructionConfig(batch_size=1)}, {}, "skip"),
        ({"preprocess": PreprocessConfig(precision="bf16")}, {}, "other settings"),
        ({}, {"threshold": "0.5"}, "other options"),
        ({}, {"contrast": "T1w"}, "other options"),
        ({}, {"score": "dark"}, "other options"),
        ({}, {"space": "mni"}, "other options"),
        ({}, {"geometry": "qform"}, "other options"),
        ({}, {"save": ("recon",)}, "other files"),
        ({}, {"html": "niivue"}, "other options"),
        ({}, {"overwrite": True}, "--overwrite"),
        ({}, {"threads": 2, "command": "uad batch again", "strict": True}, "skip"),
    ],
)
def test_what_was_done_with_other_parameters_is_done_again(
    scans: Path, stand: Stand, config: dict[str, Any], options: dict[str, Any], reason: str
) -> None:
    run(scans)
    found = steps(scans, config=DetectConfig(**config), options=dataclasses.replace(OPTIONS, **options))
    assert set(found.values()) == {reason}


def test_a_batch_in_a_precision_is_done_in_that_alone(scans: Path, stand: Stand) -> None:
    in_bf16 = DetectConfig(preprocess=PreprocessConfig(precision="bf16"))
    run(scans, config=in_bf16)
    assert set(steps(scans, config=in_bf16).values()) == {"skip"}
    assert set(steps(scans).values()) == {"other settings"}


def test_levels_of_a_file_and_of_a_sidecar_compare_equal(scans: Path, stand: Stand) -> None:
    config = DetectConfig(reconstruction=ReconstructionConfig(levels=(250, 500)))
    run(scans, config=config)
    assert set(steps(scans, config=config).values()) == {"skip"}


def _edit(change: Any) -> Any:
    def edit(scans: Path, out: Path) -> None:
        file = out / "a_desc-anomaly_map.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return edit


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda scans, out: (out / "a_desc-anomaly_map.json").unlink(), "no sidecar"),
        (lambda scans, out: (out / "a_desc-anomaly_map.json").write_text('{"schema_ver'), "the sidecar is incomplete"),
        (lambda scans, out: (out / "a_desc-anomaly_map.json").write_text("[]"), "the sidecar is incomplete"),
        (_edit(lambda c: c.pop("qc")), "the sidecar is incomplete"),
        (_edit(lambda c: c.update(settings=3)), "the sidecar is incomplete"),
        (_edit(lambda c: c.update(settings={"reconstruction": 3})), "other settings"),
        (_edit(lambda c: c["tool"].update(version="0.0.1")), "another version of uad"),
        (_edit(lambda c: c["weights"].update(sha256="0" * 64)), "other weights"),
        (_edit(lambda c: c["weights"].clear()), "the sidecar is incomplete"),
        (lambda scans, out: (out / "a_desc-anomaly_map_mask.nii.gz").unlink(), "a file is missing"),
        (lambda scans, out: (scans / "a.nii").write_text("another"), "another scan"),
        (lambda scans, out: (scans / "a.json").write_text('{"SeriesDescription": "T1w"}'), "another JSON file"),
        (_edit(lambda c: c["contrast"].update(value="PD")), "cannot be compared: no model covers PD."),
    ],
)
def test_a_scan_is_skipped_only_if_its_sidecar_is_complete_and_agrees(
    scans: Path, stand: Stand, damage: Any, reason: str
) -> None:
    run(scans)
    damage(scans, scans.parent / "out")
    found = steps(scans)
    assert found.pop("a.nii").startswith(reason)
    assert found == {"b.nii": "skip", "c.nii.gz": "skip"}
    assert counts(run(scans)) == (1, 2, 0)
    assert set(steps(scans).values()) == {"skip"}


def test_results_of_other_options_do_not_stay(scans: Path, stand: Stand) -> None:
    run(scans, options=dataclasses.replace(OPTIONS, save=("recon", "transform"), space="both"))
    assert len(list((scans.parent / "out").glob("a_*"))) == 8
    run(scans)
    assert len(list((scans.parent / "out").glob("a_*"))) == 4


def test_a_sidecar_never_describes_files_of_another_run(
    scans: Path, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between two moves of a run with other settings: the first settings' sidecar is gone, so all is redone."""
    run(scans)
    right = files_below(scans.parent / "out")
    moved: list[str] = []

    def replace(source: Path, target: Path) -> None:
        if ".uad-" in str(target) or "/.uad-" not in os.path.dirname(source):  # not on its way to its final place
            return os.rename(source, target)
        if len(moved) == 2:
            raise KeyboardInterrupt  # as near to kill -9 as one process gets
        moved.append(os.path.basename(target))
        return os.rename(source, target)

    monkeypatch.setattr(together.os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        run(scans / "a.nii", output=scans.parent / "out", options=dataclasses.replace(OPTIONS, threshold="0.7"))
    monkeypatch.undo()
    Stand(monkeypatch)
    assert not any(name.endswith(".json") for name in moved)
    assert steps(scans)["a.nii"] == "no sidecar"
    run(scans)
    assert files_below(scans.parent / "out") == right


def test_what_a_killed_run_left_is_cleared(scans: Path, stand: Stand) -> None:
    job = plan.jobs([Found(scans / "a.nii")], scans.parent / "out", OPTIONS)[0]
    left = together.hidden_folder(job.files.map)
    for _ in range(2):  # before the scan is done, and when it is skipped
        left.mkdir(parents=True, exist_ok=True)
        (left / "half.nii.gz").write_bytes(b"half")
        run(scans)
        assert not left.exists()


def test_two_scans_for_one_result_are_refused_before_any_work(tmp_path: Path, stand: Stand) -> None:
    for name in ("x/a.nii", "y/a.nii", "z/a.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    for inputs in ([tmp_path / "x", tmp_path / "y" / "a.nii"], [tmp_path / "z" / "a.nii.gz", tmp_path / "x"]):
        with pytest.raises(UsageError, match="would give the same map as"):
            run(*inputs, output=tmp_path / "out")
    assert stand.prepared == []
    assert not (tmp_path / "out").exists()
    assert counts(run(tmp_path / "x", tmp_path / "x" / "a.nii", tmp_path / "x", output=tmp_path / "out")) == (1, 0, 0)


def test_results_that_meet_in_another_file_are_refused(tmp_path: Path) -> None:
    one, two = tmp_path / "a.nii", tmp_path / "a_desc-anomaly_map.nii.gz"
    with pytest.raises(UsageError, match="would replace the scan itself"):
        plan.jobs([Found(one), Found(two)], tmp_path, OPTIONS)


def test_no_result_takes_the_place_of_a_file_that_is_read(tmp_path: Path) -> None:
    """The sidecar of one scan would be the JSON file of another, whose name ends like that of a map."""
    one, two = tmp_path / "a.nii", tmp_path / "a_desc-anomaly_map.mgz"
    with pytest.raises(
        UsageError, match=r"a result would replace the JSON file of the scan, .*/a_desc-anomaly_map\.json"
    ):
        plan.jobs([Found(one), Found(two)], tmp_path, OPTIONS)
    with pytest.raises(UsageError, match="would replace the JSON file of a scan of --with"):
        plan.jobs([Found(one, further=(two,))], tmp_path, OPTIONS)
    assert plan.jobs([Found(one), Found(two)], tmp_path / "out", OPTIONS)


def test_parts_are_a_partition_that_does_not_depend_on_the_order(tmp_path: Path) -> None:
    jobs = plan.jobs([Found(tmp_path / f"{n}.nii") for n in range(200)], tmp_path / "out", OPTIONS)
    parts = [{job.name for job in jobs if plan.in_shard(job, (i, 7))} for i in range(7)]
    assert set().union(*parts) == {job.name for job in jobs}
    assert sum(map(len, parts)) == 200
    assert min(map(len, parts)) > 10
    fewer = plan.jobs([Found(tmp_path / f"{n}.nii") for n in range(199, 99, -1)], tmp_path / "out", OPTIONS)
    assert all({job.name for job in fewer if plan.in_shard(job, (i, 7))} <= parts[i] for i in range(7))


ARRAY = {"SLURM_ARRAY_TASK_ID": "14", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "10"}


@pytest.mark.parametrize(
    ("text", "environment", "part"),
    [
        (None, {}, (0, 1)),
        ("1/4", {}, (0, 4)),
        ("4/4", {}, (3, 4)),
        ("auto", ARRAY | {"SLURM_ARRAY_TASK_STEP": "2"}, (2, 3)),
        ("auto", {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "1"}, (0, 1)),
    ],
)
def test_parts_by_number_and_by_slurm(text: str | None, environment: dict[str, str], part: tuple[int, int]) -> None:
    assert plan.shard(text, environment) == part


@pytest.mark.parametrize(
    ("text", "environment"), [("0/4", {}), ("5/4", {}), ("1", {}), ("a/b", {}), ("auto", {}), ("auto", ARRAY)]
)
def test_parts_that_do_not_exist(text: str, environment: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        plan.shard(text, environment)


def test_results_can_lie_beside_the_scans(scans: Path, stand: Stand) -> None:
    assert counts(run(scans, output=scans)) == (3, 0, 0)
    assert (scans / "deep er" / "b_desc-anomaly_map.nii.gz").exists()
    assert counts(run(scans, output=scans)) == (0, 3, 0)


def test_a_scan_that_is_gone_fails_although_it_was_done(scans: Path, stand: Stand) -> None:
    listed = scans.parent / "list.txt"
    listed.write_text("".join(f"{path}\n" for path in sorted(scans.rglob("*.nii"))))
    assert counts(run(list_file=str(listed), output=scans.parent / "out")) == (2, 0, 0)
    (scans / "a.nii").unlink()
    assert counts(run(list_file=str(listed), output=scans.parent / "out")) == (0, 1, 1)
