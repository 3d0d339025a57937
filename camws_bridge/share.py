"""Where the package's data files (config/ ...) are: in the source tree or installed."""
from __future__ import annotations

from pathlib import Path
import sys

_PACKAGE = 'camws_bridge'


def share_path(relative: str) -> Path:
    """Return the path of a data file such as ``config/boards/demo_board.yaml``."""
    for folder in _folders():
        if (folder / relative).exists():
            return folder / relative
    raise FileNotFoundError(f'{relative} of {_PACKAGE} was not installed')


def _folders() -> list[Path]:
    folders = [Path(__file__).resolve().parents[1]]
    try:
        from ament_index_python.packages import get_package_share_directory
        folders.append(Path(get_package_share_directory(_PACKAGE)))
    except (ImportError, LookupError, OSError, ValueError):
        # No ament, or none that knows the package: the source tree and pip's place are left.
        pass
    return [*folders, Path(sys.prefix) / 'share' / _PACKAGE]
