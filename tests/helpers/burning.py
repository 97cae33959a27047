"""Work that uses as much CPU time as it is told."""

from __future__ import annotations

import subprocess
import sys

BURN = 'import time, os\nwhile sum(os.times()[:2]) < {seconds}: pass\nprint(sum(os.times()[:2]), flush=True)\n'


def burn(seconds):
    """A process that uses so much CPU time, and what it has used by its own account."""
    return subprocess.Popen(
        [sys.executable, '-c', BURN.format(seconds=seconds) + 'input()'],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
