# SPDX-License-Identifier: Apache-2.0
"""Disks, arrays and volume groups as bars in scale, before and after a run, from a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bareon.plan.blocks import Block, gaps
from bareon.sizes import human

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
    """The arrays and volume groups that lay on those disks."""
    fate = _fate(plan)
    disks = {x["device"] for x in (plan or node)["disks"]}
    on = {part["device"] for disk in node["disks"] if disk["device"] in disks for part in disk["partitions"]} | disks
    arrays = [x for x in node["arrays"] if on & set(x["members"])]
    on |= {x["alias"] for x in arrays}
    return [
        *(_array(x["alias"], x, x["size"] or 0, _content(x) or "array", fate(x["alias"])) for x in arrays),
        *(
            _group(group, lambda x: (_content(x) or "", fate(x["device"])))
            for group in node["volume_groups"]
            if on & set(group["members"])
        ),
    ]


def stacks_after(plan: dict[str, Any]) -> list[Bar]:
    """The arrays and volume groups as they were planned."""
    return [
        *(
            _array(x["name"], x, x["size"], _purpose(x) or x["volume_group"] or "", x["decision"])
            for x in plan["arrays"]
        ),
        *(_group(group, lambda x: (_purpose(x), x["decision"])) for group in plan["volume_groups"]),
    ]


def _fate(plan: dict[str, Any] | None) -> Callable[[str], State]:
    """What becomes of something that was found, by its device."""
    if plan is None:
        return lambda device: "found"
    parts = [part for disk in plan["disks"] for part in disk["partitions"]]
    volumes = [volume for group in plan["volume_groups"] for volume in group["volumes"]]
    kept = {x["device"] for x in (*parts, *volumes) if x["decision"] == "keep"}
    kept |= {x["name"] for x in plan["arrays"] if x["decision"] == "keep"}
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


def _array(name: str, array: dict[str, Any], size: int, label: str, state: State) -> Bar:
    about = f"{array['level']}, {human(size) if size else 'not running'}, on {', '.join(array['members'])}"
    return Bar(name, about, size, (_block(0, size, label, name, state),) if size else ())


def _group(group: dict[str, Any], described: Callable[[dict[str, Any]], tuple[str, State]]) -> Bar:
    blocks, at = [], 0
    for volume in group["volumes"]:
        holds, state = described(volume)
        blocks.append(_block(at, volume["size"], f"{volume['name']} {holds}".strip(), volume["device"], state))
        at += volume["size"]
    about = f"volume group, {human(group['size'])}, on {', '.join(group['members'])}"
    return Bar(group["name"], about, group["size"], tuple(blocks))


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
