"""How pytest-xdist hands out the tests: groups to one process each, by ids that all processes agree on."""

from __future__ import annotations

import os

import pytest
from own_cores import share


@pytest.mark.xdist_group("groups")
def test_a_group_is_known_to_what_hands_out_the_tests(request: pytest.FixtureRequest) -> None:
    """pytest-xdist appends the group to the id of a test, and hands out the ids; alone, pytest knows no groups."""
    handed_out = bool(request.config.getoption("loadgroup", default=False))
    assert request.node.nodeid.endswith("@groups") == handed_out


@pytest.mark.parametrize("content", [os.urandom(8)])
def test_ids_do_not_depend_on_bytes(content: bytes, request: pytest.FixtureRequest) -> None:
    del content
    assert request.node.callspec.id == "content"


@pytest.mark.parametrize(
    ("cores", "count", "shares"),
    [
        (1, 2, [[0], [0]]),
        (2, 2, [[0], [1]]),
        (3, 2, [[0, 2], [1]]),
        (2, 4, [[0], [1], [0], [1]]),
        (8, 4, [[0, 4], [1, 5], [2, 6], [3, 7]]),
    ],
)
def test_the_cores_are_shared_among_the_processes(cores: int, count: int, shares: list[list[int]]) -> None:
    everything = list(range(cores))
    assert [share(everything, f"gw{i}", count) for i in range(count)] == shares
    assert share(everything, f"gw{count}", count) == shares[0]  # it replaces one that died
    assert share(everything, "elsewhere", count) == everything
