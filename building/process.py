# SPDX-License-Identifier: Apache-2.0
"""Runs a program to its end, within a time limit."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: How much of a failed program's output an error message repeats, in characters.
TAIL = 2000
#: Programs that somebody waits for.
_RUNNING: set[subprocess.Popen[str]] = set()


@dataclass(frozen=True)
class Completed:
    """What a program left behind: its exit status and its two outputs."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str


class ProgramError(Exception):
    """A program ended with an unexpected status, or did not end in time."""

    def __init__(self, argv: Sequence[str], reason: str, output: str = "") -> None:
        self.reason = reason
        self.output = output
        super().__init__(f"{shlex.join(argv)}: {reason}\n{output[-TAIL:]}".rstrip())


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float,
    check: bool = True,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
) -> Completed:
    """Run ``argv`` without a shell and return its output; ``timeout`` is in seconds.

    Output that is not UTF-8 is kept with escapes rather than refused.

    :raises ProgramError: when it ran out of time, or (with ``check``) ended with a non-zero status
    """
    words = tuple(str(word) for word in argv)
    try:
        child = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=env,
            encoding="utf-8",
            errors="backslashreplace",
        )
    except FileNotFoundError:
        raise ProgramError(words, "no such program; bindep.txt lists the packages") from None
    _RUNNING.add(child)
    try:
        stdout, stderr = child.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired:
        child.kill()
        stdout, stderr = child.communicate()
        raise ProgramError(words, f"no end within {timeout:g} s", stdout + stderr) from None
    except BaseException:
        child.kill()
        child.wait()
        raise
    finally:
        _RUNNING.discard(child)
    if check and child.returncode != 0:
        raise ProgramError(words, f"exit {child.returncode}", stdout + stderr)
    return Completed(words, child.returncode, stdout, stderr)


def kill_running() -> None:
    """Kill every program that :func:`run` waits for, in whatever thread."""
    for child in list(_RUNNING):
        child.kill()
