# SPDX-License-Identifier: Apache-2.0
"""Disks, arrays and volume groups as bars in scale, before and after a run, from a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bareon.plan.blocks import Block, gaps
from bareon.sizes import human
from bareon.storage.kind import Kind
from bareon.storage.kinds import sections

State = Literal["create", "format", "keep", "lost", "found", "free"]

WIDTH, HEIGHT = 1000.0, 46.0  # units of the picture, of which a character takes 7.5
_CHARACTER = 7.5
_LEAST = 2.0  # narrower is not seen
_TICKS = 4
_GAP = 0.02  # of the whole; smaller gaps get no word


@dataclass(frozen=True)
class Coloured(Block):
    """A block in the colour of its ``state``; ``detail`` is shown when the pointer rests on it."""

    detail: str
    state: State


@dataclass(frozen=True)
class Bar:
    """Something with parts: a disk, an array, a volume group. ``size`` is in bytes."""

    name: str
    about: str
    size: int
    blocks: tuple[Coloured, ...]


def disks_before(node: dict[str, Any], plan: dict[str, Any] | None) -> list[Bar]:
    """The disks as they were found: those of the plan, in its order, or all where there is none."""
    found = {disk["device"]: disk for disk in node["disks"]}
    names = list(found) if plan is None else [x["device"] for x in plan["disks"] if x["device"] in found]
    return [_disk_before(found[name], _fate(plan)) for name in names]


def disks_after(plan: dict[str, Any]) -> list[Bar]:
    """The disks as they were planned."""
    return [_disk_after(disk) for disk in plan["disks"]]


def stacks_before(node: dict[str, Any], plan: dict[str, Any] | None) -> list[Bar]:
    """The arrays, volume groups and the like that lay on those disks."""
    fate = _fate(plan)
    on = {x["device"] for x in (plan or node)["disks"]}
    on |= {part["device"] for disk in node["disks"] if disk["device"] in on for part in disk["partitions"]}
    items = [(kind, item) for kind in sections() for item in node.get(kind.section, ())]
    while more := {x for _, item in items if on & _members(item) for x in _offered(item)} - on:
        on |= more
    return [
        _bar(kind, item, lambda x, noun: _content(x) or noun, lambda x: fate(_device(x)))
        for kind, item in items
        if on & _members(item)
    ]


def stacks_after(plan: dict[str, Any]) -> list[Bar]:
    """The arrays, volume groups and the like as they were planned."""
    return [
        _bar(kind, item, lambda x, _: _purpose(x) or x.get("volume_group") or "", lambda x: x["decision"])
        for kind in sections()
        for item in plan.get(kind.section, ())
    ]


def _members(item: dict[str, Any]) -> set[str]:
    """The devices that something lies on."""
    return set(item["members"])


def _parts(item: dict[str, Any]) -> list[dict[str, Any]]:
    """The devices that it offers: its volumes, or itself as the only one."""
    found: list[dict[str, Any]] = item.get("volumes", [item])
    return found


def _device(part: dict[str, Any]) -> str:
    return str(part.get("alias") or part.get("device") or part["name"])


def _offered(item: dict[str, Any]) -> set[str]:
    return {_device(part) for part in _parts(item)}


def _fate(plan: dict[str, Any] | None) -> Callable[[str], State]:
    """The fate of found devices: ``keep`` or ``lost``; ``found`` without a plan."""
    if plan is None:
        return lambda device: "found"
    parts = [part for disk in plan["disks"] for part in disk["partitions"]]
    parts += [part for kind in sections() for item in plan.get(kind.section, ()) for part in _parts(item)]
    kept = {_device(x) for x in parts if x["decision"] == "keep"}
    return lambda device: "keep" if device in kept else "lost"


def _disk_before(disk: dict[str, Any], fate: Callable[[str], State]) -> Bar:
    blocks = [
        _block(
            x["start"],
            x["size"],
            _content(x) or x["name"] or f"partition {x['number']}",
            x["device"],
            fate(x["device"]),
        )
        for x in disk["partitions"]
    ]
    if not blocks and (content := _content(disk)):
        blocks = [_block(0, disk["size"], content, disk["device"], fate(disk["device"]))]
    about = [human(disk["size"]), disk["model"] or "", f"serial {disk['serial']}" if disk["serial"] else ""]
    return Bar(disk["device"], ", ".join(x for x in about if x), disk["size"], tuple(blocks))


def _disk_after(disk: dict[str, Any]) -> Bar:
    blocks = [
        _block(
            x["start"], x["size"], _purpose(x) or x["member_of"] or x["name"] or x["role"], x["device"], x["decision"]
        )
        for x in disk["partitions"]
    ]
    return Bar(disk["device"], human(disk["size"]), disk["size"], tuple(blocks))


def _bar(
    kind: Kind,
    item: dict[str, Any],
    label: Callable[[dict[str, Any], str], str],
    state: Callable[[dict[str, Any]], State],
) -> Bar:
    """Something that offers devices, with each of them in it.

    :param label: of a part, given what to say of one that holds nothing.
    """
    size = item["size"] or 0
    blocks, at = [], 0
    parts = _parts(item) if size else []
    names = {x["name"] for x in parts}
    for part in (x for x in parts if x.get("pool") not in names):
        held = ", ".join(_named(x, label) for x in parts if x.get("pool") == part["name"])
        words = _named(part, label) if part is not item else label(part, kind.noun)
        words += f" ({held})" if held else ""
        room = part.get("taken", part["size"])
        blocks.append(_block(at, room, words, _device(part), state(part)))
        at += room
    about = f"{kind.about(item)}, {human(size) if size else 'not running'}, on {', '.join(item['members'])}"
    return Bar(str(item.get("alias") or item["name"]), about, size, tuple(blocks))


def _named(part: dict[str, Any], label: Callable[[dict[str, Any], str], str]) -> str:
    return f"{part['name']} {label(part, '')}".strip()


def _block(start: int, size: int, label: str, device: str, state: State) -> Coloured:
    detail = f"{device}: {label}, {human(size)}, from {human(start)}, {WORDS[state]}"
    return Coloured(start, size, label, detail, state)


#: What the states of blocks mean.
WORDS: dict[State, str] = {
    "create": "created",
    "format": "file system made anew",
    "keep": "kept",
    "lost": "replaced",
    "found": "as found",
    "free": "free",
}


def _content(found: dict[str, Any]) -> str:
    content = found["content"]
    return " ".join(filter(None, (content["type"], content["label"]))) if content else ""


def _purpose(planned: dict[str, Any]) -> str:
    return str(planned["mount"] or planned["file_system"] or "")


@dataclass(frozen=True)
class Shape:
    """A block as it is drawn: ``left`` and ``width`` in units of the picture, the ``lines`` with their base lines."""

    left: float
    width: float
    state: State
    detail: str
    lines: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Tick:
    """A figure below a picture; ``anchor`` is the point of the text that stands at ``left``."""

    left: float
    anchor: Literal["start", "middle", "end"]
    text: str


def shapes(bar: Bar) -> list[Shape]:
    """The blocks of a bar and the gaps that get a word; the small ones last, lest a neighbour covers them."""
    whole = max(bar.size, 1)
    blocks = sorted([*bar.blocks, *_free(bar.blocks, whole)], key=lambda block: -block.size)
    return [_shape(block, whole) for block in blocks]


def ticks(bar: Bar) -> list[Tick]:
    """The scale below a bar."""
    return [
        Tick(
            number * WIDTH / _TICKS,
            "start" if number == 0 else "end" if number == _TICKS else "middle",
            human(bar.size * number // _TICKS) if number else "0",
        )
        for number in range(_TICKS + 1)
    ]


def _free(blocks: Sequence[Block], whole: int) -> list[Coloured]:
    """The gaps between the blocks that are large enough for a word."""
    return [_block(start, size, "free", "free", "free") for start, size in gaps(whole, blocks) if size > whole * _GAP]


def _shape(block: Coloured, whole: int) -> Shape:
    left = min(block.start / whole, 1) * WIDTH
    width = min(max(block.size / whole * WIDTH, _LEAST), max(WIDTH - left, _LEAST))
    room = int((width - 8) / _CHARACTER)
    lines = [
        (line, text if len(text) <= room else f"{text[: room - 1]}…")
        for line, text in ((20, block.label), (37, human(block.size)))
        if room >= min(len(text), 3)
    ]
    return Shape(left, width, block.state, block.detail, tuple(lines))
