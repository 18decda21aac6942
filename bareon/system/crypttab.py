# SPDX-License-Identifier: Apache-2.0
"""``/etc/crypttab`` of a deployed image; crypttab(5)."""

from __future__ import annotations

from collections.abc import Sequence

HEADER = "# Written by bareon. Lines for other names are kept when the node is deployed again.\n"


def render(ours: Sequence[str], existing: str = "") -> str:
    """The whole file: the lines ``ours``, then those of ``existing`` for names that are not ours."""
    names = {line.split()[0] for line in ours}
    foreign = [
        line
        for line in existing.split("\n")
        if line and line != HEADER.strip() and (line.startswith("#") or not names & set(line.split()[:1]))
    ]
    return HEADER + "".join(f"{line}\n" for line in (*ours, *foreign))
