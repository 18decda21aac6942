# SPDX-License-Identifier: Apache-2.0
"""LVM: pvcreate(8), vgcreate(8), lvcreate(8) and the reports of pvs(8), vgs(8), lvs(8)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    """

    name: str
    group_uuid: str
    size: int
    active: bool
    layout: str = "linear"
    health: str = ""


@dataclass(frozen=True)
class Group:
    """A volume group; sizes in bytes."""

    name: str
    uuid: str
    size: int
    extent: int


@dataclass(frozen=True)
class Report:
    """All that LVM knows."""

    groups: tuple[Group, ...]
    physical: tuple[PhysicalVolume, ...]
    volumes: tuple[Volume, ...]


def report() -> Report:
    """Read the metadata of all physical volumes; nothing needs to be active."""
    return Report(
        _rows("vgs", "vg_name,vg_uuid,vg_size,vg_extent_size", "vg", _group),
        _rows("pvs", "pv_name,vg_uuid,pe_start", "pv", _physical_volume),
        _rows("lvs", "lv_name,vg_uuid,lv_size,lv_active,lv_layout,lv_health_status", "lv", _volume),
    )


def _group(row: dict[str, str]) -> Group:
    return Group(row["vg_name"], row["vg_uuid"], int(row["vg_size"]), int(row["vg_extent_size"]))


def _physical_volume(row: dict[str, str]) -> PhysicalVolume:
    return PhysicalVolume(row["pv_name"], row["vg_uuid"], int(row["pe_start"] or 0))


def _volume(row: dict[str, str]) -> Volume:
    told = row["lv_layout"], row["lv_health_status"]
    return Volume(row["lv_name"], row["vg_uuid"], int(row["lv_size"]), row["lv_active"] == "active", *told)


def _rows(command: str, columns: str, kind: str, read: Callable[[dict[str, str]], T]) -> tuple[T, ...]:
    argv = ["lvm", command, "--foreign", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", columns]
    # 5: something is wrong with a group, for instance a missing physical volume; the report is there all the same.
    done = run([*argv, "--config", _CONFIG], ok=(0, 5))
    return done.read(lambda output: tuple(map(read, parse(output, kind))))


def parse(output: str, kind: str) -> list[dict[str, str]]:
    """The rows of one kind in the output of ``--reportformat json``."""
    rows: list[dict[str, str]] = json.loads(output)["report"][0][kind] if output.strip() else []
    return rows


def _lvm(*argv: str) -> Command:
    return run(["lvm", *argv, "--config", _CONFIG])


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


def create_group(name: str, extent: int, devices: Sequence[str]) -> None:
    """Make a volume group; ``extent`` in bytes."""
    _lvm("vgcreate", "--yes", "--physicalextentsize", f"{extent // KIB}k", name, *devices)


def create_volume(group: str, name: str, extents: int) -> None:
    """Make a logical volume of so many extents, old signatures in it wiped."""
    argv = ["lvcreate", "--yes", "--wipesignatures", "y", "--zero", "y"]
    _lvm(*argv, "--name", name, "--extents", str(extents), group)


def activate(group: str, *, read_only: bool = False) -> None:
    """Make the volumes of a group usable; ``read_only`` only for reading."""
    config = _CONFIG
    if read_only:
        config += f' activation/read_only_volume_list=["{group}"]'
    run(["lvm", "vgchange", "--activate", "y", "--config", config, group])


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
