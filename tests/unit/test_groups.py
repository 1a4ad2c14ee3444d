"""Tests of a group run in one process, for what they share and must not do at once."""

from __future__ import annotations

import pytest


@pytest.mark.xdist_group("groups")
def test_a_group_is_known_to_what_hands_out_the_tests(request: pytest.FixtureRequest) -> None:
    """pytest-xdist appends the group to the id of a test, and hands out the ids; alone, pytest knows no groups."""
    handed_out = bool(request.config.getoption("loadgroup", default=False))
    assert request.node.nodeid.endswith("@groups") == handed_out
