# SPDX-License-Identifier: Apache-2.0
"""The second opinion on a partition table: parted(8), reading only."""

from __future__ import annotations

import json
from dataclasses import dataclass

from bareon.run import run

PROGRAMS = ("parted",)


@dataclass(frozen=True)
class Seen:
    """A partition as parted sees it, in bytes."""

    number: int
    start: int
    size: int


def read(device: str) -> tuple[str, tuple[Seen, ...]]:
    """The kind of table and its partitions."""
    return run(["parted", "--script", "--json", device, "unit", "B", "print"]).read(parse)


def parse(output: str) -> tuple[str, tuple[Seen, ...]]:
    """The kind of the table and its partitions, from the output of ``parted --json DISK unit B print``."""
    disk = json.loads(output)["disk"]
    rows = disk.get("partitions", ())
    return str(disk["label"]), tuple(
        Seen(int(row["number"]), _bytes(row["start"]), _bytes(row["size"])) for row in rows
    )


def _bytes(text: str) -> int:
    return int(text.removesuffix("B"))
