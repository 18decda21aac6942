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
        done = subprocess.run(
            words,
            input=stdin,
            capture_output=True,
            timeout=timeout,
            cwd=cwd,
            env=env,
            encoding="utf-8",
            errors="backslashreplace",
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        output = b"".join(part for part in (error.stdout, error.stderr) if part)
        raise ProgramError(words, f"no end within {timeout:g} s", output.decode(errors="replace")) from None
    except FileNotFoundError:
        raise ProgramError(words, "no such program; bindep.txt lists the packages") from None
    if check and done.returncode != 0:
        raise ProgramError(words, f"exit {done.returncode}", done.stdout + done.stderr)
    return Completed(words, done.returncode, done.stdout, done.stderr)
