"""Gets the packages of a comparison, beside .venv and not into it."""
from __future__ import annotations

import hashlib
from pathlib import Path
import subprocess
import sys

from benchmarks.harness.native import BUILD

REQUIREMENTS = Path(__file__).resolve().parents[1] / 'requirements.txt'


class PeerError(RuntimeError):
    """The comparison cannot be had; the text says why."""


def peer_folder(requirements: Path = REQUIREMENTS) -> Path:
    """Return the folder with the packages, installed if need be; raises PeerError."""
    wanted = requirements.read_bytes() + sys.version.encode()
    folder = BUILD / f'peer-{hashlib.sha256(wanted).hexdigest()[:12]}'
    if folder.exists():
        return folder
    made = folder.with_suffix('.new')
    # Without what they need: numpy is in .venv already, and there must not be a second one.
    command = [sys.executable, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check',
               '--no-deps', '--upgrade', '--target', str(made), '-r', str(requirements)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f'pip: {error}') from None
    if done.returncode:
        raise PeerError(f'pip: {(done.stderr.strip().splitlines() or ["failed"])[-1]}')
    made.rename(folder)
    return folder
