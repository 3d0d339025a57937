"""A link that is cut without a word to either end."""
from __future__ import annotations

from benchmarks.harness.netem import LinkError, Namespace, run


def cut_off(network: Namespace) -> None:
    """Have every packet dropped in both directions."""
    try:
        run('tc', 'qdisc', 'add', 'dev', network.near, 'root', 'netem', 'loss', '100%')
        run('tc', '-n', network.name, 'qdisc', 'add', 'dev', network.far, 'root', 'netem', 'loss',
            '100%')
    except LinkError:
        # The kernel has no netem: as if the cable were pulled on the far side.
        run('ip', '-n', network.name, 'link', 'set', network.far, 'down')
