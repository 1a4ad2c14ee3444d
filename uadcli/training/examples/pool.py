"""The examples that the score is trained on: reconstructed scenes, made in worker processes beside the steps."""

from __future__ import annotations

import functools
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uadcli.config import ReconstructionConfig, SiameseConfig
from uadcli.errors import DeviceError
from uadcli.files import DAMAGED, write_with
from uadcli.imaging.slices import to_slices
from uadcli.model.model import Model
from uadcli.running.stage import Progress, unseen
from uadcli.training import loop
from uadcli.training.examples.synthetic import Scene, SceneMaker
from uadcli.workers import Died, Workers


@dataclass(frozen=True)
class Example:
    """A case as stacks (Z, H, W): scan and reconstruction in units of 1/255, lesion mask, brain mask.

    The scan is at most 255, or 510 with its headroom (`imaging.intensity.headroom`).
    """

    image: NDArray[np.uint16]
    recon: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    brain: NDArray[np.bool_]
    usable: NDArray[np.int64]


class ExampleMaker:
    """Makes numbered examples: scenes, reconstructed by a model, with or without their `headroom`.

    Scenes are made in `workers` processes, reconstructions here, where the device is. An example depends on its number
    and on the seed of the scenes, not on how many processes there are.
    """

    def __init__(self, scenes: SceneMaker, model: Model, headroom: bool, workers: int = 0) -> None:
        self.scenes, self.model, self.headroom, self.workers = scenes, model, headroom, workers

    def draw(self, number: int) -> Example:
        """The example with this number."""
        return self.example(self.scenes.draw(number))

    def example(self, scene: Scene) -> Example:
        """The example of a scene. Raises `ValueError` if it is not scaled to [0, 1], which uint8 could not hold."""
        x, mask = scene.x, scene.mask
        if x.min() < 0 or x.max() > 1:
            raise ValueError(f"a scene has intensities from {x.min():.3g} to {x.max():.3g}, not within 0 and 1")
        recon = self.model.reconstruct(x, mask, ReconstructionConfig(levels=scene.levels, seed=scene.seed))
        image = np.round(to_slices(x + scene.headroom if self.headroom else x) * 255).astype(np.uint16)
        healthy = np.round(to_slices(recon) * 255).astype(np.uint8)
        keep = scene.usable[mask[:, :, scene.usable].any(axis=(0, 1))]
        return Example(image, healthy, to_slices(scene.truth & mask), to_slices(mask), keep)

    def several(self, numbers: Sequence[int]) -> Generator[Example, None, None]:
        """The examples with these numbers, in their order; the scenes of the next ones are made meanwhile.

        Closing the iterator ends the processes. Raises `DeviceError` if one of them dies.
        """
        if not self.workers:
            yield from map(self.draw, numbers)
            return
        made, arrived = Workers(_OneThread(self.scenes), self.workers).run(numbers), dict[int, Scene]()
        try:
            for number in numbers:
                while number not in arrived:
                    other, scene = next(made)
                    if isinstance(scene, Died):
                        raise DeviceError(f"the process that made synthetic example {other} {scene.in_words()}")
                    arrived[other] = scene
                yield self.example(arrived.pop(number))
        finally:
            made.close()  # type: ignore[attr-defined]


@dataclass(frozen=True)
class _OneThread:
    """Makes scenes in a process that leaves the other cores to the training."""

    scenes: SceneMaker

    def __call__(self, number: int) -> Scene:
        import torch

        torch.set_num_threads(1)
        return self.scenes.draw(number)


class ExamplePool:
    """The examples that a step draws from: a window of the maker's numbered examples that moves with the steps.

    It starts small and grows to its full size. The window depends only on the step, so a resumed run sees the same
    examples as an uninterrupted one; `folder` keeps those in the window, so that they need not be made again.
    """

    def __init__(self, maker: ExampleMaker, config: SiameseConfig, folder: Path) -> None:
        self.maker, self.config, self.folder = maker, config, folder
        self.held: dict[int, Example] = {}
        self._coming: Generator[Example, None, None] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def window(self, done: int) -> range:
        """The numbers of the examples for the step after `done` steps; a volume has about 60 usable slices."""
        config = self.config
        drawn = min(12, config.pool) + int(done * config.batch_size / (config.draws * 60))
        return range(max(0, drawn - config.pool), drawn)

    def at(self, done: int, stop: loop.Interruption, made: Progress = unseen) -> list[Example] | None:
        """The examples for the step after `done` steps, in order; None if `stop` came while they were being made.

        Steps are asked for in their order. `made` is called with the number of new examples before each, and of all
        that the step lacks.
        """
        window = self.window(done)
        self._coming = self._coming or self._begin(window.start)
        lacking = [number for number in window if number not in self.held]
        for count, number in enumerate(lacking):
            if stop:
                return None
            made(count, len(lacking))
            self.held[number] = next(self._coming)
            write_with(self._file(number), functools.partial(np.savez_compressed, **vars(self.held[number])))
        for number in [n for n in self.held if n < window.start]:
            del self.held[number]
            self._file(number).unlink(missing_ok=True)
        return [self.held[number] for number in window]

    def close(self) -> None:
        """End the processes that make examples."""
        if self._coming is not None:
            self._coming.close()

    def _begin(self, first: int) -> Generator[Example, None, None]:
        """Read the examples that are there, and begin to make all others from the number `first` on."""
        numbers = range(first, self.window(self.config.steps - 1).stop)
        for number in numbers:
            if (one := self._read(number)) is not None:
                self.held[number] = one
        return self.maker.several([number for number in numbers if number not in self.held])

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npz"

    def _read(self, number: int) -> Example | None:
        """The example of a file; None if there is none, or it is damaged."""
        with suppress(*DAMAGED, FileNotFoundError), np.load(self._file(number), allow_pickle=False) as stored:
            return Example(**{name: stored[name] for name in Example.__dataclass_fields__})
        return None
