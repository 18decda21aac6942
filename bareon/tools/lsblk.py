# SPDX-License-Identifier: Apache-2.0
"""Block devices as the kernel and udev know them: lsblk(8)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from bareon.run import run

PROGRAMS = ("lsblk",)
SYS = Path("/sys/class/block")
_COLUMNS = "PATH,KNAME,TYPE,SIZE,RO,RM,LOG-SEC,PHY-SEC,MODEL,SERIAL,WWN,HCTL,TRAN,MAJ:MIN,PKNAME"


@dataclass(frozen=True)
class BlockDevice:
    """One line of lsblk; ``number`` is ``major:minor``, ``parent`` a kernel name."""

    path: str
    name: str
    type: str
    size: int
    number: str
    parent: str | None
    read_only: bool
    removable: bool
    logical_sector: int
    physical_sector: int
    model: str | None
    serial: str | None
    wwn: str | None
    scsi: str | None
    transport: str | None


def devices() -> list[BlockDevice]:
    """Every block device of the machine, each once; with a size of zero disks alone that are there in hardware."""
    return run(["lsblk", "--json", "--bytes", "--list", "--output", _COLUMNS]).read(parse)


def parse(output: str) -> list[BlockDevice]:
    """The devices in the output of ``lsblk --json --bytes --list``."""
    rows = json.loads(output)["blockdevices"] if output.strip() else []
    found: dict[str, BlockDevice] = {}
    for row in rows:
        device = _device(row)
        if device.size > 0 or (device.type == "disk" and not device.removable and (device.transport or device.scsi)):
            found.setdefault(device.path, device)
    return list(found.values())


def _device(row: dict[str, object]) -> BlockDevice:
    def text(key: str) -> str | None:
        value = row[key]
        return str(value).strip() or None if value is not None else None

    return BlockDevice(
        path=str(row["path"]),
        name=str(row["kname"]),
        type=str(row["type"]),
        size=int(str(row["size"] or 0)),
        number=str(row["maj:min"]),
        parent=text("pkname"),
        read_only=bool(row["ro"]),
        removable=bool(row["rm"]),
        logical_sector=int(str(row["log-sec"] or 512)),
        physical_sector=int(str(row["phy-sec"] or 512)),
        model=text("model"),
        serial=text("serial"),
        wwn=text("wwn"),
        scsi=text("hctl"),
        transport=text("tran"),
    )


def transport(device: BlockDevice) -> str | None:
    """The bus of a device; of NVMe over a fabric ``nvme-tcp``, ``nvme-rdma`` or ``nvme-fc``.

    lsblk says ``nvme`` of them all. With several paths the kernel shows one device below a subsystem, which has the
    controllers in it.
    """
    if not device.name.startswith("nvme"):
        return device.transport
    place = SYS / device.name / "device"
    said = {x.read_text().strip() for x in (*place.glob("transport"), *place.glob("nvme*/transport"))}
    fabrics = sorted(said - {"pcie"})
    return f"nvme-{fabrics[0]}" if fabrics else device.transport


def size(device: str) -> int:
    """The size of a device in bytes, asked from the kernel now."""
    return int(_attribute(device, "size") or 0) * 512


def sequence(device: str) -> int | None:
    """The kernel's running number of a disk: another one for another disk of the same name. Since Linux 5.15."""
    text = _attribute(device, "diskseq")
    return int(text) if text else None


def zoned(device: str) -> str:
    """How a disk must be written: ``none``, ``host-aware`` or ``host-managed`` in zones."""
    return _attribute(device, "queue/zoned") or "none"


def vendor(device: str) -> str | None:
    """Who has made a disk, by its own word; SATA disks say ``ATA``, and NVMe disks nothing."""
    return _attribute(device, "device/vendor") or None


def rotational(device: str) -> bool | None:
    """True where a disk has turning parts, as far as the kernel knows."""
    text = _attribute(device, "queue/rotational")
    return text == "1" if text else None


def striped(device: str) -> bool:
    """True where a device is striped, as mkfs.xfs sees it: both its sizes of I/O are above a physical sector."""
    least, best, sector = (
        int(_attribute(device, f"queue/{name}") or 0)
        for name in ("minimum_io_size", "optimal_io_size", "physical_block_size")
    )
    return min(least, best) > sector


def _attribute(device: str, name: str) -> str | None:
    place = Path(SYS, Path(device).resolve().name.replace("/", "!")).resolve()
    # A queue is that of the disk, whose folder a partition's lies in.
    folder = place.parent if name.startswith("queue/") and (place / "partition").exists() else place
    path = folder / name
    return path.read_text().strip() if path.exists() else None
