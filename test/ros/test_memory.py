import platform
import subprocess
import sys

import pytest

from camws_bridge.ros import memory

# The page faults of five blocks of 40 MB, each written and freed again; 32 MB is the most that
# malloc learns to keep by itself.
FAULTS = '''
import ctypes, resource, sys
from camws_bridge.ros.memory import keep_large_blocks
if sys.argv[1] == 'tuned':
    keep_large_blocks()
libc = ctypes.CDLL('libc.so.6')
libc.malloc.restype = ctypes.c_void_p
def use():
    block = ctypes.c_void_p(libc.malloc(40 << 20))
    ctypes.memset(block, 1, 40 << 20)
    libc.free(block)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
'''


def faults(how):
    return int(subprocess.run([sys.executable, '-c', FAULTS, how], capture_output=True, text=True,
                              check=True, timeout=30).stdout)


def test_large_blocks_are_kept():
    if platform.libc_ver()[0] != 'glibc':
        pytest.skip('there is no glibc here')
    plain = faults('plain')
    if plain < 100:
        pytest.skip(f'malloc keeps large blocks here by itself ({plain} faults)')
    assert faults('tuned') < plain / 10


@pytest.mark.parametrize('library', [None, object()])
def test_without_glibc_nothing_happens(monkeypatch, library):
    def load(name):
        if library is None:
            raise OSError(f'{name}: cannot open shared object file')
        return library
    monkeypatch.setattr(memory.ctypes, 'CDLL', load)
    memory.keep_large_blocks()
