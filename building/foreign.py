# SPDX-License-Identifier: Apache-2.0
"""Debian trees of another architecture than this machine's, whose programs the kernel hands to an emulator.

What makes a tree of this machine's own is left alone: all that is kept in the cache is known by its text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from building import debian
from building.process import ProgramError, run

#: Seconds. What packages do when they are installed is emulated, and takes several times as long.
BUILD_LIMIT = 4 * debian.BUILD_LIMIT
#: Where the kernel lists the kinds of programs that it hands to an interpreter.
BINFMT = Path("/proc/sys/fs/binfmt_misc")
#: Debian's names of architectures, and qemu's.
EMULATORS = {"amd64": "qemu-x86_64", "arm64": "qemu-aarch64"}


def is_foreign(architecture: str) -> bool:
    """True for an architecture, by Debian's name, whose programs this machine does not run by itself."""
    return run(["dpkg", "--print-architecture"], timeout=60).stdout.strip() != architecture


def make_tree(
    architecture: str, suite: str, packages: Sequence[str], target: Path, *, included: Sequence[str] = ()
) -> None:
    """Do what :func:`building.debian.make_tree` does, for an ``architecture`` by Debian's name.

    :raises ProgramError: with mmdebstrap's own last words, or where no emulator is registered
    """
    if not is_foreign(architecture):
        debian.make_tree(suite, packages, target, included=included)
        return
    check_emulator(EMULATORS[architecture])
    run(
        [
            *debian._CONTAINED,
            *("mmdebstrap", "--variant=minbase", "--quiet"),
            # What it would look for is whether the emulator works, by a program of a package of its own.
            *(f"--architectures={architecture}", "--skip=check/qemu"),
            f"--hook-directory={debian.MERGED_USR}",
            f"--include={','.join(packages)}",
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in debian.both_places(debian.read_patterns())),
            *(f"--dpkgopt=path-include={pattern}" for pattern in debian.both_places(included)),
            *(suite, target),
        ],
        timeout=BUILD_LIMIT,
        env=debian._environment(initramfs=False),
    )


def check_emulator(name: str, place: Path = BINFMT) -> None:
    """See that the kernel has an emulator for programs, one that it finds from within any tree.

    :raises ProgramError: when it has none
    """
    entry = place / name
    lines = entry.read_text().splitlines() if entry.is_file() else []
    fixed = any(line.startswith("flags:") and "F" in line.partition(":")[2] for line in lines)
    if lines[:1] != ["enabled"] or not fixed:
        raise ProgramError(
            ["mmdebstrap"],
            f"this machine's kernel hands no programs to {name}; install qemu-user-static and binfmt-support, have"
            f" binfmt_misc mounted on {place}, and run update-binfmts --enable {name}",
            "",
        )
