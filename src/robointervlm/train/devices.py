"""What this machine has to compute on, and how a training on it holds its memory."""

from __future__ import annotations

import ctypes

import torch

# The names that mallopt has for its settings, as glibc's malloc.h numbers them.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
# By how much the heap grows at once, in bytes.
_GROWTH = 2**30


def gpus_present() -> int:
    """How many GPUs torch can use."""
    return torch.cuda.device_count()


def keep_freed_memory() -> bool:
    """Have this process, and those it forks, keep what it frees; its peak stays what it is, or grows by some percent.

    By itself glibc gives every large tensor back to the system, and the system clears and maps the same pages anew:
    about 370 thousand page faults in each packed step of a 190 M model, 5 % of its time (docs/training_speed.md).

    False where the C library is not glibc: then nothing is changed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
        ctypes.CDLL(None).gnu_get_libc_version  # noqa: B018 - other libraries have a mallopt that does nothing
    except (AttributeError, OSError):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, _GROWTH))
    return all(mallopt(name, value) == 1 for name, value in settings)
