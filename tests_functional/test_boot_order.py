# SPDX-License-Identifier: Apache-2.0
"""The boot order of UEFI after three deployments for each ``boot_order``, with entries of others in it.

The ramdisk is first loaded by the hypervisor: then the firmware names no entry that it was started from. It starts
again from a disk of its own, by an entry for that disk, so that there is one as on a real node. Every deployment
makes its partitions anew, and so its entries; the system is no more than what a boot loader looks for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from tests_functional.bench.case import machine
from tests_functional.bench.node import KERNEL_PARAMETERS, Node
from tests_functional.bench.session import Session
from tests_functional.bench.strategy import RAMDISK_LIMIT

INPUT = "/tmp/provision.json"
LIMIT = 300.0
DISKS = [{"size": "1 GiB"}, {"size": "1 GiB"}, {"size": "512 MiB"}]
COMMAND = "bareon-provision --progress plain --actions do_partitioning,do_copyimage,do_bootloader"
VARIABLES = "/sys/firmware/efi/efivars"
GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
MOUNT = f"mountpoint -q {VARIABLES} || mount -t efivarfs efivarfs {VARIABLES}"

MEDIUM, NETWORK, INACTIVE, ABSENT = 0x0022, 0x0021, 0x0023, 0x0003
#: With one that does not exist, whose number would be the lowest that is free, and one that is named twice.
FOREIGN = (NETWORK, ABSENT, INACTIVE, MEDIUM, 0, NETWORK)
#: PXE by IPv4, as firmware describes it: the card's MAC address and any address of IP.
PXE = "01000000 4400" + "PXEv4\0".encode("utf-16-le").hex()
PXE += "030b2500" + "00" * 33 + "030c1b00" + "00" * 23 + "7fff0400"

#: The third disk becomes a medium with the ramdisk, whose kernel is an EFI program.
MAKE_MEDIUM = r"""
set -e
printf 'label: gpt\ntype=uefi\n' | sfdisk --quiet /dev/vdc
udevadm settle
mkfs.vfat /dev/vdc1 > /dev/null
mount /dev/vdc1 /mnt
rsync -rL URL/ramdisk/ /mnt/
umount /mnt
"""
#: Every variable of the boot manager, read by a program that is not bareon's.
READ = f"""
import json, pathlib
found = pathlib.Path("{VARIABLES}").glob("Boot*-{GLOBAL}")
print(json.dumps({{x.name.removesuffix("-{GLOBAL}"): x.read_bytes().hex() for x in found}}))
"""


@dataclass(frozen=True)
class Variables:
    """The variables of the boot manager by their names, as efivarfs shows them, in hexadecimal digits."""

    values: dict[str, str]

    @property
    def order(self) -> tuple[int, ...]:
        """The numbers of BootOrder."""
        data = bytes.fromhex(self.values["BootOrder"])[4:]
        return tuple(int.from_bytes(data[i : i + 2], "little") for i in range(0, len(data), 2))

    @property
    def own(self) -> dict[str, int]:
        """The numbers of bareon's entries by their labels, of which none may be there twice."""
        data = {name: bytes.fromhex(value)[10:] for name, value in self.values.items()}
        labels = {name: value.decode("utf-16-le", "replace").split("\0")[0] for name, value in data.items()}
        found = [(label, int(name[4:], 16)) for name, label in labels.items() if label.startswith("bareon ")]
        assert len(dict(found)) == len(found), found
        return dict(found)

    @property
    def foreign(self) -> dict[str, str]:
        """All but the order and bareon's entries."""
        mine = {"BootOrder", *(f"Boot{number:04X}" for number in self.own.values())}
        return {name: value for name, value in self.values.items() if name not in mine}


