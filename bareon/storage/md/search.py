# SPDX-License-Identifier: Apache-2.0
"""The search for arrays."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bareon import tools
from bareon.errors import CommandError, UnsuitableNode
from bareon.storage.kind import Found, Look, Search
from bareon.storage.md.found import PROGRAMS, SIGNATURE, ArrayFacts

LOG = logging.getLogger(__name__)
SYS = Path("/sys/class/block")


class ArraySearch(Search):
    """Arrays by the superblocks of their members; several members tell of one array."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._examined: set[str] = set()
        self._arrays: dict[str, tools.mdadm.Array] = {}
        self._members: dict[str, list[str]] = defaultdict(list)
        self._devices: dict[str, str] = {}  # kernel names of those that run now, by their UUIDs
        self._looked: dict[str, ArrayFacts] = {}

    def go_on(self, *, sure: bool) -> bool:
        return self._examine() | self._start(sure)

    def _examine(self) -> bool:
        new = [x for x in self._look.devices(SIGNATURE) if x not in self._examined]
        if new and (absent := tools.device.missing(PROGRAMS)):
            raise UnsuitableNode(
                f"there is md RAID on the disks, and {', '.join(absent)} is not installed to read it"
            )
        for device in new:
            self._examined.add(device)
            array = tools.mdadm.examine(device)
            if array is None:
                LOG.warning("%s: its md superblock cannot be read", device)
            elif array.level != "container":
                self._members[array.uuid].append(device)
                self._arrays.setdefault(array.uuid, array)
        return bool(new)

    def _start(self, sure: bool) -> bool:
        """Start arrays and look inside. Those with members missing wait: a member may be on what is to be started."""
        new = [
            x
            for x in self._arrays.values()
            if x.uuid not in self._looked and (len(self._members[x.uuid]) >= x.count or not sure)
        ]
        running = _running() if new else {}
        for array in new:
            members = tuple(sorted(self._members[array.uuid]))
            was = running.get(array.uuid)
            device = was or self._started(array, members)
            facts = ArrayFacts(array.name, array.uuid, array.level, array.count, members, "", was)
            facts = replace(facts, homehost=array.homehost, runs_as=_misnamed(array.name, was))
            if device:
                facts = replace(facts, size=_size(device), content=self._look.content(device))
                facts = self._with_state(facts, tools.mdadm.state(SYS / Path(device).name / "md"))
                self._devices[array.uuid] = device
                self._look.offer(device, facts.content, partitioned=True)
            self._looked[array.uuid] = facts
        return bool(new)

    def _with_state(self, facts: ArrayFacts, state: tools.mdadm.State) -> ArrayFacts:
        used = {*state.in_step, *state.spare, *state.rebuilt}
        kernel = {member: tools.device.kernel_name(member) for member in facts.members}
        return replace(
            facts,
            metadata=state.metadata,
            bitmap=state.bitmap,
            missing=state.missing,
            out_of_step=tuple(x for x in facts.members if used and kernel[x] not in used),
            rebuilt=tuple(x for x in facts.members if kernel[x] in state.rebuilt),
            task=state.task,
            percent=state.percent,
        )

    def _started(self, array: tools.mdadm.Array, members: Sequence[str]) -> str | None:
        """The kernel's name of an array that was started; ``None`` where it cannot be started."""
        link = f"/dev/md/{array.uuid.replace(':', '')}"
        try:
            tools.mdadm.assemble(link, array.uuid, members, read_only=True)
        except CommandError as error:
            LOG.warning("array %s cannot be started: %s", array.name, error)
            # It may be assembled in part, and hold its members.
            self._look.begun(_Started(array.name, array.uuid, tools.device.kernel_name(link)))
            return None
        device = tools.device.kernel_name(link)
        self._look.begun(_Started(array.name, array.uuid, device))
        return device

    def found(self) -> Sequence[ArrayFacts]:
        names = Counter(array.name for array in self._arrays.values())
        alias = {x.uuid: f"/dev/md/{x.name if names[x.name] == 1 else x.uuid}" for x in self._arrays.values()}
        for uuid, device in self._devices.items():
            self._look.name(device, alias[uuid])
        return [
            replace(
                self._looked[uuid],
                alias=alias[uuid],
                members=tuple(sorted(map(self._look.name_of, self._members[uuid]))),
                out_of_step=tuple(sorted(map(self._look.name_of, self._looked[uuid].out_of_step))),
                rebuilt=tuple(sorted(map(self._look.name_of, self._looked[uuid].rebuilt))),
            )
            for uuid in self._arrays
        ]

    def as_left(self, found: Sequence[Found]) -> Sequence[Found]:
        running = _running() if found else {}
        return [
            replace(x, device=(device := running.get(x.uuid)), runs_as=_misnamed(x.name, device))
            for x in found
            if isinstance(x, ArrayFacts)
        ]


@dataclass(frozen=True)
class _Started:
    """An array that was started, as ``device`` then."""

    name: str
    uuid: str
    device: str

    @property
    def title(self) -> str:
        return f"array {self.name}"

    @property
    def devices(self) -> tuple[str, ...]:
        return (self.device,)

    def runs(self) -> bool:
        return self._now() is not None

    def stop(self) -> None:
        tools.mdadm.stop(self._now() or self.device)

    def _now(self) -> str | None:
        """Its device now: udev may have started it again under another number."""
        state = SYS / Path(self.device).name / "md/array_state"
        with contextlib.suppress(OSError):
            if state.read_text().strip() != "clear":  # also one that was assembled in part, and does not run
                return self.device
        return _running().get(self.uuid)


def is_array(device: str) -> bool:
    """True if the kernel knows a device as an array."""
    return (SYS / Path(device).name / "md").is_dir()


def _running() -> dict[str, str]:
    """Devices of the running arrays by the arrays' UUIDs."""
    found = {}
    for entry in sorted(SYS.glob("md*")):
        if (entry / "md").is_dir() and (array := tools.mdadm.detail(f"/dev/{entry.name}")):
            found[array.uuid] = f"/dev/{entry.name}"
    return found


def _misnamed(name: str, device: str | None) -> str | None:
    """The device that an array runs as, where its name below ``/dev/md`` is none of that device."""
    return device if device and tools.device.kernel_name(f"/dev/md/{name}") != device else None


def _size(device: str) -> int:
    try:
        return tools.lsblk.size(device)
    except OSError as error:
        raise UnsuitableNode(f"{device} cannot be read: {error.strerror}") from None
