# SPDX-License-Identifier: Apache-2.0
"""Partition tables: sfdisk(8). A table is written as one script, in one go."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from bareon.run import run

PROGRAMS = ("sfdisk",)


@dataclass(frozen=True)
class Entry:
    """One partition. Positions are bytes; ``type`` is a GUID (GPT) or a hexadecimal number (MBR)."""

    number: int
    device: str
    start: int
    size: int
    type: str
    guid: str | None
    name: str | None
    legacy_boot: bool = False


@dataclass(frozen=True)
class Table:
    """A partition table as it is on a disk; ``label`` is ``gpt`` or ``dos``."""

    label: str
    guid: str | None
    entries: tuple[Entry, ...]


def read(device: str) -> Table:
    """The table of a disk that has one.

    :raises CommandError: when sfdisk cannot make sense of it.
    """
    return run(["sfdisk", "--json", device]).read(parse)


def parse(output: str) -> Table:
    """The table in the output of ``sfdisk --json``."""
    table = json.loads(output)["partitiontable"]
    sector = int(table.get("sectorsize", 512))
    entries = []
    for row in table.get("partitions", ()):
        node = str(row["node"])
        digits = len(node) - len(node.rstrip("0123456789"))
        entries.append(
            Entry(
                number=int(node[-digits:]),
                device=node,
                start=int(row["start"]) * sector,
                size=int(row["size"]) * sector,
                type=str(row["type"]),
                guid=row.get("uuid"),
                name=row.get("name"),
                legacy_boot="LegacyBIOSBootable" in row.get("attrs", "").split(),
            )
        )
    entries.sort(key=lambda entry: entry.number)
    return Table(str(table["label"]), table.get("id"), tuple(entries))


def script(guid: str, sector: int, first: int, entries: Sequence[Entry]) -> str:
    """The sfdisk script of a GPT table.

    :param sector: the logical sector size in bytes.
    :param first: where the first partition may start, bytes.
    """
    # The header says what a bare number counts; without it sfdisk assumes the sector size of the device.
    lines = ["label: gpt", f"label-id: {guid}", "unit: sectors", f"sector-size: {sector}"]
    # Without it no partition may start before the disk's optimal I/O size, which can be many MiB.
    lines += [f"first-lba: {first // sector}", ""]
    return "\n".join(lines) + "\n" + lines_of(sector, entries)


def lines_of(sector: int, entries: Sequence[Entry]) -> str:
    """The lines of partitions in an sfdisk script; ``sector`` is the logical sector size in bytes."""
    lines = []
    for entry in entries:
        fields = [
            f"start={entry.start // sector}",
            f"size={entry.size // sector}",
            f"type={entry.type}",
            f"uuid={entry.guid}",
        ]
        if entry.name:
            fields.append(f'name="{entry.name}"')
        if entry.legacy_boot:
            fields.append('attrs="LegacyBIOSBootable"')
        lines.append(f"{entry.number} : " + ", ".join(fields) + "\n")
    return "".join(lines)


def write(device: str, text: str, *, told: bool = True) -> None:
    """Replace the table of ``device`` with that of a script, old signatures in the new partitions wiped.

    sfdisk holds ``flock`` on the disk meanwhile, so that udev does not look at a half-written one.

    :param told: whether the kernel is, which makes no partitions of a mapped device.
    """
    untold = () if told else ("--no-reread", "--no-tell-kernel")
    run(
        ["sfdisk", "--quiet", "--lock=yes", "--wipe=always", "--wipe-partitions=always", *untold, device],
        stdin=text,
    )


def add(device: str, text: str) -> None:
    """Add the partitions of the lines ``text`` to the table of ``device``, old signatures in them wiped.

    It may be in use: the entries that are there stay as they are, and the kernel is not told.
    """
    safe = ("--append", "--wipe=never", "--wipe-partitions=always", "--no-reread", "--no-tell-kernel")
    run(["sfdisk", "--quiet", "--lock=yes", *safe, device], stdin=text)


def name(device: str, guid: str) -> None:
    """Give the table of ``device`` another GUID; its entries, and what the kernel knows of them, stay as they are."""
    run(["sfdisk", "--quiet", "--lock=yes", "--no-reread", "--no-tell-kernel", "--disk-id", device, guid])
