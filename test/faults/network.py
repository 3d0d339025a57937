"""A network that can be cut off without a word, where the machine allows it."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import os
import subprocess


class NetworkError(RuntimeError):
    """There is none to be had; the text says why."""


@dataclass(frozen=True)
class Network:
    """Where this side is reached from the other (``host``); ``prefix`` runs a command there."""

    host: str
    prefix: tuple[str, ...]
    near: str


@contextmanager
def network_namespace() -> Iterator[Network]:
    """Make a namespace with a link to it; raises NetworkError."""
    name, near, far = (f'{start}{os.getpid()}' for start in ('camwsf', 'fn', 'ff'))
    network = f'10.204.{os.getpid() % 256}'
    _run('ip', 'netns', 'add', name)
    try:
        _run('ip', 'link', 'add', near, 'type', 'veth', 'peer', 'name', far, 'netns', name)
        _run('ip', 'addr', 'add', f'{network}.1/30', 'dev', near)
        _run('ip', 'link', 'set', near, 'up')
        _run('ip', '-n', name, 'addr', 'add', f'{network}.2/30', 'dev', far)
        _run('ip', '-n', name, 'link', 'set', far, 'up')
        yield Network(f'{network}.1', ('ip', 'netns', 'exec', name), near)
    finally:
        subprocess.run(['ip', 'link', 'del', near], capture_output=True)
        subprocess.run(['ip', 'netns', 'del', name], capture_output=True)


def cut_off(network: Network) -> None:
    """Have every packet dropped in both directions."""
    far = network.prefix
    name = 'ff' + network.near[2:]
    try:
        _run('tc', 'qdisc', 'add', 'dev', network.near, 'root', 'netem', 'loss', '100%')
        _run(*far, 'tc', 'qdisc', 'add', 'dev', name, 'root', 'netem', 'loss', '100%')
    except NetworkError:
        # The kernel has no netem: as if the cable were pulled on the far side.
        _run(*far, 'ip', 'link', 'set', name, 'down')


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise NetworkError(f'{command[0]}: {error.strerror}') from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ['failed'])[0]
        raise NetworkError(f'{command[0]}: {said}')
