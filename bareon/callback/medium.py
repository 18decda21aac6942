# SPDX-License-Identifier: Apache-2.0
"""Virtual media: what Ironic put beside the ramdisk onto the CD or the floppy that a BMC offers.

The files and labels are those that Ironic writes for its own agent: ``parameters.txt`` on a floppy, the certificates
of its API on the ISO it makes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bareon.errors import CommandError, Defect, InvalidInput
from bareon.sizes import GIB, MIB

LOG = logging.getLogger(__name__)

_FLOPPY = "IR-VFD-DEV"
_ISO = ("VMEDIA_BOOT_ISO", "CONFIG-2")
_KINDS = ("vfat", "iso9660")
_PARAMETERS = "parameters.txt"
_AUTHORITY = "etc/ironic-python-agent/ironic.crt"
_LARGEST = MIB
#: A medium that a BMC offers as a USB stick is smaller than what people leave in a machine.
_LARGEST_STICK = 4 * GIB
_CD = "5"  # the type of a SCSI device; SPC-4, 6.4.2


@dataclass(frozen=True)
class Medium:
    """A medium that Ironic wrote: the text of its parameters, and its certificates (PEM)."""

    device: str
    parameters: str | None = None
    authority: str | None = None


def media(root: Path) -> list[Medium]:
    """The media in this machine that bear Ironic's labels.

    A label alone says nothing: the disk that the last tenant filled may have it. So only whole CDs, and sticks that
    are small enough for what a BMC makes up, are looked at.
    """
    found: list[Medium] = []
    for name in _virtual(root / "sys/class/block"):
        device = str(root / "dev" / name)
        try:
            found += _looked_at(device)
        except CommandError as error:
            LOG.warning("%s, which may be a virtual medium, cannot be read: %s", device, error)
    return found


def _looked_at(device: str) -> Iterator[Medium]:
    from bareon import tools

    tags = tools.blkid.probe([device]).get(device, {})
    kind, label = tags.get("TYPE", ""), tags.get("LABEL", "").upper()
    if kind in _KINDS and label in (_FLOPPY, *_ISO):
        yield _read(device, kind, label)


def _virtual(block: Path) -> Iterator[str]:
    for place in sorted(block.glob("*")):
        if (place / "partition").exists():
            continue
        with contextlib.suppress(OSError, ValueError):
            size = int((place / "size").read_text()) * 512
            kind = (place / "device/type").read_text().strip()
            stick = "/usb" in str(place.resolve()) and size < _LARGEST_STICK
            if size and (kind == _CD or stick):
                yield place.name


def _read(device: str, kind: str, label: str) -> Medium:
    from bareon.tools import mount

    with (
        tempfile.TemporaryDirectory(prefix="bareon-medium-") as place,
        mount.mounted(device, place, kind=kind, options="ro,nosuid,nodev,noexec") as target,
    ):
        if label == _FLOPPY:
            return Medium(device, parameters=_text(Path(target), _PARAMETERS))
        return Medium(device, authority=_text(Path(target), _AUTHORITY))


def _text(root: Path, name: str) -> str | None:
    """A small file below ``root``, with no link on the way."""
    where = root
    for part in name.split("/"):
        where /= part
        if where.is_symlink():
            return None
    try:
        descriptor = os.open(where, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise InvalidInput([Defect(name, "on the virtual medium is larger than 1 MiB")])
    return data.decode("latin-1")
