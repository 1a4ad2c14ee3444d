"""The log-odds of the learned score: the same order, and a tail that can be extrapolated."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from uadcli.scoring import scores
from uadcli.scoring.calibration import healthy_tail, rarity

P = np.array([0, 1e-6, 1e-4, 0.01, 0.1, 0.5, 0.9, 0.99, 1 - 1e-6, 1], np.float32).reshape(10, 1, 1)


def log_odds(probability: np.ndarray) -> np.ndarray:
    return scores.find("log-odds").compute(SimpleNamespace(probability=probability))  # type: ignore[arg-type]


def test_it_is_the_logarithm_of_the_odds_above_those_of_one_in_ten_thousand() -> None:
    found = log_odds(P)
    assert found.dtype == np.float32
    assert (found[:3] == 0).all()
    inner = P[3:8].astype(np.float64)
    np.testing.assert_allclose(found[3:8], np.log(inner / (1 - inner)) - np.log(1e-4 / (1 - 1e-4)), rtol=1e-4)
    assert (np.diff(found.ravel()) >= 0).all()
    assert found.max() == found[-2] == pytest.approx(scores.find("log-odds").highest, rel=1e-3)


def test_beyond_health_a_probability_is_as_rare_as_its_odds_say() -> None:
    rng = np.random.default_rng(0)
    p = 1 / (1 + np.exp(-rng.normal(-8, 1.2, (40, 50, 50)))).astype(np.float32)  # in health, log-odds are normal
    inside = np.ones(p.shape, bool)
    high = np.array([0.9], np.float32).reshape(1, 1, 1)
    by_odds = rarity(log_odds(high), healthy_tail([(log_odds(p), inside)])).item()
    by_probability = rarity(high, healthy_tail([(p, inside)])).item()
    true = 17.0  # -log10 of the share of a normal distribution above (log(9) + 8) / 1.2
    assert abs(by_odds - true) < 6 < by_probability - true
