# SPDX-License-Identifier: Apache-2.0
"""The same document again changes nothing: every file, the boot entries and what is published, after three runs.

Each layout is run three times under ``clean``, which makes everything anew, so that identifiers are compared by what
they identify; and then three times under ``verify``, where not a byte of any file may differ.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests_functional.bench.case import machine
from tests_functional.bench.node import Node
from tests_functional.bench.session import Record, Session

INPUT = "/tmp/provision.json"
LIMIT = 900.0
LISTING = Path(__file__).with_name("node_listing.py")
#: GRUB packs the UUID of its file system into these, so that under clean they are others each time.
PACKED = ("core.img", "core.efi", "grub.efi", "grubx64.efi", "BOOTX64.EFI")
#: Files that bareon or the programs it runs write, for the table.
TOLD = ("etc/fstab", "etc/default/grub", "boot/grub/grub.cfg", "boot/grub2/grub.cfg", "boot/grub2/bareon-images")
#: EFI entries with their order, less what is true of this boot of the machine alone.
ENTRIES = (
    "test -d /sys/firmware/efi && efibootmgr -v | grep -v ^BootCurrent; cat /tmp/boot-info.json 2>/dev/null; true"
)

#: A UUID, and that of vfat, in what the firmware and boot-info.json tell.
IDENTIFIER = re.compile(r"\b[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b|\b[0-9A-F]{4}-[0-9A-F]{4}\b")

Volumes = list[dict[str, Any]]


@dataclass(frozen=True)
class Layout:
    """A machine, an input for it without its policy, and the devices to look at by the names they go by here."""

    template: str
    disks: tuple[str, ...]
    images: tuple[str, ...]
    partitions: tuple[dict[str, Any], ...]
    places: Mapping[str, str]


def disk(name: str, volumes: Volumes) -> dict[str, Any]:
    """Return a disk of the input."""
    return {"type": "disk", "id": {"type": "name", "value": name}, "volumes": volumes}


def volume(mount: str, size: str, kind: str = "partition", **more: Any) -> dict[str, Any]:
    """Return a volume of the input, by its mount point."""
    system = {} if mount == "swap" else {"file_system": "ext4"}
    return {"type": kind, "mount": mount, "size": size, **system, **more}


_MIRRORED = [volume("/boot", "302 MiB", "raid"), volume("swap", "130 MiB", "raid"), volume("/", "1200 MiB", "raid")]

LAYOUTS = {
    "partitions": Layout(
        "one_disk",
        ("4 GiB",),
        ("one",),
        (disk("vda", [volume("/", "1200 MiB"), volume("swap", "128 MiB"), volume("/home", "remaining")]),),
        {"root": "/dev/vda2", "home": "/dev/vda4"},
    ),
    "lvm": Layout(
        "uefi",
        ("4 GiB",),
        ("one",),
        (
            disk("vda", [volume("/boot", "302 MiB"), {"type": "pv", "vg": "os", "size": "remaining"}]),
            {
                "type": "vg",
                "id": "os",
                "volumes": [
                    volume("swap", "128 MiB", "lv", name="swap"),
                    volume("/", "remaining", "lv", name="root"),
                ],
            },
        ),
        {"esp": "/dev/vda1", "boot": "/dev/vda2", "root": "/dev/os/root"},
    ),
    "md": Layout(
        "two_disks",
        ("3 GiB", "3 GiB"),
        ("one",),
        (disk("vda", _MIRRORED), disk("vdb", _MIRRORED)),
        {"boot": "/dev/md/boot", "root": "/dev/md/root"},
    ),
    "several": Layout(
        "uefi",
        ("4 GiB",),
        ("one", "two"),
        (
            disk(
                "vda",
                [
                    volume("/", "1200 MiB", images=["one"]),
                    volume("/", "1200 MiB", images=["two"]),
                    volume("/srv", "remaining", images=["one", "two"]),
                ],
            ),
        ),
        {"esp": "/dev/vda1", "menu": "/dev/vda2", "one": "/dev/vda3", "two": "/dev/vda4", "srv": "/dev/vda5"},
    ),
}


@dataclass(frozen=True)
class After:
    """What a run left: the disks, every file by its place, and the boot entries with what is published."""

    disks: Any
    identifiers: str
    files: Mapping[str, Any]
    entries: str

    def differences(self, other: After, *, anew: bool) -> list[str]:
        """Return what differs in another run, in lines; less identifiers where everything is made ``anew``."""
        found = [] if self.disks == other.disks else [f"disks: {self.disks} became {other.disks}"]
        if not anew and self.identifiers != other.identifiers:
            found.append(f"identifiers:\n{self.identifiers}became\n{other.identifiers}")
        mine, theirs = (IDENTIFIER.sub("<id>", x) if anew else x for x in (self.entries, other.entries))
        found += [] if mine == theirs else [f"entries:\n{mine}became\n{theirs}"]
        for path in sorted(self.files.keys() | other.files.keys()):
            one, two = self.files.get(path), other.files.get(path)
            if one != two and not (anew and path.endswith(PACKED)):
                found.append(f"{path}: {one} became {two}")
        return found

    def digest(self, path: str) -> str:
        """Return the beginning of a digest of a file's description."""
        return hashlib.sha256(json.dumps(self.files[path]).encode()).hexdigest()[:12]


