# SPDX-License-Identifier: Apache-2.0
"""The plan for people: a table and a map of each disk before and after, in 80 columns, and the steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bareon.facts.node import DiskFacts, NodeFacts, PartitionFacts
from bareon.model.layout import DiskLayout, PartitionLayout
from bareon.plan.map import Piece, draw
from bareon.plan.step import Plan
from bareon.sizes import human

WIDTH = 80


def render(plan: Plan, node: NodeFacts) -> str:
    """The plan as text without colours."""
    return "\n".join(_lines(plan, node)) + "\n"


def _lines(plan: Plan, node: NodeFacts) -> Iterator[str]:
    layout = plan.layout
    yield f"Policy {layout.policy}, {layout.firmware.upper()} firmware, {len(layout.disks)} disk(s)"
    found = {disk.device: disk for disk in node.disks}
    for disk in layout.disks:
        yield ""
        yield from _disk(disk, found[disk.device])
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
    return part.name or part.role


def _row(part: PartitionLayout) -> tuple[str, ...]:
    filesystem = part.filesystem
    return (
        str(part.number),
        human(part.start),
        human(part.size),
        part.role if part.role != "volume" else part.name or "volume",
        filesystem.wanted.type if filesystem else "-",
        (filesystem.mount if filesystem else None) or "-",
        part.decision,
    )


def table(rows: Sequence[Sequence[str]], indent: str = "") -> Iterator[str]:
    """Rows in aligned columns; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield (indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()
