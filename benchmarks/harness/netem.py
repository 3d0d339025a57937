"""A network namespace behind a slow link, where the machine allows it."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import os
import subprocess

_BITS = 2_000_000


class LinkError(RuntimeError):
    """There is no slow link to be had; the text says why."""


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
def slow_network() -> Iterator[Link]:
    """Make a namespace with a slow link to it; raises LinkError."""
    name = f'camws{os.getpid()}'
    near, far = f'cn{os.getpid()}', f'cf{os.getpid()}'
    network = f'10.203.{os.getpid() % 256}'
    _run('ip', 'netns', 'add', name)
    try:
        _run('ip', 'link', 'add', near, 'type', 'veth', 'peer', 'name', far, 'netns', name)
        _run('ip', 'addr', 'add', f'{network}.1/30', 'dev', near)
        _run('ip', 'link', 'set', near, 'up')
        _run('ip', '-n', name, 'addr', 'add', f'{network}.2/30', 'dev', far)
        _run('ip', '-n', name, 'link', 'set', far, 'up')
        yield Link(f'{network}.1', ('ip', 'netns', 'exec', name), _slow_down(name, near, far))
    finally:
        subprocess.run(['ip', 'link', 'del', near], capture_output=True)
        subprocess.run(['ip', 'netns', 'del', name], capture_output=True)


def _slow_down(name: str, near: str, far: str) -> str:
    """Slow the link down; return what must be said about how."""
    try:
        _run('tc', 'qdisc', 'add', 'dev', near, 'root', 'netem', 'rate', str(_BITS), 'delay',
             '25ms', 'loss', '1%')
        _run('tc', '-n', name, 'qdisc', 'add', 'dev', far, 'root', 'netem', 'delay', '25ms',
             'loss', '1%')
        return ''
    except LinkError as error:
        # The rate alone says something too.
        _run('tc', 'qdisc', 'add', 'dev', near, 'root', 'tbf', 'rate', str(_BITS), 'burst',
             '4kb', 'latency', '50ms')
        return f'; by tbf, the rate alone ({error})'


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise LinkError(f'{command[0]}: {error.strerror}') from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ['failed'])[0]
        raise LinkError(f'{command[0]}: {said}')
