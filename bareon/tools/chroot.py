# SPDX-License-Identifier: Apache-2.0
"""Programs of a deployed system, run below its tree: chroot(1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bareon.run import Command, run

PROGRAMS = ("chroot",)
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
TIMEOUT = 600.0  # seconds; grub-mkconfig probes each kernel, slowly under emulation


def run_inside(
    root: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None, timeout: float = TIMEOUT
) -> Command:
    """Run a program of the system that is mounted at ``root``, and has its /proc, /sys, /dev and /run there.

    :raises CommandError: as :func:`bareon.run.run`.
    """
    return run(["chroot", root, *argv], env={**(env or {}), "PATH": _PATH}, timeout=timeout)
