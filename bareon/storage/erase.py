# SPDX-License-Identifier: Apache-2.0
"""Erasure of whole disks before their tables are written, each way of it with what shows that a disk can do it.

Whether it worked is not believed: random marks are written all over the disk before, and read back afterwards. By the
block layer's zeros all that is read must be zero. What a disk's own commands and discards leave is up to the disk, so
that no mark may be left there, not a sector of one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bareon import tools
from bareon.errors import ActionFailed, CommandError, Defect, UnsuitableNode
from bareon.sizes import MIB, human
from bareon.step import Outcome, Progress, Step

if TYPE_CHECKING:
    from bareon.model.deployment import Deployment
    from bareon.storage.disk import PlannedDisk

NONE = "none"
_SLOWEST = 20 * MIB  # bytes a second; a disk that takes longer has given up
_LEAST = 1800.0  # seconds


@dataclass(frozen=True)
class _Way:
    """A way to erase a disk.

    ``unable`` says of a device why it cannot be used there, and what could, ``None`` where it can. ``erase`` does it,
    given device, bytes, seconds and whom to tell of bytes done. ``zeros`` says that all is zero then. ``of`` begins
    the names of the devices that it is for, where that shows what a disk is not.
    """

    words: str
    programs: tuple[str, ...]
    unable: Callable[[str], str | None]
    erase: Callable[[str, int, float, Callable[[int], None]], None]
    zeros: bool = False
    of: str = ""


def _cannot_discard(device: str) -> str | None:
    return None if tools.block.discards(device) else "it takes no discards; zero works on any disk"


def _never(device: str) -> None:
    return None


def _discard(device: str, size: int, limit: float, told: Callable[[int], None]) -> None:
    tools.block.discard(device, size, told)


def _zero(device: str, size: int, limit: float, told: Callable[[int], None]) -> None:
    tools.block.zero(device, size, told)


def _cannot_format(device: str) -> str | None:
    try:
        found = tools.nvme.namespace(device)
    except CommandError as error:
        return f"nobody knows what it can do: {error}"
    if not found.formats:
        return "its controller has no Format NVM command; discard and zero need none"
    if not found.alone:
        return "its controller would format its other namespaces with it; discard and zero keep to this one"
    if found.protected or found.extended:
        return "its blocks have protection information or metadata, which a format could take away; zero keeps it"
    return None


def _format(device: str, size: int, limit: float, told: Callable[[int], None]) -> None:
    tools.nvme.format_namespace(device, tools.nvme.namespace(device).lbaf, limit)


def _cannot_erase_itself(device: str) -> str | None:
    found = tools.smartctl.security(device)
    if found is None:
        return "it has no ATA Security feature set, or what it is behind hides that; discard and zero need none"
    if found.enabled:
        return (
            f"it has a password already; if an erasure was cut off, hdparm --security-disable {_password()} takes it"
        )
    if found.frozen:
        return "its firmware has frozen its security settings; a node that sleeps and wakes, or a disk that is pulled"
    return None


def _password() -> str:
    return tools.hdparm.PASSWORD


def _erase_itself(device: str, size: int, limit: float, told: Callable[[int], None]) -> None:
    tools.hdparm.set_password(device)
    try:
        tools.hdparm.erase(device, limit)
    except CommandError as error:
        if error.code is None:  # what cannot be stopped goes on, and takes the password away at its end
            still = f"{device} still erases itself after {limit:.0f} s: leave it its power"
            raise ActionFailed(f"{still}; where it does not end, hdparm --security-disable {_password()}") from error
        _without_password(device)
        raise
    _without_password(device)


def _without_password(device: str) -> None:
    found = tools.smartctl.security(device)
    if found is None or found.enabled:
        tools.hdparm.take_password(device)


WAYS = {
    "discard": _Way("discarding all blocks", (), _cannot_discard, _discard),
    "zero": _Way("writing zeros", (), _never, _zero, zeros=True),
    "nvme-format": _Way("formatting the namespace", ("nvme",), _cannot_format, _format, of="nvme"),
    "ata-secure": _Way(
        "its own Security Erase", ("hdparm", "smartctl"), _cannot_erase_itself, _erase_itself, of="sd"
    ),
}
"""Ways by their names in the input."""

SCHEMA: dict[str, Any] = {
    "description": "How the whole disk is erased before its table is written, with the policy clean alone: none;"
    " discard (TRIM: at once, if the disk takes it); zero (writes all of it: hours); nvme-format (its controller's,"
    " all user data); ata-secure (the disk's own Security Erase). Marks are written before and looked for afterwards:"
    " a disk on which one is left fails the run. What a disk cannot do is refused before anything is written.",
    "default": "none",
    "enum": [NONE, *WAYS],
}


@dataclass(frozen=True)
class EraseDisk(Step):
    """Erase a disk of ``size`` bytes that was cleared, and see that nothing is left of marks all over it."""

    device: str
    size: int
    erase: str

    @property
    def description(self) -> str:
        return f"Erase {self.device} ({human(self.size)}) by {WAYS[self.erase].words}, and look for what is left"

    def preflight(self) -> None:
        if reason := WAYS[self.erase].unable(self.device):
            raise UnsuitableNode(f"{self.device} cannot be erased by {self.erase}: {reason}")

    def run(self, progress: Progress) -> Outcome:
        way, device, size = WAYS[self.erase], self.device, self.size
        limit = _LEAST + size / _SLOWEST
        end = time.monotonic() + limit

        def told(done: int) -> None:
            if time.monotonic() > end:
                raise ActionFailed(f"{device} is not erased after {limit:.0f} s, by {human(done)} of {human(size)}")
            progress(done, size)

        marks = tools.block.mark(device, size)
        way.erase(device, size, limit, told)
        tools.block.forget(device)
        if left := tools.block.left(marks, tools.block.read(device, marks), zeros=way.zeros):
            places = f"{len(left)} of {len(marks.by_place)} places that were looked at, the first at byte {left[0]}"
            raise ActionFailed(f"{device} is not erased, though its {self.erase} has ended well: see {places}")
        progress(size, size)
        return {"bytes": size, "places": len(marks.by_place)}


def programs(disk: PlannedDisk) -> tuple[str, ...]:
    """The programs that erase a disk, where it is to be erased."""
    return WAYS[disk.erase].programs if disk.erase else ()


def steps(action: str, disk: PlannedDisk) -> Iterator[Step]:
    """The step that erases a disk, where it is to be erased.

    :raises UnsuitableNode: where its name shows that it is of another kind than the way is for.
    """
    if disk.erase:
        way = WAYS[disk.erase]
        if not Path(disk.device).name.startswith(way.of):
            others = "discard and zero are for any disk"
            raise UnsuitableNode(
                f"{disk.device} cannot be erased by {disk.erase}, which is for /dev/{way.of}* alone; {others}"
            )
        yield EraseDisk(action, disk.device, disk.size, disk.erase)


def defects(deployment: Deployment) -> Iterator[Defect]:
    """Defects: a disk to be erased, of a deployment that keeps what is on disks."""
    for disk in deployment.disks:
        if disk.erase and deployment.policy != "clean":
            message = f"nothing is erased with the policy {deployment.policy}, which keeps what is there"
            yield Defect(f"{disk.path}.erase", message)
