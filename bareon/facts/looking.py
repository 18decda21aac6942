# SPDX-License-Identifier: Apache-2.0
"""Starting arrays and volume groups read-only to look inside, and leaving nothing started that was not."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bareon.errors import CommandError
from bareon.tools import lvm, mdadm, udev

LOG = logging.getLogger(__name__)

TRIES = 3
_SYS = Path("/sys/class/block")


@dataclass(frozen=True)
class _Begun:
    """An array (``/dev/md/...``) or a group that was started; ``devices`` are what it offers, by kernel names."""

    kind: str
    name: str
    uuid: str
    devices: tuple[str, ...]

    def runs(self) -> bool:
        return bool(self._device()) if self.kind == "array" else self.uuid in active_groups()

    def stop(self) -> None:
        if self.kind == "array":
            mdadm.stop(self._device() or self.devices[0])
        else:
            lvm.deactivate(self.uuid)

    def _device(self) -> str | None:
        """The device of the array now: udev may have started it again under another number."""
        state = _SYS / Path(self.devices[0]).name / "md/array_state"
        with contextlib.suppress(OSError):
            if state.read_text().strip() != "clear":  # also one that was assembled in part, and does not run
                return self.devices[0]
        return running_arrays().get(self.uuid)


class Looking:
    """A block at whose end all is stopped, top first, that was started in it.

    What udev or a service has started on top meanwhile is stopped with it. What cannot be stopped is left to run,
    with a warning.
    """

    def __init__(self) -> None:
        self._begun: list[_Begun] = []

    @property
    def began(self) -> bool:
        """Whether anything was started."""
        return bool(self._begun)

    def __enter__(self) -> Looking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        reason: object = "it is started again whenever it is stopped"
        for _ in range(TRIES):
            left = [begun for begun in reversed(self._begun) if begun.runs()]
            if not left:
                return
            for begun in left:
                try:
                    _clear(begun.devices)
                    begun.stop()
                except CommandError as failure:
                    reason = failure
            _settle()
        for begun in self._begun:
            if begun.runs():
                LOG.warning("%s %s was started to look inside, and still runs: %s", begun.kind, begun.name, reason)

    def start(self, name: str, uuid: str, members: Sequence[str]) -> str | None:
        """Start an array; its kernel name, or ``None`` where it cannot be started."""
        link = f"/dev/md/{uuid.replace(':', '')}"
        try:
            mdadm.assemble(link, uuid, members, read_only=True)
        except CommandError as error:
            LOG.warning("array %s cannot be started: %s", name, error)
            # It may be assembled in part, and hold its members.
            self._begun.append(_Begun("array", name, uuid, (mdadm.kernel_name(link),)))
            return None
        self._begun.append(_Begun("array", name, uuid, (mdadm.kernel_name(link),)))
        return self._begun[-1].devices[0]

    def activate(self, name: str, uuid: str, volumes: Sequence[str]) -> bool:
        """Activate a group with those volumes (``/dev/group/volume``); whether that worked."""
        try:
            lvm.activate(name, read_only=True)
        except CommandError as error:
            LOG.warning("volume group %s cannot be activated: %s", name, error)
        self._begun.append(_Begun("volume group", name, uuid, tuple(map(mdadm.kernel_name, volumes))))
        _settle()  # udev may be about to start an array on a volume
        return uuid in active_groups()


def _settle() -> None:
    with contextlib.suppress(CommandError):  # all the more reason to go on, and to try again
        udev.settle()


def running_arrays() -> dict[str, str]:
    """Devices of the running arrays by the arrays' UUIDs."""
    found = {}
    for entry in sorted(_SYS.glob("md*")):
        if (entry / "md").is_dir() and (array := mdadm.detail(f"/dev/{entry.name}")):
            found[array.uuid] = f"/dev/{entry.name}"
    return found


def active_groups() -> set[str]:
    """The UUIDs of the groups of which a volume is active."""
    return {uuid for path in _SYS.glob("dm-*") if (uuid := _group_of(path.name))}


def _group_of(name: str) -> str | None:
    """The UUID of the group that a device of the device mapper belongs to, as LVM prints it."""
    try:
        text = (_SYS / name / "dm/uuid").read_text().strip()
    except OSError:
        return None  # it is no such device, or went meanwhile
    if not text.startswith("LVM-"):
        return None
    plain, parts = text.removeprefix("LVM-")[:32], []
    for length in (6, 4, 4, 4, 4, 4, 6):
        parts.append(plain[:length])
        plain = plain[length:]
    return "-".join(parts)


def _clear(devices: Sequence[str]) -> None:
    """Stop the arrays and groups that hold the devices, the top first.

    :raises CommandError: when one cannot be stopped.
    """
    for device in devices:
        for holder in _holders(Path(device).name):
            if uuid := _group_of(holder):
                lvm.deactivate(uuid)
            elif (_SYS / holder / "md").is_dir():
                mdadm.stop(f"/dev/{holder}")


def _holders(name: str) -> Iterator[str]:
    """The kernel names of all that stands on a device or on its partitions, the top first."""
    place = (_SYS / name).resolve()
    for path in [*place.glob("holders/*"), *place.glob(f"{name}*/holders/*")]:
        yield from _holders(path.name)
        yield path.name
