"""Training by Lightning Fabric: on one CPU as without it, and in two processes that stay equal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from uadcli.config import ModelConfig, TrainConfig
from uadcli.console import Reporter
from uadcli.errors import DeviceError, OutputError, UadError, UsageError
from uadcli.training import checkpoint, devices
from uadcli.training.examples.slices import SliceSet, Split
from uadcli.training.reconstruction import Job, Trainer, work

SETTINGS = TrainConfig(steps=4, batch_size=4, checkpoint_every=2, warmup=2)
SAID = "said.json"


def discs() -> SliceSet:
    """Discs of random size, in two contrasts."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(96) - 47.5, torch.arange(96) - 47.5, indexing="ij")
    radius = 25 + 15 * torch.rand(12, 1, 1, generator=generator)
    image = torch.where((y**2 + x**2).sqrt() < radius, 180, 0).to(torch.uint8)
    return SliceSet(image, torch.arange(12) % 2)


def test_on_one_cpu_nothing_changes(tiny: ModelConfig, tmp_path: Path) -> None:
    plain = Trainer(tiny, SETTINGS)
    losses = [plain.step(discs()) for _ in range(2)]
    placed = Trainer(tiny, SETTINGS)
    placed.place(devices.fabric(0, precision="float32"))
    assert [placed.step(discs()) for _ in range(2)] == losses
    placed.save(tmp_path / "last.pt")
    again = Trainer.load(tmp_path / "last.pt", devices.fabric(0, precision="float32"))
    assert again.step(discs()) == plain.step(discs())


def test_what_is_not_there_is_said(tiny: ModelConfig) -> None:
    with pytest.raises(DeviceError, match="64 GPUs"):
        devices.fabric(64)
    two = devices.fabric(0, 2)
    with pytest.raises(UsageError, match="not a multiple of 2"):
        Trainer(tiny, replace(SETTINGS, batch_size=3)).place(two)


def test_what_is_silent_stays_so_in_processes_of_their_own(
    tiny: ModelConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job = Job(tiny, replace(SETTINGS, steps=1), Split(discs(), discs()), tmp_path / "silent", silent=True)
    for one, said in ((job, False), (replace(job, folder=tmp_path / "loud", silent=False), True)):
        work(devices.fabric(0), one)  # without a reporter, as in one process of several
        assert ("step 1: loss" in capfd.readouterr().err) is said


def both(fabric: Any, job: Job) -> list[Any]:
    """Train in each process, then compare: the parameters' and the random states' largest differences, and a batch."""
    work(fabric, job, Reporter(silent=True))
    trainer = Trainer.load(checkpoint.find(job.folder) or job.folder, fabric)
    flat = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    all_flat = fabric.all_gather(flat)
    index = fabric.all_gather(job.slices.train.draw(8, trainer.generator))
    return [trainer.done, float((all_flat[0] - all_flat[1]).abs().max()), index.tolist(), fabric.world_size]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_cpu_processes_train_one_network_and_go_on_bit_for_bit(tiny: ModelConfig, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole = Job(tiny, SETTINGS, Split(discs(), discs()), tmp_path / "whole")
    part = replace(whole, folder=tmp_path / "parts", config=replace(SETTINGS, warmup=2, steps=4))
    with pytest.raises(UadError, match="the work cannot be done"):  # an error in the processes is that of the launch
        devices.launch(devices.fabric(0, 2), whole_and_stopped, whole, part)
    done, difference, index, count = json.loads((tmp_path / SAID).read_text())
    assert (done, count) == (4, 2)
    assert difference == 0
    assert index[0] != index[1]  # each process draws batches of its own
    rows = (tmp_path / "whole" / "log.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "2", "4"]  # one of them writes
    again = devices.launch(devices.fabric(0, 2), both, part)
    assert again == [done, difference, index, count]
    first, second = (checkpoint.read(folder / "last.pt") for folder in (whole.folder, part.folder))
    assert all(torch.equal(first["model"][name], second["model"][name]) for name in first["model"])
    assert torch.equal(first["generator"], second["generator"])
    assert first["generator"].shape[0] == 2


def whole_and_stopped(fabric: Any, whole: Job, stopped: Job) -> None:
    """Write what `both` says of a whole training; then two steps of another, a checkpoint, and an error.

    All of it in one launch, because a start of processes takes seconds.
    """
    said = both(fabric, whole)
    if fabric.global_rank == 0:
        (whole.folder.parent / SAID).write_text(json.dumps(said))
    stops_after_two(fabric, stopped)
    raise UadError("the work cannot be done", hint="Rest.")


def stops_after_two(fabric: Any, job: Job) -> None:
    """Two steps of a training, and a checkpoint."""
    trainer = Trainer(job.model, job.config)
    trainer.place(fabric)
    for _ in range(2):
        trainer.step(job.slices.train)
    trainer.save(job.folder / checkpoint.LAST)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_error_in_one_process_alone_is_that_of_the_launch(tmp_path: Path) -> None:
    """Only one process writes, and the others fail as they lose it."""
    with pytest.raises(OutputError, match="no space left"):
        devices.launch(devices.fabric(0, 2), cannot_write, tmp_path)


def cannot_write(fabric: Any, folder: Path) -> None:
    """Fail in the first process while the other waits for it."""
    if fabric.global_rank == 0:
        raise OutputError("no space left", path=folder)
    fabric.all_reduce(torch.ones(1))
