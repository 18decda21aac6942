# SPDX-License-Identifier: Apache-2.0
"""Power cuts while a running system updates the other image: it always boots again, and its command ends well.

The update runs once. At random moments, half of them while files are brought, the machine stands still and its
disks are copied, which is what a power cut leaves. A machine starts from each copy: the old image must come up,
with its volumes as they were, and the same command must end with 0 and leave a new image and a menu that are like
those of the undisturbed run. The file that rsync was writing may be left besides, by the name that it has until it
is whole: rsync deletes nothing unless told.

The disk lies on a file system on which copies share what is alike, and is read from outside, so that a moment costs
a start of the old image and its command, and no more.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from building.process import ProgramError, run
from tests_functional import node_listing
from tests_functional.bench import loop
from tests_functional.bench.case import machine
from tests_functional.bench.cell import SCRATCH
from tests_functional.bench.node import Node, NodeTimeoutError
from tests_functional.bench.session import Record, Session
from tests_functional.bench.ssh import UnreachableError

LIMIT = 900.0
MOMENTS = 20
INPUT = "/root/provision.json"
UPDATE = f"/opt/bareon/bin/bareon-provision --input_data_file {INPUT} --progress json --image new"
#: What the old image would have by packages: Python, rsync, bareon and what it calls.
EQUIPPED = """
set -e
mount /dev/vda3 /mnt
rsync -a --ignore-existing --exclude=/lib/modules /usr/ /mnt/usr/
rsync -a /opt/ /mnt/opt/
sed s/clean/verify/ /tmp/provision.json > /mnt/root/provision.json
head -c 1000000 /dev/urandom > /mnt/root/mine
umount /mnt
"""
#: The new image is an old state: files are missing, others are changed, one is its own.
OUTDATED = """
set -e
mount /dev/vda4 /mnt
rm -rf /mnt/usr/share /mnt/usr/lib/python3* /mnt/boot/initrd* /mnt/boot/vmlinuz*
find /mnt/usr/bin -type f -size -200k -exec truncate -s 100 {} +
echo mine > /mnt/root/mine
umount /mnt
"""
#: The partitions that are compared, by their numbers: that of the menu, and the new image.
MENU, NEW = 2, 4
#: What rsync calls a file until it is whole: its folder, its name, and what makes it another one.
UNFINISHED = re.compile(r"(.*/)?\.(.+)\.[A-Za-z0-9]{6}")
#: Room for the disk, and for what its copies do not share; it is taken from memory as it is used.
ROOM = 16 << 30


def document(url: str) -> str:
    """Two images, a partition each."""
    volume = {"type": "partition", "mount": "/", "size": "1800 MiB", "file_system": "ext4"}
    images = [("old", True), ("new", False)]
    whole = {
        "partitions_policy": "clean",
        "deploy_data": {"kernel_params": "console=ttyS0"},
        "partitions": [
            {
                "type": "disk",
                "id": {"type": "name", "value": "vda"},
                "volumes": [{**volume, "images": [name]} for name, _ in images],
            }
        ],
        "images": [{"name": name, "boot": boot, "image_pull_url": f"{url}/debian12/"} for name, boot in images],
    }
    return json.dumps(whole)


@pytest.mark.long
@pytest.mark.thorough(
    "twenty starts of a system; test_boot_menu.py cuts the renewal of the menu, which is what may be lost"
)
def test_the_running_system_outlives_a_power_cut_at_any_moment(
    session: Session, pytestconfig: pytest.Config, record_property: Record
) -> None:
    moments = MOMENTS if pytestconfig.option.every_point else 3
    template, disks = machine("one_disk")
    place = SCRATCH / "node0"
    with sharing(place), session.node_in_ramdisk(template, disks, "update-cuts") as node:
        node.ssh.put(document(session.rsync.url), "/tmp/provision.json")
        actions = "do_partitioning,do_copyimage,do_bootloader"
        node.ssh.run(f"bareon-provision --deploy_driver rsync --actions {actions}", timeout=LIMIT)
        node.ssh.run(EQUIPPED, timeout=LIMIT)
        session.strategy.deployed(node)
        mine = node.ssh.run("sha256sum /root/mine").stdout
        node.ssh.run(OUTDATED, timeout=LIMIT)
        before = listing(node)
        times = undisturbed(node)
        session.strategy.report(f"the update of an outdated image: {times}")
        wanted = listing(node)
        node.ssh.run(f"{OUTDATED}sync", timeout=LIMIT)
        copies = recorded(node, place, times.moments(moments))
        half, unfinished, problems = 0, 0, []
        for copy in copies:
            node.power_off()
            for disk in node.disks:
                disk.at(copy).copy(disk.path)
            half += listing(node)[NEW] not in (before[NEW], wanted[NEW])
            started = time.monotonic()
            try:
                session.strategy.deployed(node)
                unfinished += outlived(node, mine, wanted)
            except (AssertionError, ProgramError, NodeTimeoutError, UnreachableError) as error:
                problems.append(f"{copy.name}: {error}")
            session.strategy.report(f"{copy.name}: {time.monotonic() - started:.0f} s, {len(problems)} problems")
        cuts = f"{len(copies)} tried, {half} with the new image half brought, {len(problems)} problems"
        cuts += f", {unfinished} files left that rsync was writing"
        record_property("power cuts beside a running system", cuts)
        assert not problems, problems
        assert half, "no moment was one in which the image is brought"


@contextmanager
def sharing(place: Path) -> Iterator[None]:
    """Have a folder on which copies of a file take no more room than what is changed in them."""
    file = place.with_suffix(".xfs")
    with file.open("xb") as disk:
        disk.truncate(ROOM)
    place.mkdir(exist_ok=True)
    try:
        run(["mkfs.xfs", "-q", file], timeout=60)
        with mounted(file, place):
            yield
    finally:
        file.unlink()


@contextmanager
def mounted(file: Path, place: Path, start: int = 0) -> Iterator[None]:
    """Mount the file system in a file, which begins at a byte."""
    with ExitStack() as stack:
        device = stack.enter_context(loop.attached(file, start))
        run(["mount", device, place], timeout=60)
        stack.callback(run, ["umount", "--lazy", place], timeout=60)  # libvirt may still have a console open there
        yield


@dataclass(frozen=True)
class Times:
    """Seconds that an update took, and between which of them files were brought."""

    whole: float
    first: float
    last: float

    def __str__(self) -> str:
        return f"{self.whole:.0f} s, files from {self.first:.0f} s to {self.last:.0f} s"

    def moments(self, number: int) -> list[float]:
        """So many moments: half of them, or one more, while files are brought, the others at any time."""
        others = number // 2
        return sorted([*_spread(0, self.whole, others), *_spread(self.first, self.last, number - others)])


def _spread(start: float, end: float, number: int) -> list[float]:
    """A random moment in each of so many equal parts of a time."""
    return [start + (index + random.random()) * (end - start) / number for index in range(number)]


def undisturbed(node: Node) -> Times:
    """Bring the new image up to date, and return the seconds that it took."""
    started = time.monotonic()
    node.ssh.run(UPDATE, timeout=LIMIT)
    whole = time.monotonic() - started
    report = json.loads(node.ssh.run("cat /tmp/bareon-report.json").stdout)
    step = next(x for x in report["steps"] if x["action"] == "do_copyimage")
    # The report counts from when the program was loaded.
    first = step["after"] + whole - report["seconds"]
    return Times(whole, first, first + step["seconds"])


def recorded(node: Node, place: Path, moments: list[float]) -> list[Path]:
    """Update once more, and copy the disks at these moments, in seconds from its start."""
    node.ssh.run(f"(({UPDATE}) > /run/out 2>&1 < /dev/null; echo $? > /run/exit) > /dev/null 2>&1 < /dev/null &")
    started, paused = time.monotonic(), 0.0
    found = []
    for moment in moments:
        time.sleep(max(0.0, started + paused + moment - time.monotonic()))
        before = time.monotonic()
        found.append(node.copy_disks(place / f"{moment:.1f} s"))
        paused += time.monotonic() - before
    done = node.ssh.run("until [ -e /run/exit ]; do sleep 0.1; done; cat /run/exit /run/out", timeout=LIMIT).stdout
    assert done.startswith("0\n"), done
    return found


def outlived(node: Node, mine: str, wanted: dict[int, Any]) -> int:
    """The old image runs, its files are whole, and the same command makes of the new one what it should be.

    Returns the number of files that rsync was writing when the power was cut, which are left.
    """
    found = json.loads(node.ssh.run("bareon-boot status --json").stdout)
    assert (found["running"], found["default"]) == (0, 0), found
    assert node.ssh.run("sha256sum /root/mine").stdout == mine
    node.ssh.run(UPDATE, timeout=LIMIT)
    found = listing(node)
    left = [x for x in found[NEW] if x not in wanted[NEW] and is_unfinished(x, wanted[NEW])]
    for name in left:
        del found[NEW][name]
    for number in (MENU, NEW):
        assert found[number].keys() == wanted[number].keys(), found[number].keys() ^ wanted[number].keys()
        assert found[number] == wanted[number], [x for x in wanted[number].items() if found[number][x[0]] != x[1]][:9]
    return len(left)


def is_unfinished(path: str, files: dict[str, Any]) -> bool:
    """Whether this is the name that rsync has for one of these files until it is whole."""
    found = UNFINISHED.fullmatch(path)
    return found is not None and f"{found[1] or ''}{found[2]}" in files


def listing(node: Node) -> dict[int, Any]:
    """The files of the menu and of the new image after a power cut, by a program that is not bareon's."""
    (disk,) = node.disks
    seen, place = node.place / "seen", node.place / "seen-mounted"
    seen.mkdir(exist_ok=True)
    place.mkdir(exist_ok=True)
    if node.running():
        node.copy_disks(seen)
    else:
        disk.copy(seen)
    table = json.loads(run(["sfdisk", "--json", disk.at(seen).path], timeout=30).stdout)["partitiontable"]
    found = {}
    for number in (MENU, NEW):
        with mounted(disk.at(seen).path, place, 512 * table["partitions"][number - 1]["start"]):
            files = node_listing.files(place, {})
        # What was there before a change, as it was when the power was cut.
        found[number] = {name: about for name, about in files.items() if not name.endswith((".old", ".new"))}
    return found
