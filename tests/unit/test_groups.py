"""How pytest-xdist hands out the tests: groups to one process each, by ids that all processes agree on."""

from __future__ import annotations

import os

import pytest


@pytest.mark.xdist_group("groups")
def test_a_group_is_known_to_what_hands_out_the_tests(request: pytest.FixtureRequest) -> None:
    """pytest-xdist appends the group to the id of a test, and hands out the ids; alone, pytest knows no groups."""
    handed_out = bool(request.config.getoption("loadgroup", default=False))
    assert request.node.nodeid.endswith("@groups") == handed_out


@pytest.mark.parametrize("content", [os.urandom(8)])
def test_ids_do_not_depend_on_bytes(content: bytes, request: pytest.FixtureRequest) -> None:
    assert len(content) == 8
    assert request.node.callspec.id == "content"
