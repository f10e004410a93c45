"""A training on a CPU takes up again what it let go."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# 40 blocks of 64 MB, one after the other, each written to: how many pages had to be mapped anew for the last 39.
CODE = """
import ctypes, resource, sys
from robointervlm.train.devices import keep_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def block():
    place = libc.malloc(64 * 2**20)
    ctypes.memset(place, 1, 64 * 2**20)
    libc.free(place)
block()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(39):
    block()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory")
def test_kept_memory_is_not_mapped_again():
    def faults(how: str) -> int:
        return int(subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, check=True).stdout)

    # With pages of 4 KB there are 16384 in a block; larger pages make fewer.
    assert faults("keep") < 39
    assert faults("leave") >= 39
