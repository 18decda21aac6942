# SPDX-License-Identifier: Apache-2.0
"""LVM: pvcreate(8), vgcreate(8), lvcreate(8) and the reports of pvs(8), vgs(8), lvs(8)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from bareon.run import Command, run
from bareon.sizes import KIB, MIB

PROGRAMS = ("lvm",)

# No monitoring daemon and no backups of metadata in a ramdisk.
T = TypeVar("T")
_CONFIG = "activation { monitoring = 0 } backup { backup = 0 archive = 0 } devices { use_devicesfile = 0 }"


@dataclass(frozen=True)
class PhysicalVolume:
    """``device`` is ``[unknown]`` for one that is missing; ``start`` is that of the first extent, bytes."""

    device: str
    group_uuid: str
    start: int


@dataclass(frozen=True)
class Volume:
    """A logical volume, size in bytes.

    ``layout`` and ``health`` are LVM's words, such as ``raid,raid1`` and ``partial``; nothing where all is well.
    ``legs`` are its stripes, copies and parities together, ``copies`` those of its data. ``pool`` is the name of the
    pool that it is in.
    """

    name: str
    group_uuid: str
    size: int
    active: bool
    layout: str = "linear"
    health: str = ""
    legs: int = 1
    copies: int = 1
    tags: tuple[str, ...] = ()
    pool: str = ""


@dataclass(frozen=True)
class Group:
    """A volume group; sizes in bytes."""

    name: str
    uuid: str
    size: int
    extent: int
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """All that LVM knows."""

    groups: tuple[Group, ...]
    physical: tuple[PhysicalVolume, ...]
    volumes: tuple[Volume, ...]


def report() -> Report:
    """Read the metadata of all physical volumes; nothing needs to be active."""
    return Report(
        _rows("vgs", "vg_name,vg_uuid,vg_size,vg_extent_size,vg_tags", "vg", _group),
        _rows("pvs", "pv_name,vg_uuid,pe_start", "pv", _physical_volume),
        _whole(_rows("lvs", _VOLUME, "lv", _volume)),
    )


_VOLUME = "lv_name,vg_uuid,lv_size,lv_active,lv_layout,lv_health_status,stripes,data_copies,lv_tags,pool_lv"


def _whole(segments: Sequence[Volume]) -> tuple[Volume, ...]:
    """Each volume once: LVM tells of one that lies in several segments as often, for the sake of their stripes."""
    found: dict[tuple[str, str], Volume] = {}
    for x in segments:
        first = found.setdefault((x.group_uuid, x.name), x)
        found[x.group_uuid, x.name] = replace(first, legs=max(first.legs, x.legs))
    return tuple(found.values())


@dataclass(frozen=True)
class Piece:
    """Part of a volume: ``size`` bytes, from its byte ``start`` on.

    They lie in a row from extent ``extent`` of the physical volume ``device`` on; without a device they do not.
    """

    name: str
    group_uuid: str
    start: int
    size: int
    device: str = ""
    extent: int = 0


def pieces() -> tuple[Piece, ...]:
    """The pieces of all volumes, those included that are parts of others."""
    return _rows("lvs", _PIECE, "lv", _piece, more=("--all",))


_PIECE = "lv_name,vg_uuid,seg_start,seg_size,devices"


def _piece(row: dict[str, str]) -> Piece:
    place = re.fullmatch(r"(/[^,]+)\(([0-9]+)\)", row["devices"])
    on = (place[1], int(place[2])) if place else ()
    return Piece(_plain(row["lv_name"]), row["vg_uuid"], int(row["seg_start"]), int(row["seg_size"]), *on)


def _plain(name: str) -> str:
    """A name without the brackets that LVM puts around that of a part of another volume."""
    return name.strip("[]")


@dataclass(frozen=True)
class ThinVolume:
    """A volume of a thin pool. ``number`` is that by which the pool knows it; ``origin`` what it is a snapshot of."""

    name: str
    number: int
    size: int
    origin: str = ""


@dataclass(frozen=True)
class ThinPool:
    """A thin pool. ``data`` and ``metadata`` are the names of the volumes that it is made of; sizes in bytes."""

    name: str
    group_uuid: str
    size: int
    chunk: int
    data: str
    metadata: str
    volumes: tuple[ThinVolume, ...]


def thin_pools() -> tuple[ThinPool, ...]:
    """All thin pools, with their volumes."""
    rows = _rows("lvs", _THIN, "lv", dict, more=("--all",))
    return tuple(_thin_pool(row, rows) for row in rows if row["segtype"] == "thin-pool")


_THIN = "lv_name,vg_uuid,lv_size,segtype,chunk_size,data_lv,metadata_lv,pool_lv,thin_id,origin"


def _thin_pool(row: dict[str, str], rows: Sequence[dict[str, str]]) -> ThinPool:
    group, name = row["vg_uuid"], _plain(row["lv_name"])
    volumes = (
        ThinVolume(_plain(x["lv_name"]), int(x["thin_id"]), int(x["lv_size"]), _plain(x["origin"]))
        for x in rows
        if x["segtype"] == "thin" and (x["vg_uuid"], _plain(x["pool_lv"])) == (group, name)
    )
    parts = _plain(row["data_lv"]), _plain(row["metadata_lv"])
    return ThinPool(name, group, int(row["lv_size"]), int(row["chunk_size"]), *parts, tuple(volumes))


def _group(row: dict[str, str]) -> Group:
    sizes = int(row["vg_size"]), int(row["vg_extent_size"])
    return Group(row["vg_name"], row["vg_uuid"], *sizes, _tags(row["vg_tags"]))


def _physical_volume(row: dict[str, str]) -> PhysicalVolume:
    return PhysicalVolume(row["pv_name"], row["vg_uuid"], int(row["pe_start"] or 0))


def _volume(row: dict[str, str]) -> Volume:
    told = row["lv_layout"], row["lv_health_status"]
    # LVM counts no stripe of a thin volume.
    figures = max(1, int(row["stripes"])), int(row["data_copies"])
    size, active = int(row["lv_size"]), row["lv_active"] == "active"
    return Volume(
        row["lv_name"], row["vg_uuid"], size, active, *told, *figures, _tags(row["lv_tags"]), _plain(row["pool_lv"])
    )


def _tags(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _rows(
    command: str, columns: str, kind: str, read: Callable[[dict[str, str]], T], more: Sequence[str] = ()
) -> tuple[T, ...]:
    argv = ["lvm", command, *more, "--foreign", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", columns]
    # 5: something is wrong with a group, for instance a missing physical volume; the report is there all the same.
    done = run([*argv, "--config", _CONFIG], ok=(0, 5))
    return done.read(lambda output: tuple(map(read, parse(output, kind))))


def parse(output: str, kind: str) -> list[dict[str, str]]:
    """The rows of one kind in the output of ``--reportformat json``."""
    rows: list[dict[str, str]] = json.loads(output)["report"][0][kind] if output.strip() else []
    return rows


def _lvm(*argv: str) -> Command:
    return run(["lvm", *argv, "--config", _CONFIG])


def free(group: str) -> int:
    """The bytes of a group that no volume has.

    :raises CommandError: when there is no such group.
    """
    argv = ["lvm", "vgs", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", "vg_free"]
    return run([*argv, "--config", _CONFIG, group]).read(lambda output: int(parse(output, "vg")[0]["vg_free"]))


def create_physical_volume(device: str, metadata: int, backup: int = 0) -> None:
    """Make a physical volume whose first extent starts ``metadata`` bytes (whole MiB) after its beginning.

    :param backup: bytes (whole MiB, less than ``metadata``) at its end for a second copy of the metadata, 0 for none.
    """
    # The metadata area starts at 4 KiB and the first extent at the next MiB after it.
    size = backup or metadata - MIB // 2
    argv = ["pvcreate", "--yes", "--force", "--zero", "y", "--dataalignment", "1m"]
    if backup:
        argv += ["--metadatacopies", "2"]
    # The offset to the next multiple of the disk's optimal I/O size would be added, or refused as larger than 1 MiB.
    config = f"{_CONFIG} devices/data_alignment_offset_detection = 0"
    run(["lvm", *argv, "--metadatasize", f"{size // KIB}k", device, "--config", config])


def create_group(name: str, extent: int, devices: Sequence[str], tags: Sequence[str] = ()) -> None:
    """Make a volume group; ``extent`` in bytes."""
    _lvm("vgcreate", "--yes", "--physicalextentsize", f"{extent // KIB}k", *_tagged(tags), name, *devices)


def create_volume(group: str, name: str, extents: int, tags: Sequence[str] = ()) -> None:
    """Make a linear logical volume of so many extents, old signatures in it wiped."""
    _lvm(*_CREATE, "--name", name, "--extents", str(extents), *_tagged(tags), group)


def create_spread_volume(
    group: str,
    name: str,
    extents: int,
    kind: str,
    devices: Sequence[str],
    tags: Sequence[str] = (),
    *,
    stripes: int | None = None,
    stripe: int = 0,
    mirrors: int | None = None,
) -> None:
    """Make a logical volume of a segment type that spreads it over physical volumes, one for each leg.

    :param extents: those of the volume itself, without copies and parity.
    :param stripe: bytes of each stripe on one physical volume, where it has ``stripes``.
    :param mirrors: copies besides the first, where it has any.
    """
    shape = [] if stripes is None else ["--stripes", str(stripes), "--stripesize", f"{stripe // KIB}k"]
    shape += [] if mirrors is None else ["--mirrors", str(mirrors)]
    size = ["--name", name, "--extents", str(extents)]
    _lvm(*_CREATE, *size, "--type", kind, *shape, *_tagged(tags), group, *devices)


def create_thin_pool(
    group: str, name: str, extents: int, metadata: tuple[str, int], chunk: int, tags: Sequence[str] = ()
) -> None:
    """Make a thin pool of so many extents for data, and others for metadata; ``chunk`` in bytes.

    Each may lie on any physical volumes. In one go lvcreate finds room only where all metadata can lie in a row.

    :param metadata: a name that the metadata have until the pool is made, and their extents.
    """
    of_metadata, size = metadata
    _lvm(*_CREATE, "--name", of_metadata, "--extents", str(size), group)
    _lvm(*_CREATE, "--name", name, "--extents", str(extents), group)
    shape = ["--chunksize", f"{chunk // KIB}k", "--zero", "y", "--discards", "passdown", "--poolmetadataspare", "y"]
    made = ["--type", "thin-pool", "--poolmetadata", f"{group}/{of_metadata}"]
    _lvm("lvconvert", "--yes", *made, *shape, f"{group}/{name}")
    if tags:  # those of what becomes its data would stay with that
        _lvm("lvchange", *_tagged(tags), f"{group}/{name}")


def create_thin_volume(group: str, pool: str, name: str, size: int, tags: Sequence[str] = ()) -> None:
    """Make a volume of ``size`` bytes in a thin pool."""
    made = ["--type", "thin", "--thinpool", pool, "--virtualsize", f"{size // KIB}k"]
    _lvm("lvcreate", "--yes", "--wipesignatures", "y", "--name", name, *made, *_tagged(tags), group)


_CREATE = ("lvcreate", "--yes", "--wipesignatures", "y", "--zero", "y")


def _tagged(tags: Sequence[str]) -> list[str]:
    return [word for tag in tags for word in ("--addtag", tag)]


def activate(group: str, *, read_only: bool = False) -> None:
    """Make the volumes of a group usable; ``read_only`` only for reading."""
    config = _CONFIG
    if read_only:
        config += f' activation/read_only_volume_list=["{group}"]'
    run(["lvm", "vgchange", "--activate", "y", "--config", config, group])


def activate_volumes(group: str, volumes: Sequence[str]) -> None:
    """Make some volumes of a group usable, for reading only."""
    config = f'{_CONFIG} activation/read_only_volume_list=["{group}"]'
    run(["lvm", "lvchange", "--activate", "y", "--config", config, *(f"{group}/{volume}" for volume in volumes)])


def deactivate(group_uuid: str) -> None:
    """Take the volumes of a group away; they keep all they hold. By UUID, since names need not be unique."""
    _lvm("vgchange", "--activate", "n", "--select", f"vg_uuid={group_uuid}")


def passes(patterns: Sequence[str], devices: Sequence[str]) -> bool:
    """True if LVM takes all the physical volumes with a ``filter`` of lvm.conf(5).

    :param patterns: its strings as they are in the file, quotes included.
    """
    config = f"devices {{ use_devicesfile = 0 filter = [ {', '.join(patterns)} ] }}"
    return run(["lvm", "pvs", "--readonly", "--config", config, *devices], ok=(0, 5)).code == 0


def mapper_device(device: str) -> str:
    """``/dev/mapper/os-root`` for ``/dev/os/root``; hyphens inside the names are doubled there."""
    return "/dev/mapper/" + "-".join(part.replace("-", "--") for part in device.removeprefix("/dev/").split("/"))
