"""Replaces itself by another program that ends when its parent does.

Run as a script: `python -I -S _tied.py PARENT_PID PROGRAM ARGUMENT...`. It stands between so that nothing of ours runs
in a forked copy of a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # The parent may have gone before it was watched.
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent has ended")
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - the program is our own choice
