# SPDX-License-Identifier: Apache-2.0
"""``/etc/fstab`` of a deployed image; fstab(5)."""

from __future__ import annotations

from collections.abc import Sequence

from bareon.model.layout import FilesystemLayout

HEADER = "# Written by bareon. Lines for other mount points are kept when the node is deployed again.\n"
_UNCHECKED = ("xfs", "btrfs", "swap")  # their fsck does nothing at boot


def render(ours: Sequence[FilesystemLayout], existing: str = "") -> str:
    """The whole file: bareon's lines by UUID, then the lines of ``existing`` that are not bareon's.

    :param ours: file systems, parents first, and swap areas.
    """
    lines = [_line(fs) for fs in ours]
    return HEADER + "".join(lines) + "".join(_foreign(existing, ours))


def _line(fs: FilesystemLayout) -> str:
    wanted = fs.wanted
    point = "none" if wanted.mount == "swap" else _escape(str(wanted.mount))
    check = 0 if wanted.type in _UNCHECKED else 1 if wanted.mount == "/" else 2
    options = _escape(wanted.fstab_options)
    line = f"UUID={fs.uuid} {point} {wanted.type} {options} 0 {check}\n"
    return line if wanted.fstab_enabled else f"# {line}"


def _foreign(existing: str, ours: Sequence[FilesystemLayout]) -> list[str]:
    points = {_escape(str(fs.mount)) for fs in ours}
    uuids = {f"UUID={fs.uuid}" for fs in ours}
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
