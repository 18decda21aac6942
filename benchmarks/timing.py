# SPDX-License-Identifier: Apache-2.0
"""Processor time of commands, for ratios taken in one run on one machine.

Our programs use one processor and wait for nothing when they plan, so that their processor time is what a user waits
on an idle machine; and it does not change with what else the machine does. The byte code is made first, as by an
installation: in a checkout it may be missing, where ``PYTHONDONTWRITEBYTECODE`` is set.
"""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import bareon

BIN = Path(sys.executable).parent


def best(*commands: Sequence[str], rounds: int = 9) -> list[float]:
    """The shortest time in seconds of each command; the rounds take turns, so that a busy moment hits them alike."""
    compileall.compile_dir(Path(bareon.__file__).parent, quiet=2)
    times: list[list[float]] = [[] for _ in commands]
    for _ in range(rounds):
        for command, taken in zip(commands, times, strict=True):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise subprocess.CalledProcessError(process.returncode, command)
            taken.append(usage.ru_utime + usage.ru_stime)
    return [min(taken) for taken in times]


def show(what: str, seconds: float, reference: str, reference_seconds: float, limit: float) -> bool:
    """Print a ratio with its reference; whether it is within the limit."""
    ratio = seconds / reference_seconds
    verdict = "within" if ratio <= limit else "OVER"
    print(f"{what}: {seconds * 1000:.0f} ms, {reference}: {reference_seconds * 1000:.0f} ms, "
          f"ratio {ratio:.2f} ({verdict} {limit:g})")  # fmt: skip
    return ratio <= limit
