"""The device on which a training runs, and how its process keeps memory."""

from __future__ import annotations

import ctypes
import sys

import torch

from offlinemeta.benchmark.errors import RunError

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""The numbers by which glibc's ``mallopt`` knows two of its parameters."""


def check_device(name: str | None) -> str:
    """Return the device to train on: the named one, or else ``cuda`` where it is available.

    Raises:
        RunError: CUDA was asked for and is not available, or there is no such device.
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise RunError(f"Device {name!r} is neither cpu nor cuda.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise RunError("CUDA was asked for, and torch sees no such device here. Leave --device out, or give cpu.")
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise RunError(f"There is no {name} here; the last CUDA device is cuda:{torch.cuda.device_count() - 1}.")
    return name


def keep_memory() -> bool:
    """Keep freed memory in the process, which only glibc can do; return whether that was possible.

    Otherwise activations of some megabytes are given back to the system and mapped anew in every gradient step. At
    PEARL's published sizes that causes thousands of page faults a step, and takes a quarter to a half of the time
    (``make bench``).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    return bool(mallopt(MMAP_THRESHOLD, 1 << 30)) and bool(mallopt(TRIM_THRESHOLD, 1 << 30))
