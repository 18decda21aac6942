# SPDX-License-Identifier: Apache-2.0
"""Steps that make containers, open and close them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bareon import tools
from bareon.errors import ActionFailed, CommandError, UnsuitableNode
from bareon.sizes import MIB, human
from bareon.step import Outcome, Progress, Step, confide, has_confidant
from bareon.storage import cryptkey
from bareon.storage.cryptkey import Sealed
from bareon.storage.luks.mapper import MAPPER, format_of

if TYPE_CHECKING:
    from bareon.storage.luks.planned import PlannedContainer, PlannedEphemeral

SIGNATURE = "crypto_LUKS"
PROGRAMS = ("cryptsetup",)
HEADER = 16 * MIB  # bytes in front of the data, cryptsetup's own choice; given, so that the size is decided


@dataclass(frozen=True)
class LeaveBlank(Step):
    """See that nothing can be made out on a device: Debian's scripts encrypt none on which something can."""

    filesystem: PlannedEphemeral

    @property
    def description(self) -> str:
        fs = self.filesystem
        return f"Leave {fs.device} ({human(fs.size)}) blank for {fs.wanted.point}, encrypted with a random key"

    def run(self, progress: Progress) -> Outcome:
        tools.device.wipe([self.filesystem.device])
        tools.udev.look_again(self.filesystem.device)
        return {}


@dataclass(frozen=True)
class MakeContainer(Step):
    """Make a container with the UUID that was decided for it, and open it."""

    container: PlannedContainer

    @property
    def description(self) -> str:
        container = self.container
        recovery = " and a recovery key" if container.wanted.recovery else ""
        return (
            f"Encrypt {container.device} ({human(container.size)}) with {container.wanted.key}{recovery}, and open it"
            f" as {container.opened.device}"
        )

    def preflight(self) -> None:
        wanted = self.container.wanted
        if wanted.recovery and not has_confidant():
            raise UnsuitableNode(
                f"{wanted.path}.recovery_key: there is no terminal to show it on, which is the only place for it"
            )
        place = MAPPER / wanted.name
        if place.exists() and format_of(place.resolve().name) is None:
            raise UnsuitableNode(f"a container cannot be called {wanted.name}: {place} is something else")
        if isinstance(wanted.key, Sealed):
            cryptkey.try_out(wanted.key)
            return
        reason = cryptkey.untypable(cryptkey.content(wanted.key))
        if reason and not (wanted.in_system or wanted.recovery):
            raise UnsuitableNode(f"{wanted.path}.key: {wanted.key} cannot be typed when the system asks: {reason}")

    def run(self, progress: Progress) -> Outcome:
        container, wanted = self.container, self.container.wanted
        sealed = None
        if isinstance(wanted.key, Sealed):
            key = cryptkey.machine_key()
            sealed = tools.clevis.seal(wanted.key.pin, wanted.key.config, key)
        else:
            key = cryptkey.content(wanted.key)
        # What nobody has seen opens nothing: where it cannot be shown, there is no such key, and no new container.
        another = _shown_key(wanted.name) if wanted.recovery else None
        tools.cryptsetup.make(container.device, container.uuid, wanted.name, HEADER, key)
        found = tools.blkid.probe([container.device]).get(container.device, {})
        if (found.get("TYPE"), found.get("UUID")) != (SIGNATURE, container.uuid):
            raise ActionFailed(f"{container.device}: blkid reads back {found}, not {SIGNATURE} {container.uuid}")
        if another:
            tools.cryptsetup.add_key(container.device, key, another)
        if sealed:
            tools.cryptsetup.add_token(container.device, tools.clevis.token(sealed, slot=0))
            key = _key_now(container)  # as the deployed system will have it
        _open(container, key)
        return {"bytes": container.opened.size}


def key_of(container: PlannedContainer) -> bytes:
    """The key of a container; a sealed one as its header has it.

    :raises UnsuitableNode: when it cannot be had.
    """
    wanted = container.wanted.key
    if not isinstance(wanted, Sealed):
        return cryptkey.content(wanted)
    found = filter(None, map(tools.clevis.sealed, tools.cryptsetup.tokens(container.device)))
    reasons = []
    for sealed in found:
        try:
            return tools.clevis.unseal(sealed)
        except CommandError as error:
            reasons.append(tools.clevis.reason(error))
    said = "; ".join(reasons) or "its header has none"
    raise UnsuitableNode(f"{container.device}: {wanted} cannot be had: {said}")


def _key_now(container: PlannedContainer) -> bytes:
    """The same once something was written.

    :raises ActionFailed: when it cannot be had.
    """
    try:
        return key_of(container)
    except UnsuitableNode as error:
        raise ActionFailed(str(error)) from None


def _shown_key(name: str) -> bytes:
    """A new recovery key, once the operator was shown it.

    :raises ActionFailed: when nobody was.
    """
    key = cryptkey.recovery_key()
    try:
        confide(f"The recovery key of {name}, which is shown only now, and good once this run has succeeded:\n{key}")
    except ActionFailed as error:
        raise ActionFailed(
            f"container {name} is not made, since nobody would see its recovery key: {error}"
        ) from None
    return key.encode()


@dataclass(frozen=True)
class OpenContainer(Step):
    """Open a container that is kept."""

    container: PlannedContainer

    @property
    def description(self) -> str:
        container = self.container
        return f"Open {container.opened.device} on {container.device} with {container.wanted.key}"

    def preflight(self) -> Iterator[str]:
        device, wanted = self.container.device, self.container.wanted
        if not isinstance(wanted.key, Sealed):
            cryptkey.content(wanted.key)
        if not Path(device).exists():
            yield f"{device} does not run yet: whether {wanted.key} opens what is kept there is seen after that alone"
        elif not tools.cryptsetup.fits(device, key_of(self.container)):
            raise UnsuitableNode(f"{device}: {wanted.key} does not open it")

    def run(self, progress: Progress) -> Outcome:
        _open(self.container, _key_now(self.container), anew=False)
        return {}


def _open(container: PlannedContainer, key: bytes, *, anew: bool = True) -> None:
    wanted, device = container.wanted, container.opened.device
    tools.cryptsetup.open_container(container.device, wanted.name, key, discard="discard" in wanted.options)
    tools.udev.wait_for({device: container.opened.size if anew else None})


@dataclass(frozen=True)
class CloseContainer(Step):
    """Close a container, so that what is below it is free."""

    name: str
    members: tuple[str, ...]

    @property
    def description(self) -> str:
        return f"Close container {self.name} on {', '.join(self.members)}"

    def preflight(self) -> None:
        if absent := tools.device.missing(PROGRAMS):
            raise UnsuitableNode(
                f"container {self.name} is open, and {', '.join(absent)} is not installed to close it"
            )

    def run(self, progress: Progress) -> Outcome:
        tools.cryptsetup.close(self.name)
        return {}
