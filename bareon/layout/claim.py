# SPDX-License-Identifier: Apache-2.0
"""Room on disks that the input does not describe: BIOS boot partition, ESP, multiboot, configdrive.

All are :class:`~bareon.storage.kind.Reservation` values of one mechanism; an action of one's own may claim others by
``Deployment.reserving`` in its ``reserve``.
"""

from __future__ import annotations

from dataclasses import replace

from bareon.errors import Defect, InvalidInput
from bareon.layout.match import match_disks
from bareon.model.configdrive import LABEL, SIZE
from bareon.model.deployment import Deployment
from bareon.model.node import NodeFacts
from bareon.sizes import MIB
from bareon.storage.disk import Disk, Partition
from bareon.storage.filesystem import ESP, ESP_MOUNT, EfiSystemPartition, Filesystem
from bareon.storage.kind import Aggregate, Content, Firmware, Reservation

# The partition type GUID that is GRUB's.
BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"

# FAT32 has at least 65525 clusters, and a cluster is at least a sector.
_ESP_SIZES = (200 * MIB, 260 * MIB)
_UEFI_ROOM = "uefi"
"""The name of a partition that is kept for an ESP."""


def boot_claims(deployment: Deployment, firmware: Firmware) -> Deployment:
    """The deployment with what the node boots from on each disk, and partitions for the menu of more than one image.

    The latter are on the disks that ask for one, else on the first. On a UEFI node what the input mounts at
    ``/boot/efi`` is the EFI system partition of its disk.
    """
    disks = []
    menus = [number for number, disk in enumerate(deployment.disks) if disk.multiboot] or [0]
    for number, described in enumerate(deployment.disks):
        disk = _with_own_esp(described) if firmware == "uefi" else described
        claims = _for_firmware(disk, firmware)
        if number in menus and deployment.multiboot:
            claims.append(_multiboot(disk))
        disks.append(replace(disk, reservations=(*claims, *disk.reservations)))
    return replace(deployment, disks=tuple(disks))


def _with_own_esp(disk: Disk) -> Disk:
    """The disk with the EFI system partition that the input describes, if it does."""

    def taken(volume: Partition) -> Partition:
        fs = volume.content
        if not isinstance(fs, Filesystem) or not _is_at(ESP_MOUNT, fs):
            return volume
        return replace(volume, content=EfiSystemPartition.of(fs))

    return replace(disk, volumes=tuple(map(taken, disk.volumes)))


def _for_firmware(disk: Disk, firmware: Firmware) -> list[Reservation]:
    """The partitions this node's firmware boots from, and room for the other firmware's where it is wanted."""
    path = f"{disk.path} (implicit esp)"
    bios = Reservation("bios_grub", (24 * MIB, 24 * MIB), BIOS_BOOT)
    esp = [Reservation("esp", _ESP_SIZES, ESP, EfiSystemPartition(label="ESP", path=path))]
    # Not an ESP without a file system, which firmware and installers would stumble over.
    room = [Reservation("volume", _ESP_SIZES, name=_UEFI_ROOM)]
    if any(_is_at(ESP_MOUNT, x.content) for x in disk.volumes if x.content):
        esp = room = []  # the input has one, and no disk needs two
    if not disk.any_firmware:
        return [bios] if firmware == "bios" else esp
    return [bios, *(esp if firmware == "uefi" else room)]


def _multiboot(disk: Disk) -> Reservation:
    path = f"{disk.path} (implicit multiboot)"
    return Reservation("multiboot", (100 * MIB, 100 * MIB), content=Filesystem("ext4", label="multiboot", path=path))


def configdrive_claim(deployment: Deployment, *, written: bool) -> Deployment:
    """The deployment with room for a configdrive at the end of the disk that holds ``/``.

    That is the first one in the input that has a part of it. Unchanged where there is no configdrive to write.

    :param written: whether this run writes it.
    :raises InvalidInput: when nothing is mounted at ``/``.
    """
    if deployment.configdrive is None:
        return deployment
    number = root_disk(deployment)
    if number is None:
        message = "nothing is mounted at /, and the configdrive goes to the disk that holds it"
        raise InvalidInput([Defect(deployment.configdrive.path, message)])
    return deployment.reserving(number, _configdrive(written))


def configdrive_as_found(deployment: Deployment, node: NodeFacts) -> Deployment:
    """The deployment with that room if it is there: for stages that neither make it nor write to it."""
    number = root_disk(deployment)
    if number is None:
        return deployment
    partitions = match_disks(deployment, node)[number].partitions
    if not partitions or partitions[-1].name != LABEL:
        return deployment
    return deployment.reserving(number, _configdrive(written=False))


def _configdrive(written: bool) -> Reservation:
    return Reservation("configdrive", (SIZE, SIZE), name=LABEL, at_end=True, rewritten=written)


def root_disk(deployment: Deployment) -> int | None:
    """The index of the first disk of the deployment that holds a part of a ``/``."""
    holding = {x.key for x in deployment.aggregates if any(_is_at("/", y) for y in _nested(x))}
    while more := {x.key for x in deployment.aggregates if any(y.joins in holding for y in _nested(x))} - holding:
        holding |= more
    for number, disk in enumerate(deployment.disks):
        contents = [x for volume in disk.volumes if volume.content for x in volume.content.nested()]
        if any(_is_at("/", x) or x.joins in holding for x in contents):
            return number
    return None


def _nested(aggregate: Aggregate) -> list[Content]:
    return [x for content in aggregate.contents for x in content.nested()]


def _is_at(point: str, content: Content) -> bool:
    return isinstance(content, Filesystem) and any(mount.point == point for mount in content.mounts)