@pytest.mark.long
@pytest.mark.thorough("six deployments each; test_crash_matrix compares a second run with the first")
@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.pain("second-run")
def test_the_same_again_changes_nothing(name: str, session: Session, record_property: Record) -> None:
    layout = LAYOUTS[name]
    template, disks = machine({"template": layout.template, "disks": [{"size": size} for size in layout.disks]})
    problems = []
    with session.node_in_ramdisk(template, disks, f"again-{name}") as node:
        for policy in ("clean", "verify"):
            runs = [run(node, layout, policy, session.rsync.url) for _ in range(3)]
            for number, again in enumerate(runs[1:], 2):
                found = runs[0].differences(again, anew=policy == "clean")
                problems += [f"{policy}, run {number}: {x}" for x in found]
            for path in sorted(x for x in runs[0].files if x.endswith(TOLD)):
                digests = " ".join(x.digest(path) if path in x.files else "(none)" for x in runs)
                record_property("digests after run 1, 2, 3", f"{name}, {policy}: {digests} {path}")
    assert not problems, "\n".join(problems)


def run(node: Node, layout: Layout, policy: str, url: str) -> After:
    """Deploy, and read what is there then."""
    images = [{"name": x, "image_pull_url": f"{url}/unbooted/"} for x in layout.images]
    document = {"partitions_policy": policy, "images": images, "partitions": layout.partitions}
    node.ssh.put(json.dumps(document), INPUT)
    node.ssh.run(
        "bareon-provision --progress plain --actions do_partitioning,do_copyimage,do_bootloader", timeout=LIMIT
    )
    return look(node, layout)


def look(node: Node, layout: Layout) -> After:
    """Read the disks, by a program that is not bareon's."""
    node.ssh.run("vgchange --activate y --quiet; udevadm settle; true")
    points = {f"/l/{place}": device for place, device in layout.places.items()}
    node.ssh.run("; ".join(f"mkdir -p {point} && mount -o ro {device} {point}" for point, device in points.items()))
    listed = node.ssh.run(f"python3 - {' '.join(points)}", timeout=LIMIT, stdin=LISTING.read_text()).stdout
    entries = node.ssh.run(ENTRIES).stdout
    identifiers = node.ssh.run("lsblk --list --noheadings --output NAME,UUID,PARTUUID,PTUUID | sort -u").stdout
    node.ssh.run(f"umount {' '.join(points)}")
    found = json.loads(listed)
    files = {f"{place[3:]}/{path}": what for place, known in found["files"].items() for path, what in known.items()}
    return After(found["disks"], identifiers, files, entries)
