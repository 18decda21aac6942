# SPDX-License-Identifier: Apache-2.0
"""Finds the structures of a node: arrays, volume groups, and others on top of them.

Those that do not run are started read-only meanwhile, and stopped again.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from bareon.errors import CommandError, UnsuitableNode
from bareon.storage.disk import DiskFacts
from bareon.storage.kind import UNREADABLE, Found, Signature, Started
from bareon.storage.kinds import KINDS
from bareon.tools import blkid, udev
from bareon.tools.device import unreadable

LOG = logging.getLogger(__name__)

TRIES = 3
"""Attempts at stopping what was started."""

SYS = Path("/sys/class/block")


def structures(disks: Sequence[DiskFacts]) -> tuple[Found, ...]:
    """The structures on the disks and on each other: arrays, volume groups and the like.

    One that cannot be stopped after it was looked at is reported as running.

    :raises UnsuitableNode: when there is something, but not the programs to read it; or naming what cannot be read.
    """
    with _Look(disks) as look:
        searches = [search for kind in KINDS if (search := kind.search(look))]
        while any(x.go_on(sure=True) for x in searches) or any(x.go_on(sure=False) for x in searches):
            pass
        found = [search.found() for search in searches]
    if look.began:
        found = [search.as_left(x) for search, x in zip(searches, found, strict=True)]
    return tuple(x for listed in found for x in listed)


def tags(device: str) -> dict[str, str]:
    """The tags of one device, by :func:`bareon.tools.blkid.probe`; ``UNREADABLE`` where it cannot be read.

    :raises UnsuitableNode: naming the device, when blkid fails.
    """
    try:
        found = blkid.probe([device]).get(device, {})
    except CommandError as error:
        if error.code is None:  # the program is missing
            raise
        raise UnsuitableNode(f"{device} cannot be read: {error}") from None
    # blkid ends alike on what is blank and what it cannot read.
    if not found and (reason := unreadable(device)):
        LOG.warning("%s cannot be read: %s", device, reason)
        return {"UNREADABLE": "yes"}
    return found


def signature(device: str, found: dict[str, str]) -> Signature | None:
    """The signature among blkid's tags of a device, if there is one, with what the kinds can tell of it."""
    if "AMBIVALENT" in found:
        return Signature("ambivalent")
    if "UNREADABLE" in found:
        return UNREADABLE
    if "TYPE" not in found:
        return None
    seen = Signature(found["TYPE"], found.get("UUID"), found.get("LABEL"))
    return functools.reduce(lambda x, kind: kind.seen(device, x), KINDS, seen)


class _Look:
    """A :class:`bareon.storage.kind.Look`, at whose end all is stopped, top first, that was started in it.

    Whatever udev or a service has started on top is stopped as well. A structure that cannot be stopped is left
    running, with a warning.
    """

    def __init__(self, disks: Sequence[DiskFacts]) -> None:
        self._signatures: dict[str, Signature | None] = {}
        self._partitioned: set[str] = set()
        self._names: dict[str, str] = {}
        self._begun: list[Started] = []
        for disk in disks:
            for device, content in [(disk.device, disk.content), *((x.device, x.content) for x in disk.partitions)]:
                self.offer(device, content)
                if disk.multipath:  # of which the kernel has another name
                    self.name(str(Path(device).resolve()), device)

    @property
    def began(self) -> bool:
        """True if anything was started."""
        return bool(self._begun)

    def devices(self, signature: str) -> list[str]:
        return [device for device, found in self._signatures.items() if found and found.type == signature]

    @property
    def nested(self) -> int:
        return len(self._partitioned)

    def content(self, device: str) -> Signature | None:
        return signature(device, tags(device))

    def offer(self, device: str, signature: Signature | None, *, partitioned: bool = False) -> None:
        self._signatures[device] = signature
        if partitioned:
            self._partitioned.add(device)

    def name(self, device: str, name: str) -> None:
        self._names[device] = name

    def name_of(self, device: str) -> str:
        kernel = str(Path(device).resolve())
        parent = "/dev/" + (SYS / Path(kernel).name).resolve().parent.name
        return next((self._names[x] for x in (device, kernel, parent) if x in self._names), device)

    def begun(self, started: Started) -> None:
        self._begun.append(started)

    def __enter__(self) -> _Look:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        reason: object = "it is started again whenever it is stopped"
        for _ in range(TRIES):
            left = [started for started in reversed(self._begun) if started.runs()]
            if not left:
                return
            for started in left:
                try:
                    _clear(started.devices)
                    started.stop()
                except CommandError as failure:
                    reason = failure
            with contextlib.suppress(CommandError):  # what still runs is tried again, then reported
                udev.settle()
        for started in self._begun:
            if started.runs():
                LOG.warning("%s was started to look inside, and still runs: %s", started.title, reason)


def _clear(devices: Sequence[str]) -> None:
    """Stop whatever holds the devices, the top first.

    :raises CommandError: when something cannot be stopped.
    """
    for device in devices:
        for holder in _holders(Path(device).name):
            any(kind.stop_device(f"/dev/{holder}") for kind in KINDS)


def _holders(name: str) -> Iterator[str]:
    """The kernel's names of all that stands on a device or on its partitions, the top first."""
    place = (SYS / name).resolve()
    for path in [*place.glob("holders/*"), *place.glob(f"{name}*/holders/*")]:
        yield from _holders(path.name)
        yield path.name
