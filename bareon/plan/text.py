# SPDX-License-Identifier: Apache-2.0
"""The plan for people: a table and a map of each disk before and after, in 80 columns, and the steps."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from bareon.model.node import NodeFacts
from bareon.plan.blocks import Block, draw
from bareon.plan.plan import Plan
from bareon.sizes import human
from bareon.storage.disk import DiskFacts, PartitionFacts, PlannedDisk, PlannedPartition
from bareon.storage.kind import View, cells
from bareon.storage.kinds import sections
from bareon.text import counted, visible

WIDTH = 80
_RULE: Any = {"initial_indent": "  ", "subsequent_indent": "    ", "break_on_hyphens": False}

_TAKEN_AS_IT_COMES = "nothing tells whether its bytes are the right ones"

_COLOURS = {"create": "32", "keep": "36", "format": "33"}


def render(plan: Plan, node: NodeFacts, *, colours: bool = False) -> str:
    """The plan as text. ``colours`` are for a terminal."""
    text = "\n".join(map(visible, _lines(plan, node))) + "\n"
    return re.sub(r"\b(create|keep|format)$", _coloured, text, flags=re.MULTILINE) if colours else text


def _coloured(word: re.Match[str]) -> str:
    return f"\x1b[{_COLOURS[word[0]]}m{word[0]}\x1b[0m"


def _lines(plan: Plan, node: NodeFacts) -> Iterator[str]:
    layout = plan.layout
    yield f"Policy {layout.policy}, {layout.firmware.upper()} firmware, {counted(len(layout.disks), 'disk')}"
    found = {disk.device: disk for disk in node.disks}
    for disk in layout.disks:
        yield ""
        yield from _disk(disk, found[disk.device])
    for kind in sections():
        for structure in layout.structures():
            if structure.kind is kind:
                yield ""
                yield from _view(structure.view())
    yield from _subvolumes(plan)
    yield ""
    yield from _images(plan)
    yield from _made(plan)
    yield "Steps" if plan.steps else "Nothing to do."
    for number, step in enumerate(plan.steps, 1):
        yield f"{number:3}. {step.description}"
    lost = sorted({device for step in plan.steps for device in step.destroys})
    yield ""
    yield f"Content that will be lost: {', '.join(lost)}" if lost else "No content will be lost."


def _subvolumes(plan: Plan) -> Iterator[str]:
    """A table of the subvolumes."""
    parts = [(fs.on, part) for fs in plan.layout.filesystems() for part in fs.parts]
    if not parts:
        return
    heading = ("name", "device", "mount", "options", "images", "decision")
    rows = [
        (
            *(part["name"] + (" (default)" if part["default"] else ""), on, part["mount"] or "-"),
            *(part["options"] or "-", ", ".join(part["images"]) or "-", part["decision"]),
        )
        for on, part in parts
    ]
    yield from ("", "Subvolumes", "")
    yield from table([heading, *rows], indent="  ")


def _images(plan: Plan) -> Iterator[str]:
    """What each image is taken for, and what its bytes are held to."""
    if plan.origins:
        yield "Images"
    for origin in plan.origins:
        held = f"held to {' and '.join(origin.held_to)}" if origin.held_to else _TAKEN_AS_IT_COMES
        guess = "" if origin.seen else ", by its name alone"
        yield from textwrap.wrap(f"{origin.name!r}: {origin.taken_for}{guess}; {held}", WIDTH, **_RULE)
    if plan.origins:
        yield ""


def _made(plan: Plan) -> Iterator[str]:
    """File systems that are made otherwise than their mkfs would, those that are alike together, and why."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for fs in plan.layout.filesystems():
        if fs.is_made and (fs.without or fs.wanted.mkfs_options):
            readers = " and ".join(map(str, fs.wanted.readers))
            without = f"without {', '.join(fs.without)}, to be read by {readers}" if fs.without else ""
            alike.setdefault((fs.type, without, " ".join(fs.wanted.mkfs_options)), []).append(fs.on)
    if alike:
        yield "File systems"
    for (kind, without, options), devices in alike.items():
        said = "; ".join(x for x in (without, options and f"with {options}") if x)
        line = f"{kind} on {', '.join(devices)}: {said}"
        yield from textwrap.wrap(line, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
    if alike:
        yield ""


def _disk(disk: PlannedDisk, found: DiskFacts) -> Iterator[str]:
    about = ", ".join(x for x in (human(disk.size), found.model, found.serial and f"serial {found.serial}") if x)
    yield f"{disk.device}  ({about})"
    if disk.multipath:
        yield f"  multipath: {', '.join(path.device for path in disk.multipath.paths)}"
    if disk.rule:
        yield from textwrap.wrap(f"chosen by its rule: {disk.rule}", WIDTH, **_RULE)
    yield from (f"  before {line}" if not i else f"         {line}" for i, line in enumerate(_before(found)))
    yield from (f"  after  {line}" if not i else f"         {line}" for i, line in enumerate(_after(disk)))
    yield ""
    rows: list[tuple[str, ...]] = [("#", "start", "size", "what", "file system", "mount", "decision")]
    rows += [_row(partition) for partition in disk.partitions]
    yield from table(rows, indent="  ")


def _view(view: View) -> Iterator[str]:
    yield view.title
    if view.parts is not None:
        pieces, at = [], 0
        for name, size in view.parts:
            pieces.append(Block(at, size, name))
            at += size
        yield from (f"         {line}" for line in draw(max(view.size, 1), pieces, WIDTH - 9))
    yield ""
    yield from table([view.heading, *view.rows], indent="  ")


def _before(disk: DiskFacts) -> list[str]:
    if not disk.partitions:
        content = disk.content.type if disk.content else None
        return draw(disk.size, [Block(0, disk.size, content)] if content else [], WIDTH - 9)
    pieces = [Block(part.start, part.size, _holds(part)) for part in disk.partitions]
    return draw(disk.size, pieces, WIDTH - 9)


def _holds(part: PartitionFacts) -> str:
    return part.content.type if part.content else part.name or str(part.number)


def _after(disk: PlannedDisk) -> list[str]:
    pieces = [Block(part.start, part.size, _purpose(part)) for part in disk.partitions]
    return draw(disk.size, pieces, WIDTH - 9)


def _purpose(part: PlannedPartition) -> str:
    kind, point = cells(part.content)
    if kind != "-":
        return point if point != "-" else kind
    return part.member_of or part.name or part.role


def _row(part: PlannedPartition) -> tuple[str, ...]:
    return (
        str(part.number),
        human(part.start),
        human(part.size),
        _what(part),
        *cells(part.content),
        part.decision,
    )


def _what(part: PlannedPartition) -> str:
    if part.member_of:
        return f"{part.role} of {part.member_of}"
    return part.name or part.role


def table(rows: Sequence[Sequence[str]], indent: str = "") -> Iterator[str]:
    """Rows in aligned columns; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield (indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()