@pytest.mark.long
@pytest.mark.thorough("nine deployments; test_nvram.py has their orders, uefi_signed entries of real firmware")
@pytest.mark.pain("boot-order")
def test_the_boot_order_after_three_deployments_for_each_choice(session: Session) -> None:
    template, disks = machine({"template": "uefi", "disks": DISKS})
    with session.node_in_ramdisk(template, disks, "boot-order") as node:
        node.ssh.run(MOUNT)
        assert "BootCurrent" not in read(node).values
        start_from_medium(node, session.rsync.url)
        before = with_foreign_entries(node)
        others = [number for number in FOREIGN if number != MEDIUM]
        for choice in ("unchanged", "first", "after-current"):
            for _ in range(3):
                said = deploy(node, session.rsync.url, choice)
                after = read(node)
                assert after.foreign == before.foreign
                assert after.own == {"bareon BAREON-VDA": 4, "bareon BAREON-VDB": 5}, after.own
                orders = {"unchanged": FOREIGN, "first": (4, 5, *FOREIGN), "after-current": (MEDIUM, 4, 5, *others)}
                assert after.order == orders[choice], (choice, after.order)
                assert "nvram: 2 entries" in said
                assert ("boot_order: " in said) == (choice != "first"), said


def start_from_medium(node: Node, url: str) -> None:
    """Have the node start its ramdisk from its third disk, by an entry of the firmware."""
    node.ssh.run(MAKE_MEDIUM.replace("URL", url), timeout=LIMIT)
    what = r"--disk /dev/vdc --part 1 --label Medium --loader '\vmlinuz' --unicode"
    words = rf"'initrd=\initramfs {KERNEL_PARAMETERS}'"
    node.ssh.run(f"efibootmgr --quiet --create-only --bootnum {MEDIUM:04X} {what} {words}")
    node.ssh.run(f"efibootmgr --quiet --bootnext {MEDIUM:04X}")
    node.power_off()
    node.power_on()
    node.ssh.wait(RAMDISK_LIMIT)
    node.ssh.run(MOUNT)


def with_foreign_entries(node: Node) -> Variables:
    """Make entries of others, their order, and what somebody wants to start next; return all of them."""
    node.ssh.run(write(f"Boot{NETWORK:04X}", PXE))
    what = r"--disk /dev/vdc --part 1 --label 'Switched off' --loader '\other'"
    node.ssh.run(f"efibootmgr --quiet --create-only --bootnum {INACTIVE:04X} {what}")
    node.ssh.run(f"efibootmgr --quiet --bootnum {INACTIVE:04X} --inactive")
    node.ssh.run(f"efibootmgr --quiet --bootnext {NETWORK:04X}")
    # efibootmgr would not: one of them does not exist.
    node.ssh.run(write("BootOrder", "".join(x.to_bytes(2, "little").hex() for x in FOREIGN)))
    found = read(node)
    assert found.values["BootCurrent"] == f"06000000{MEDIUM:02x}00"
    assert found.order == FOREIGN
    assert not found.own
    assert {f"Boot{x:04X}" for x in range(ABSENT)} <= found.values.keys()
    return found


def write(name: str, data: str) -> str:
    """Return the command that writes a variable, at once as it must be; ``data`` are hexadecimal digits."""
    text = "".join(f"\\x{x:02x}" for x in bytes.fromhex(f"07000000 {data}"))
    return f"bash -c \"printf '{text}'\" > {VARIABLES}/{name}-{GLOBAL}"


def deploy(node: Node, url: str, order: str) -> str:
    """Deploy onto the first two disks, and return what bareon said."""
    document = {
        "partitions_policy": "clean",
        "images": [{"name": "tiny", "image_pull_url": f"{url}/tiny/"}],
        "deploy_data": {"boot_order": order},
        "partitions": [
            {
                "type": "disk",
                "id": {"type": "name", "value": name},
                "volumes": [{"type": "partition", "mount": mount, "file_system": "ext4", "size": "64 MiB"}],
            }
            for name, mount in (("vda", "/"), ("vdb", "/srv"))
        ],
    }
    node.ssh.put(json.dumps(document), INPUT)
    return node.ssh.run(COMMAND, timeout=LIMIT).stdout


def read(node: Node) -> Variables:
    """Return what the firmware has."""
    return Variables(json.loads(node.ssh.run("python3 -", stdin=READ).stdout))
