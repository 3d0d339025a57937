"""
The web side as a process of its own, fed with images: what clients do to it can be measured.

    python -m faults.web_process NAME=VALUE...

The arguments are parameters as running_bridge takes them, the values as JSON. It prints its
address. For every line on standard input it prints one JSON line: what it holds at that moment.
"""
from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import sys
import threading
import time
from typing import Any

from web_bridge import DEMO_BOARD, running_bridge, scene, WebBridge

from camws_bridge.models import Stamp

RATE = 50.0
_PICTURES = [scene(number) for number in range(8)]


def publish(bridge: WebBridge, ended: threading.Event) -> None:
    number = 0
    while not ended.wait(1.0 / RATE):
        now = time.time()
        number += 1
        bridge.publish(pixels=_PICTURES[number % len(_PICTURES)],
                       stamp=Stamp(int(now), int(now % 1 * 1e9)))


def held(bridge: WebBridge) -> dict[str, Any]:
    """Return what is held when all that can be given back has been."""
    async def count() -> int:
        return len(asyncio.all_tasks()) - 1

    tasks = asyncio.run_coroutine_threadsafe(count(), bridge.server.loop).result(5)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open('/proc/self/status') as status:
        memory = next(int(line.split()[1]) for line in status if line.startswith('RssAnon'))
    return {'tasks': tasks, 'threads': threading.active_count(), 'clients':
            bridge.connections.total, 'sockets': len(os.listdir('/proc/self/fd')),
            'memory_kb': memory}


def main() -> None:
    import logging
    logging.basicConfig(level=logging.INFO)
    values = {name: json.loads(value) for name, _, value in
              (argument.partition('=') for argument in sys.argv[1:])}
    ended = threading.Event()
    with running_bridge(board__file=DEMO_BOARD, **values) as bridge:
        camera = threading.Thread(target=publish, args=(bridge, ended))
        camera.start()
        print(f'listening on http://127.0.0.1:{bridge.server.port}', flush=True)
        for _ in sys.stdin:
            print(json.dumps(held(bridge)), flush=True)
        ended.set()
        camera.join()


if __name__ == '__main__':
    main()
