# SPDX-License-Identifier: Apache-2.0
"""Disks, arrays and volume groups as bars in scale, before and after a run, from a report; and a bar as SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from xml.etree.ElementTree import Element, SubElement

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


def svg(bar: Bar, label: str) -> Element:
    """The picture of a bar; ``label`` is for who cannot see it."""
    picture = Element("svg", {"viewBox": f"0 0 {WIDTH:g} {HEIGHT + 20:g}", "role": "img", "aria-label": label})
    whole = max(bar.size, 1)
    SubElement(picture, "rect", {"class": "free", "width": f"{WIDTH:g}", "height": f"{HEIGHT:g}", "rx": "3"})
    # The small ones last, so that a neighbour does not cover them.
    for block in sorted([*bar.blocks, *_free(bar.blocks, whole)], key=lambda block: -block.size):
        _draw(picture, block, whole)
    for tick in range(_TICKS + 1):
        anchor = "start" if tick == 0 else "end" if tick == _TICKS else "middle"
        place = {"x": f"{tick * WIDTH / _TICKS:g}", "y": f"{HEIGHT + 15:g}", "class": "tick", "text-anchor": anchor}
        SubElement(picture, "text", place).text = human(bar.size * tick // _TICKS) if tick else "0"
    return picture


def _free(blocks: Sequence[Block], whole: int) -> list[Coloured]:
    """The gaps between the blocks that are large enough for a word."""
    return [_block(start, size, "free", "free", "free") for start, size in gaps(whole, blocks) if size > whole * _GAP]


def _draw(picture: Element, block: Coloured, whole: int) -> None:
    left = min(block.start / whole, 1) * WIDTH
    width = min(max(block.size / whole * WIDTH, _LEAST), max(WIDTH - left, _LEAST))
    group = SubElement(picture, "g", {"class": block.state})
    SubElement(group, "title").text = block.detail
    box = {"x": f"{left:.2f}", "y": "1", "width": f"{width:.2f}", "height": f"{HEIGHT - 2:g}"}
    SubElement(group, "rect", box)
    if block.state == "keep":
        SubElement(group, "rect", {**box, "class": "hatch", "fill": "url(#hatch)"})
    room = int((width - 8) / _CHARACTER)
    for line, text in ((20, block.label), (37, human(block.size))):
        if room >= min(len(text), 3):
            cut = text if len(text) <= room else f"{text[: room - 1]}…"
            place = {"x": f"{left + width / 2:.2f}", "y": str(line), "text-anchor": "middle"}
            SubElement(group, "text", place).text = cut
