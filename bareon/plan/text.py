# SPDX-License-Identifier: Apache-2.0
"""The plan for people: a table and a map of each disk before and after, in 80 columns, and the steps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bareon.facts.node import DiskFacts, NodeFacts, PartitionFacts
from bareon.model.layout import ArrayLayout, DiskLayout, FilesystemLayout, PartitionLayout, VolumeGroupLayout
from bareon.plan.map import Piece, draw
from bareon.plan.step import Plan
from bareon.sizes import human
from bareon.text import visible

WIDTH = 80


_COLOURS = {"create": "32", "keep": "36", "format": "33"}


def render(plan: Plan, node: NodeFacts, *, colours: bool = False) -> str:
    """The plan as text. ``colours`` are for a terminal."""
    text = "\n".join(map(visible, _lines(plan, node))) + "\n"
    return re.sub(r"\b(create|keep|format)$", _coloured, text, flags=re.MULTILINE) if colours else text


def _coloured(word: re.Match[str]) -> str:
    return f"\x1b[{_COLOURS[word[0]]}m{word[0]}\x1b[0m"


def _lines(plan: Plan, node: NodeFacts) -> Iterator[str]:
    layout = plan.layout
    yield f"Policy {layout.policy}, {layout.firmware.upper()} firmware, {len(layout.disks)} disk(s)"
    found = {disk.device: disk for disk in node.disks}
    for disk in layout.disks:
        yield ""
        yield from _disk(disk, found[disk.device])
    for array in layout.arrays:
        yield ""
        yield from _array(array)
    for group in layout.volume_groups:
        yield ""
        yield from _group(group)
    yield ""
    yield "Steps" if plan.steps else "Nothing to do."
    for number, step in enumerate(plan.steps, 1):
        yield f"{number:3}. {step.description}"
    lost = sorted({device for step in plan.steps for device in step.destroys})
    yield ""
    yield f"Content that will be lost: {', '.join(lost)}" if lost else "No content will be lost."


def _disk(disk: DiskLayout, found: DiskFacts) -> Iterator[str]:
    about = ", ".join(x for x in (human(disk.size), found.model, found.serial and f"serial {found.serial}") if x)
    yield f"{disk.device}  ({about})"
    yield from (f"  before {line}" if not i else f"         {line}" for i, line in enumerate(_before(found)))
    yield from (f"  after  {line}" if not i else f"         {line}" for i, line in enumerate(_after(disk)))
    yield ""
    rows: list[tuple[str, ...]] = [("#", "start", "size", "what", "file system", "mount", "decision")]
    rows += [_row(partition) for partition in disk.partitions]
    yield from table(rows, indent="  ")


def _array(array: ArrayLayout) -> Iterator[str]:
    purpose = f"volume group {array.member_of}" if array.member_of else "-"
    filesystem = array.filesystem
    yield f"{array.device}  ({array.level}, {human(array.size)}, on {', '.join(array.members)})"
    yield ""
    rows: list[tuple[str, ...]] = [("size", "file system", "mount", "decision")]
    rows.append((human(array.size), *(_made(filesystem) if filesystem else (purpose, "-")), array.decision))
    yield from table(rows, indent="  ")


def _group(group: VolumeGroupLayout) -> Iterator[str]:
    on = ", ".join(member.device for member in group.members)
    yield f"volume group {group.name}  ({human(group.size)}, on {on})"
    pieces, at = [], 0
    for volume in group.volumes:
        pieces.append(Piece(at, volume.size, volume.name))
        at += volume.size
    yield from (f"         {line}" for line in draw(max(group.size, 1), pieces, WIDTH - 9))
    yield ""
    rows: list[tuple[str, ...]] = [("name", "size", "file system", "mount", "decision")]
    rows += [(x.name, human(x.size), *_made(x.filesystem), x.decision) for x in group.volumes]
    yield from table(rows, indent="  ")


def _made(filesystem: FilesystemLayout | None) -> tuple[str, str]:
    """File system and mount point for a table."""
    return (filesystem.wanted.type, filesystem.mount or "-") if filesystem else ("-", "-")


def _before(disk: DiskFacts) -> list[str]:
    if not disk.partitions:
        content = disk.content.type if disk.content else None
        return draw(disk.size, [Piece(0, disk.size, content)] if content else [], WIDTH - 9)
    pieces = [Piece(part.start, part.size, _holds(part)) for part in disk.partitions]
    return draw(disk.size, pieces, WIDTH - 9)


def _holds(part: PartitionFacts) -> str:
    return part.content.type if part.content else part.name or str(part.number)


def _after(disk: DiskLayout) -> list[str]:
    pieces = [Piece(part.start, part.size, _purpose(part)) for part in disk.partitions]
    return draw(disk.size, pieces, WIDTH - 9)


def _purpose(part: PartitionLayout) -> str:
    if part.filesystem:
        return part.filesystem.mount or part.filesystem.wanted.type
    return part.member_of or part.name or part.role


def _row(part: PartitionLayout) -> tuple[str, ...]:
    return (
        str(part.number),
        human(part.start),
        human(part.size),
        _what(part),
        *_made(part.filesystem),
        part.decision,
    )


def _what(part: PartitionLayout) -> str:
    if part.member_of:
        return f"{part.role} of {part.member_of}"
    return part.name or part.role


def table(rows: Sequence[Sequence[str]], indent: str = "") -> Iterator[str]:
    """Rows in aligned columns; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield (indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()
