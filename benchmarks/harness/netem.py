"""A network namespace behind a link, where the machine allows it, and that link made slow."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import os
import subprocess

_BITS = 2_000_000


class LinkError(RuntimeError):
    """There is no such link to be had; the text says why."""


@dataclass(frozen=True)
class Namespace:
    """
    A network namespace ``name``, the devices at both ends of the link to it.

    ``host`` is this side's address; ``prefix`` runs a command on the far one.
    """

    name: str
    near: str
    far: str
    host: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """What runs a command there."""
        return ('ip', 'netns', 'exec', self.name)


@dataclass(frozen=True)
class Link:
    """
    Where the bridge listens (``host``), and what runs a command at the far end (``prefix``).

    ``bits`` a second go through; ``remark`` is to be told beside what was measured.
    """

    host: str
    prefix: tuple[str, ...]
    remark: str
    bits: int = _BITS


@contextmanager
def network_namespace() -> Iterator[Namespace]:
    """Make a namespace with a link to it; raises LinkError."""
    name = f'camws{os.getpid()}'
    near, far = f'cn{os.getpid()}', f'cf{os.getpid()}'
    network = f'10.203.{os.getpid() % 256}'
    run('ip', 'netns', 'add', name)
    try:
        run('ip', 'link', 'add', near, 'type', 'veth', 'peer', 'name', far, 'netns', name)
        run('ip', 'addr', 'add', f'{network}.1/30', 'dev', near)
        run('ip', 'link', 'set', near, 'up')
        run('ip', '-n', name, 'addr', 'add', f'{network}.2/30', 'dev', far)
        run('ip', '-n', name, 'link', 'set', far, 'up')
        yield Namespace(name, near, far, f'{network}.1')
    finally:
        subprocess.run(['ip', 'link', 'del', near], capture_output=True)
        subprocess.run(['ip', 'netns', 'del', name], capture_output=True)


@contextmanager
def slow_network() -> Iterator[Link]:
    """Make a namespace with a slow link to it; raises LinkError."""
    with network_namespace() as it:
        yield Link(it.host, it.prefix, _slow_down(it.name, it.near, it.far))


def _slow_down(name: str, near: str, far: str) -> str:
    """Slow the link down; return what must be said about how."""
    try:
        run('tc', 'qdisc', 'add', 'dev', near, 'root', 'netem', 'rate', str(_BITS), 'delay',
             '25ms', 'loss', '1%')
        run('tc', '-n', name, 'qdisc', 'add', 'dev', far, 'root', 'netem', 'delay', '25ms',
             'loss', '1%')
        return ''
    except LinkError as error:
        # The rate alone says something too.
        run('tc', 'qdisc', 'add', 'dev', near, 'root', 'tbf', 'rate', str(_BITS), 'burst',
             '4kb', 'latency', '50ms')
        return f'; by tbf, the rate alone ({error})'


def run(*command: str) -> None:
    """Run a command; raises LinkError with its words when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise LinkError(f'{command[0]}: {error.strerror}') from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ['failed'])[0]
        raise LinkError(f'{command[0]}: {said}')
