# SPDX-License-Identifier: Apache-2.0
"""Power cuts while a running system updates the other image: it always boots again, and its command ends well.

The update runs once. At random moments the machine stands still and its disks are copied, which is what a power cut
leaves. A machine starts from each copy: the old image must come up, with its volumes as they were, and the same
command must end with 0 and leave a new image that is like that of the undisturbed run.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from building.process import ProgramError
from tests_functional import node_listing
from tests_functional.bench.case import machine
from tests_functional.bench.cell import SCRATCH
from tests_functional.bench.node import Node, NodeTimeoutError
from tests_functional.bench.session import Session

LIMIT = 900.0
#: Moments; the first ones are spread evenly, in the order in which they would be left out.
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
#: The files of the new image and of the menu.
LISTED = "mkdir -p /l/new && mount -o ro /dev/vda4 /l/new && python3 - /l/new; umount /l/new"


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
    session: Session, pytestconfig: pytest.Config, record_property: Callable[[str, object], None]
) -> None:
    moments = MOMENTS if pytestconfig.option.every_point else 3
    place = SCRATCH / "update-cuts"
    place.mkdir()
    template, disks = machine("one_disk")
    with session.node_in_ramdisk(template, disks, "update-cuts") as node:
        node.ssh.put(document(session.rsync.url), "/tmp/provision.json")
        actions = "do_partitioning,do_copyimage,do_bootloader"
        node.ssh.run(f"bareon-provision --deploy_driver rsync --actions {actions}", timeout=LIMIT)
        node.ssh.run(EQUIPPED, timeout=LIMIT)
        session.strategy.deployed(node)
        mine = node.ssh.run("sha256sum /root/mine").stdout
        node.ssh.run(OUTDATED, timeout=LIMIT)
        seconds = undisturbed(node)
        wanted = listing(node)
        node.ssh.run(OUTDATED, timeout=LIMIT)
        node.ssh.run("sync")
        copies = recorded(node, place, seconds, moments)
        problems = []
        for copy in copies:
            try:
                node.power_off()
                for disk in node.disks:
                    disk.at(copy).copy(disk.path)
                session.strategy.deployed(node)
                outlived(node, mine, wanted)
            except (AssertionError, ProgramError, NodeTimeoutError) as error:
                problems.append(f"{copy.name}: {error}")
        record_property("power cuts beside a running system", f"{len(copies)} tried, {len(problems)} problems")
        assert not problems, problems


def undisturbed(node: Node) -> float:
    """Bring the new image up to date, and return the seconds that it took."""
    started = time.monotonic()
    node.ssh.run(UPDATE, timeout=LIMIT)
    return time.monotonic() - started


def recorded(node: Node, place: Path, seconds: float, number: int) -> list[Path]:
    """Update once more, and copy the disks at so many moments, one in each of as many equal parts of the time."""
    node.ssh.run(f"(({UPDATE}) > /run/out 2>&1 < /dev/null; echo $? > /run/exit) > /dev/null 2>&1 < /dev/null &")
    started, paused = time.monotonic(), 0.0
    found = []
    for index in range(number):
        moment = (index + random.random()) * seconds / number
        time.sleep(max(0.0, started + paused + moment - time.monotonic()))
        before = time.monotonic()
        found.append(node.copy_disks(place / f"{moment:.1f} s of {seconds:.1f} s"))
        paused += time.monotonic() - before
    done = node.ssh.run("until [ -e /run/exit ]; do sleep 0.1; done; cat /run/exit /run/out", timeout=LIMIT).stdout
    assert done.startswith("0\n"), done
    return found


def outlived(node: Node, mine: str, wanted: dict[str, object]) -> None:
    """The old image runs, its files are whole, and the same command makes of the new one what it should be."""
    found = json.loads(node.ssh.run("bareon-boot status --json").stdout)
    assert (found["running"], found["default"]) == (0, 0), found
    assert node.ssh.run("sha256sum /root/mine").stdout == mine
    node.ssh.run(UPDATE, timeout=LIMIT)
    assert listing(node) == wanted


def listing(node: Node) -> dict[str, object]:
    """The files of the new image, by a program that is not bareon's."""
    text = Path(node_listing.__file__).read_text()
    found = json.loads(node.ssh.run(LISTED, timeout=LIMIT, stdin=text).stdout)
    assert isinstance(found, dict)
    return found
