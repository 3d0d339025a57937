"""The C programs: compiled on the fly, and how the load client is run."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
import hashlib
import json
from pathlib import Path
import shutil
import subprocess
from typing import Any

from benchmarks.harness.processes import Child, ROOT

BUILD = ROOT / 'build' / 'benchmarks'
_SOURCES = Path(__file__).resolve().parents[1] / 'native'
_FLAGS = ('-O2', '-std=gnu11', '-Wall', '-Wextra', '-Werror')


class CompilerError(RuntimeError):
    """A C program cannot be had; the text says why."""


def build(name: str, folder: Path = BUILD) -> Path:
    """Return the program made of ``native/NAME.c``; raises CompilerError."""
    source = _SOURCES / f'{name}.c'
    program = folder / f'{name}-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}'
    if program.exists():
        return program
    compiler = shutil.which('cc')
    if compiler is None:
        raise CompilerError('there is no C compiler (cc)')
    folder.mkdir(parents=True, exist_ok=True)
    made = program.with_suffix('.new')
    done = subprocess.run([compiler, *_FLAGS, '-o', str(made), str(source), '-lm'],
                          capture_output=True, text=True)
    if done.returncode:
        raise CompilerError(f'cc {source.name}: {done.stderr.strip()}')
    made.rename(program)
    return program


@dataclass(frozen=True)
class Group:
    """
    Clients that behave alike.

    ``rate``: read at most so many bytes/s. ``ack``: ms to show a message, then acknowledged.
    """

    name: str = 'clients'
    count: int = 1
    path: str = '/ws/color'
    protocol: str = 'camws'
    stalled: bool = False
    rate: int = 0
    ack: float = 0.0
    rcvbuf: int = 0

    def __str__(self) -> str:
        fields = {**vars(self), 'stalled': int(self.stalled)}
        return ','.join(f'{key}={value}' for key, value in fields.items())


@dataclass(frozen=True)
class Load:
    """When and with whom: seconds before and while it counts, the groups, who runs it."""

    groups: Sequence[Group]
    warmup: float
    seconds: float
    prefix: tuple[str, ...] = ()


def run_load(host: str, port: int, load: Load, on_ready: Callable[[], None] = lambda: None,
             on_start: Callable[[], None] = lambda: None,
             on_end: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Run the load client and return what it reports; the calls stand round what counts."""
    command = [*load.prefix, str(build('load_client')), host, str(port), str(load.warmup),
               str(load.seconds), *map(str, load.groups)]
    with Child(command) as child:
        child.wait_for('^ready$')
        on_ready()
        child.wait_for('^start$', load.warmup + 20)
        on_start()
        child.wait_for('^end$', load.seconds + 20)
        on_end()
        report: dict[str, Any] = json.loads(child.wait_for(r'^(\{.*\})$')[1])
    return report
