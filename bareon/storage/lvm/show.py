# SPDX-License-Identifier: Apache-2.0
"""Views of logical volumes that are not activated, since the kernel would write to them: devices to be read only."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bareon import tools
from bareon.errors import CommandError
from bareon.storage.kind import Look

LOG = logging.getLogger(__name__)

_Part = tuple[str, int, int]
"""A device, and where on it how much lies, in bytes."""


@dataclass(frozen=True)
class Pieces:
    """Where the volumes of a group lie, those included that are parts of others."""

    group: tools.lvm.Group
    starts: Mapping[str, int]
    listed: Sequence[tools.lvm.Piece]

    @classmethod
    def of(cls, group: tools.lvm.Group, report: tools.lvm.Report) -> Pieces:
        """Those of one group."""
        starts = {x.device: x.start for x in report.physical}
        return cls(group, starts, [x for x in tools.lvm.pieces() if x.group_uuid == group.uuid])

    def parts(self, name: str, *, first: bool = False) -> list[_Part]:
        """The parts of a volume, or the first alone; nothing where one is unknown or on no physical volume itself."""
        found = sorted((x for x in self.listed if x.name == name), key=lambda x: x.start)
        found = found[:1] if first else found
        if any(x.device not in self.starts for x in found):
            return []
        return [(x.device, self.starts[x.device] + x.extent * self.group.extent, x.size) for x in found]


@dataclass(frozen=True)
class View:
    """A logical volume, or a part of one, shown as a device by itself, which the device mapper calls ``mapped``."""

    volume: str
    mapped: str

    @property
    def title(self) -> str:
        return f"a view of logical volume {self.volume}"

    @property
    def device(self) -> str:
        """The path of the device."""
        return f"/dev/mapper/{self.mapped}"

    @property
    def devices(self) -> tuple[str, ...]:
        return (tools.device.kernel_name(self.device),)

    def runs(self) -> bool:
        return is_there(self.device)

    def stop(self) -> None:
        tools.dmsetup.remove(self.mapped)


def show_mirrored(look: Look, pieces: Pieces, volumes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Show the beginnings of mirrored volumes: the names of those that can be seen, each with the device."""
    for number, volume in enumerate(volumes):
        # Its first stripe, or its first copy, begins as the volume itself does.
        images = (pieces.parts(f"{volume}_{image}_0", first=True) for image in ("rimage", "mimage"))
        if part := next(filter(None, images), None):
            view = View(f"{pieces.group.name}/{volume}", f"bareon-{pieces.group.uuid}-{number}")
            if _shown(look, {view: _as_parts(view, part)}):
                yield volume, view.device


def show_pools(look: Look, pieces: Pieces) -> Iterator[tuple[str, str]]:
    """Show the volumes of thin pools: the names of those that can be seen, each with the device.

    A pool is shown such that the kernel writes no metadata; LVM itself knows no such way to start one.
    """
    group = pieces.group
    for number, pool in enumerate(x for x in tools.lvm.thin_pools() if x.group_uuid == group.uuid):
        title, name = f"{group.name}/{pool.name}", f"bareon-{group.uuid}-pool{number}"
        metadata, data = pieces.parts(pool.metadata), pieces.parts(pool.data)
        if not metadata or sum(size for *_, size in data) != pool.size:
            LOG.warning("thin pool %s is not looked into: it does not lie on physical volumes by itself", title)
            continue
        below = View(title, f"{name}-metadata"), View(title, f"{name}-data")
        whole = View(title, name)
        paths = [x.device for x in below]
        todo = {view: _as_parts(view, parts) for view, parts in zip(below, (metadata, data), strict=True)}
        todo[whole] = _as_pool(whole, paths, pool)
        inside = dict(_volumes(pool, whole, group.name))
        if _shown(look, todo, above=tuple(inside.values())):
            for volume, view in inside.items():
                if _shown(look, {view: _as_thin(view, whole, volume)}):
                    yield volume.name, view.device


def _volumes(pool: tools.lvm.ThinPool, whole: View, group: str) -> Iterator[tuple[tools.lvm.ThinVolume, View]]:
    """The volumes of a pool with their views, but for those that have something that is outside of it."""
    names = {volume.name for volume in pool.volumes}
    for volume in pool.volumes:
        if volume.origin and volume.origin not in names:
            LOG.warning("%s/%s is not looked into: it is a snapshot of %s", group, volume.name, volume.origin)
        else:
            yield volume, View(f"{group}/{volume.name}", f"{whole.mapped}-{volume.number}")


def _as_parts(view: View, parts: Sequence[_Part]) -> Callable[[], str]:
    return lambda: tools.dmsetup.map_parts(view.mapped, parts)


def _as_pool(view: View, paths: Sequence[str], pool: tools.lvm.ThinPool) -> Callable[[], str]:
    metadata, data = paths
    return lambda: tools.dmsetup.map_pool(view.mapped, metadata, data, pool.size, pool.chunk)


def _as_thin(view: View, whole: View, volume: tools.lvm.ThinVolume) -> Callable[[], str]:
    return lambda: tools.dmsetup.map_thin(view.mapped, whole.device, volume.number, volume.size)


def _shown(look: Look, views: dict[View, Callable[[], str]], above: Sequence[View] = ()) -> bool:
    """Make views, each of which may lie on those before it; whether all could be made.

    :param above: those that are made on top of them later: a run that was killed may have left some.
    """
    first = next(iter(views))
    try:
        for view in reversed([*views, *above]):
            if view.runs():
                view.stop()
        for view, make in views.items():
            # Before it is there: a signal may come as soon as it is.
            look.begun(view)
            make()
    except CommandError as error:
        LOG.warning("logical volume %s cannot be read: %s", first.volume, error)
        return False
    return True


def is_there(device: str) -> bool:
    """True for a device that is there now."""
    return Path(device).exists()
