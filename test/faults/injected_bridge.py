"""
The bridge, into which faults can be injected while it runs.

    python -m faults.injected_bridge FILE [bridge arguments]

On SIGUSR1 it reads a line ``PLACE FAULT`` from FILE. PLACE is ``module:name`` or
``module:Class.name``, something that is looked up when it is called. FAULT is the name of a
built-in exception, which the next call raises, once; or ``sleep:SECONDS``, which makes every call
take so long; ``value:NUMBER``, which it is from now on; or ``none``, which makes it whole again.
The line is removed when it is in force.
"""
from __future__ import annotations

import builtins
import importlib
from pathlib import Path
import signal
import sys
import time
from typing import Any

real: dict[str, Any] = {}


def inject(place: str, fault: str) -> None:
    module, _, path = place.partition(':')
    owner: Any = importlib.import_module(module)
    *parents, name = path.split('.')
    for parent in parents:
        owner = getattr(owner, parent)
    call = real.setdefault(place, getattr(owner, name))
    kind, _, number = fault.partition(':')

    def fail_once(*args: Any, **kwargs: Any) -> Any:
        setattr(owner, name, call)
        raise getattr(builtins, kind)('injected')

    def dawdle(*args: Any, **kwargs: Any) -> Any:
        time.sleep(float(number))
        return call(*args, **kwargs)

    if kind == 'value':
        setattr(owner, name, float(number))
    else:
        setattr(owner, name, {'sleep': dawdle, 'none': call}.get(kind, fail_once))


def main() -> int:
    control = Path(sys.argv.pop(1))

    def take(*_: object) -> None:
        inject(*control.read_text().split())
        control.unlink()

    signal.signal(signal.SIGUSR1, take)
    from camws_bridge.main import main as real_main
    return real_main()


if __name__ == '__main__':
    sys.exit(main())
