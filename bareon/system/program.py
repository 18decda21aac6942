# SPDX-License-Identifier: Apache-2.0
"""Programs of a system: the places where they are, and which of them are at none."""

from __future__ import annotations

from collections.abc import Collection, Sequence

BIN = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
PLACES = (*BIN, "/usr/lib/systemd", "/lib/systemd")
_SHELL = ("sh",)


def paths(programs: Sequence[Sequence[str]]) -> list[str]:
    """The paths to ask a system for, to tell which of these programs it has.

    :param programs: each by the names that it may have.
    """
    return [f"{place}/{name}" for names in (_SHELL, *programs) for name in names for place in PLACES]


def absent(programs: Sequence[Sequence[str]], there: Collection[str]) -> list[str]:
    """Those of the programs that a system does not have, each by the first of its names.

    :param there: those of :func:`paths` that are there.
    :returns: none, where not even a shell is: such a system has its programs elsewhere.
    """

    def has(names: Sequence[str]) -> bool:
        return any(f"{place}/{name}" in there for name in names for place in PLACES)

    return [names[0] for names in programs if not has(names)] if has(_SHELL) else []
