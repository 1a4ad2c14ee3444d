"""The plain baseline of `make bench-reference` is the published network, and ours gives the same at equal weights."""

from __future__ import annotations

import numpy as np
import published
import pytest
import reference
import torch

from uadcli.config import EncoderConfig, ModelConfig, UNetConfig, preset
from uadcli.reconstruction.model import ConditionedDiffusion

TINY = ModelConfig(
    unet=UNetConfig(channels=16, multipliers=(1, 2, 2), blocks=1, head_channels=8, embedding=16),
    encoder=EncoderConfig(blocks=(1, 2), width=4, condition=16),
)


def test_the_baseline_has_the_published_sizes_and_the_parameters_of_ours() -> None:
    with torch.device("meta"):
        plain, own = published.Encoder, ConditionedDiffusion(preset("reference"))
        parts = {"encoder": plain(preset("reference").encoder), "unet": published.UNet(preset("reference").unet, 512)}
    shapes = {f"{part}.{key}": value.shape for part, one in parts.items() for key, value in one.state_dict().items()}
    assert shapes == {key: value.shape for key, value in own.state_dict().items()}
    count = sum(value.numel() for one in parts.values() for value in one.parameters())
    assert count == pytest.approx(68.6e6, rel=0.002)


@pytest.mark.parametrize("arithmetic", ["float32", "bf16"])
def test_both_give_the_same_map_at_equal_weights(arithmetic: str) -> None:
    pair, given = reference.networks(TINY, "cpu"), reference.volume(7)
    assert reference.difference(pair, given, "cpu", arithmetic) < reference.BOUNDS[arithmetic]
    made, seconds = published.infer(pair[0], given.slices, given.brain, reference.LEVELS)
    assert made.shape == given.slices.shape
    assert made.max() > 0.05  # there is something to compare
    assert set(seconds) == {"noise", "network", "post-processing"}
    with torch.no_grad():
        pair[1].unet.out.bias += 0.1
    assert reference.difference(pair, given, "cpu", arithmetic) > max(0.01, reference.BOUNDS[arithmetic])


def test_the_table_says_which_aims_are_met() -> None:
    steps = {"noise": 1.0, "network": 8.0, "post-processing": 1.0}
    fast = {key: value / 60 for key, value in steps.items()}
    seconds = {"published": steps, "equal weights": steps, reference.IN_FLOAT32: steps, "T1w": fast, "FLAIR": fast}
    text = reference.table(seconds, dict.fromkeys(seconds, 100.0), 12.5, "cpu")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]
    assert rows[0] == ["published", "125", "100", "1.00", "-", "10%", "80%", "10%"]
    assert [row[4] for row in rows[1:]] == ["1.5: MISSED", "-", "100: MISSED", "50: met"]


def test_turns_are_taken_and_the_median_counts() -> None:
    order: list[str] = []

    def run(name: str, values: list[float]) -> reference.Run:
        def one() -> tuple[reference.Array, dict[str, float]]:
            order.append(name)
            return np.zeros(1, dtype=np.float32), {"network": values.pop(0)}

        return one

    found = reference.measured({"a": run("a", [9, 1, 5, 2]), "b": run("b", [9, 3, 3, 3])}, 3)
    assert found == {"a": {"network": 2}, "b": {"network": 3}}
    assert order == ["a", "b"] * 4
