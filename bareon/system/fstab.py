# SPDX-License-Identifier: Apache-2.0
"""``/etc/fstab`` of a deployed image; fstab(5)."""

from __future__ import annotations

from collections.abc import Sequence

from bareon.storage.filesystem import SWAP, TYPES, Mounted

HEADER = "# Written by bareon. Lines for other mount points are kept when the node is deployed again.\n"


def render(ours: Sequence[Mounted], existing: str = "") -> str:
    """The whole file: bareon's lines by UUID, then the lines of ``existing`` that are not bareon's.

    :param ours: file systems, parents first, and swap areas.
    """
    lines = [_line(mounted) for mounted in ours]
    return HEADER + "".join(lines) + "".join(_foreign(existing, ours))


def _line(mounted: Mounted) -> str:
    point = "none" if mounted.point == SWAP else _escape(mounted.point)
    check = 0 if not TYPES[mounted.type].checked else 1 if point == "/" else 2
    options = _escape(mounted.mount.options)
    line = f"UUID={mounted.uuid} {point} {mounted.type} {options} 0 {check}\n"
    return line if mounted.mount.enabled else f"# {line}"


def _foreign(existing: str, ours: Sequence[Mounted]) -> list[str]:
    points = {_escape(mounted.point) for mounted in ours}
    uuids = {f"UUID={mounted.uuid}" for mounted in ours}
    kept = []
    for line in existing.split("\n"):
        if line == HEADER.strip() or not line:
            continue
        fields = line.removeprefix("# ").split()
        mine = len(fields) >= 4 and (fields[0] in uuids or (fields[1] in points and not line.startswith("#")))
        if not mine:
            kept.append(f"{line}\n")
    return kept


def _escape(text: str) -> str:
    for char, code in (("\\", "\\134"), (" ", "\\040"), ("\t", "\\011"), ("\n", "\\012")):
        text = text.replace(char, code)
    return text
