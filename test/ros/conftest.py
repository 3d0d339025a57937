from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope='session')
def sides():
    """Two contexts, as two processes have: a participant costs more than all nodes of a test."""
    from ros_side import Side
    both = Side(), Side()
    yield both
    for side in both:
        side.close()


@pytest.fixture
def graph(sides) -> Iterator:
    """Return a graph of one participant: nothing waits for discovery."""
    from ros_side import Graph
    graph = Graph(sides[0], sides[0])
    yield graph
    graph.close()


@pytest.fixture
def wide_graph(sides) -> Iterator:
    """Return a graph where the bridge and what is outside have to discover each other."""
    from ros_side import Graph
    graph = Graph(*sides)
    yield graph
    graph.close()
