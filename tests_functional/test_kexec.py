# SPDX-License-Identifier: Apache-2.0
"""Starting the deployed system without the firmware: BIOS, UEFI, Secure Boot; and what is left to the firmware."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from building.process import ProgramError
from ramdisk import outputs, parameters
from tests_functional.bench import firmware
from tests_functional.bench.cell import SCRATCH
from tests_functional.bench.hypervisor import SERVER
from tests_functional.bench.medium import Medium, Started
from tests_functional.bench.node import Boot, Node
from tests_functional.bench.session import Session
from tests_functional.bench.ssh import UnreachableError
from tests_functional.bench.strategy import DEPLOYED_LIMIT
from tests_functional.bench.template import Template
from tests_functional.bench.waiting import until
from tests_functional.test_unattended import KEY, LIMIT, PAUSE, document, keyed, serving, words


@dataclass(frozen=True)
class Machine:
    """What deploys itself: a template, an image, and where that has its root; ``secure`` has Secure Boot on.

    ``loader`` is who starts the kernel, as that numbers boot loaders, where kexec does not.
    """

    template: str
    image: str
    root: str
    loader: int
    secure: bool = False


#: Numbers of boot loaders (Documentation/arch/x86/boot.rst of Linux), and that which the kernel gives its EFI stub.
KEXEC, GRUB, STUB = 0xD, 0x7, 0x2
BIOS = Machine("one_disk", "cloud", "/dev/vda2", GRUB)
UEFI = Machine("uefi", "debian13", "/dev/vda2", STUB)
SECURE = Machine("secure_boot", "debian13", "/dev/sda2", STUB, secure=True)


@contextmanager
def deploying(session: Session, place: Path, machine: Machine, more: str = "") -> Iterator[tuple[Started, Any]]:
    """Give a node that was powered on to deploy itself and to start what was deployed, and the server that it tells.

    The hypervisor loads the ramdisk. With Secure Boot that would be no proof: the firmware starts it from a CD.

    :param more: words for the kernel's command line.
    """
    template = Template.load(machine.template)
    if machine.secure:
        template = template.with_nvram(firmware.microsofts(place / "nvram.fd", "uefi11"))
    node = Started(session.hypervisor, template, SCRATCH / f"kexec-{machine.template}", session.products.key)
    node.make_disks(template.disks)
    node.console.unlink(missing_ok=True)  # what it has said in another test
    (documents := place / "documents").mkdir()
    text = document(f"{session.rsync.url}/{machine.image}/", {"type": "serial", "value": "BAREON-A"})
    (documents / f"{node.port.mac}.json").write_text(text)
    with session.explained(node, f"kexec-{machine.template}"), serving(documents, KEY, SERVER) as (site, url):
        ramdisk = keyed(session.products.ramdisk, place)
        line = f"{words(url, 'kexec')} {more}".strip()
        if machine.secure:
            outputs.write(session.products.base, ramdisk, parameters.line(line), place / "made", print)
            node.medium = Medium(place / "made", "cd")
            node.power_on()
        else:
            node.power_on(Boot(ramdisk.kernel, ramdisk.initramfs, line))
        yield node, site


def _seconds_to_the_kernel(node: Node, times: int) -> float:
    """How long it takes from now until the kernel of the deployed system speaks for that many times.

    What comes behind is no measure: a system has more to do when it starts for the first time.
    """
    started = time.monotonic()
    # That of the ramdisk does not tell this.
    until(lambda: node.console_text().count("] Command line: ") == times, "the system's kernel speaks", LIMIT)
    return time.monotonic() - started


def _wait_for_the_system(node: Node, root: str, limit: float = DEPLOYED_LIMIT) -> None:
    """Wait until somebody can log in to the deployed system, for so many seconds."""

    def there() -> bool:
        node.ssh.forget()
        try:
            return node.ssh.run("findmnt --noheadings --output SOURCE /", timeout=15).stdout == f"{root}\n"
        except (UnreachableError, ProgramError):  # the ramdisk's root has no source
            return False

    until(there, "somebody can log in to the deployed system", limit, PAUSE)


def _loader(node: Node) -> int:
    """Who has started the kernel."""
    return int(node.ssh.run("cat /proc/sys/kernel/bootloader_type").stdout) >> 4


#: What a system says of how it runs: the words of its kernel, its kernel, its firmware, and what Secure Boot brings.
STATE = {
    "words": "tr ' ' '\\n' < /proc/cmdline | grep -v BOOT_IMAGE=",
    "kernel": "uname --kernel-release",
    "variables": "ls /sys/firmware/efi/efivars/BootOrder-8be4df61-* 2>&1 || true",
    "secure boot": "od -An -j4 -tu1 /sys/firmware/efi/efivars/SecureBoot-* 2>&1 || true",
    "lockdown": "cat /sys/kernel/security/lockdown",
}


@pytest.mark.long
@pytest.mark.thorough("a deployment and two starts of the system; bareon/tests/test_kexec.py has the decisions")
@pytest.mark.parametrize("machine", [BIOS, UEFI, SECURE], ids=lambda x: x.template)
def test_the_deployed_system_is_started_without_the_firmware(
    machine: Machine, session: Session, tmp_path: Path
) -> None:
    """A firmware that restarts would boot the ramdisk again, by the hypervisor or from the CD: so it has not run.

    By the firmware the same kernel starts later, with the same words on its command line, and as the same machine.
    """
    with deploying(session, tmp_path, machine) as (node, site):
        until(lambda: "bareon: done; next: " in node.console_text(), "the node is deployed", LIMIT, PAUSE)
        by_kexec = _seconds_to_the_kernel(node, 1)
        _wait_for_the_system(node, machine.root)
        (run,) = site.runs.values()
        assert (run.state, run.report["steps"][-1]["figures"]) == ("done", {"kexec": "loaded"}), vars(run)
        text = node.console_text()
        assert text.count("bareon: asks for its document") == 1 and "next: reboot" not in text
        assert _loader(node) == KEXEC
        kexeced = {name: node.ssh.run(x).stdout for name, x in STATE.items()}
        # ext4 was unmounted, and not left as by a power cut.
        assert node.ssh.run("dmesg | grep --count 'EXT4-fs .*mounted'", check=False).stdout != "0\n"
        assert node.ssh.run("dmesg | grep 'EXT4-fs .*recovery'", check=False).stdout == ""
        node.ssh.run("poweroff", check=False)
        node.wait_off(LIMIT)
        node.medium = None
        node.power_on()
        by_firmware = _seconds_to_the_kernel(node, 2)
        figures = f"the kernel speaks after {by_kexec:.1f} s by kexec, {by_firmware:.1f} s by the firmware"
        session.strategy.report(f"{machine.template}: {figures}")
        _wait_for_the_system(node, machine.root)
        assert _loader(node) == machine.loader
        assert {name: node.ssh.run(x).stdout for name, x in STATE.items()} == kexeced


@pytest.mark.long
@pytest.mark.thorough("a deployment and a second boot of the ramdisk")
def test_a_kernel_that_cannot_be_loaded_is_left_to_the_firmware(session: Session, tmp_path: Path) -> None:
    """The ramdisk's kernel is told to load no other one, as if it were locked down and the other one not signed."""
    with deploying(session, tmp_path, BIOS, "sysctl.kernel.kexec_load_disabled=1") as (node, site):
        until(lambda: len(site.runs) == 2, "the firmware has started the ramdisk again", LIMIT, PAUSE)
        until(lambda: list(site.runs.values())[1].state == "nothing-to-do", "it leaves the disk alone", LIMIT, PAUSE)
        deployed, _ = site.runs.values()
        figures = deployed.report["steps"][-1]["figures"]
        reason = "its kernel is not loaded, so that the firmware restarts the node: kexec failed with exit code "
        assert (deployed.state, figures["kexec"]) == ("done", "not loaded")
        assert figures["warnings"].startswith(reason) and "Operation not permitted" in figures["warnings"]
        assert f"bareon: {figures['warnings']}; next: reboot" in node.console_text()
        assert node.console_text().count("bareon: asks for its document") == 2


INPUT = "/tmp/provision.json"
ACTIONS = "do_partitioning,do_copyimage,do_bootloader,do_reboot"
COMMAND = f"bareon-provision --progress plain --actions {ACTIONS} --kexec --input_data_file {INPUT}"


def of_two(url: str) -> str:
    """Return a document of two images, of which the second boots."""
    volumes = [
        {"type": "partition", "mount": "/", "file_system": "ext4", "size": "1600 MiB", "images": ["bookworm"]},
        {"type": "partition", "mount": "/", "file_system": "ext4", "size": "remaining", "images": ["trixie"]},
    ]
    return json.dumps(
        {
            "partitions_policy": "clean",
            "images": [
                {"name": "bookworm", "image_pull_url": f"{url}/debian12/"},
                {"name": "trixie", "image_pull_url": f"{url}/debian13/", "boot": True},
            ],
            "partitions": [{"type": "disk", "id": {"type": "name", "value": "vda"}, "volumes": volumes}],
        }
    )


@pytest.mark.long
@pytest.mark.thorough("it deploys two images and starts one twice; bareon/tests/test_kexec.py has the decisions")
def test_of_two_images_the_one_that_the_menu_starts(session: Session) -> None:
    """In a run by hand, which ends with its own start; that of the firmware and the menu comes to the same."""
    template = Template.load("uefi")
    with session.node_in_ramdisk(template, template.disks, "kexec-two") as node:
        node.ssh.put(of_two(session.rsync.url), INPUT)
        node.ssh.run(f"setsid sh -c '{COMMAND}; echo ended: $?' < /dev/null > /dev/ttyS0 2>&1 &")
        _wait_for_the_system(node, "/dev/vda4", LIMIT)
        assert _loader(node) == KEXEC
        assert "ended: " not in node.console_text()
        assert "VERSION_ID=13" in node.ssh.run("cat /etc/os-release").stdout.replace('"', "")
        listed = node.ssh.run("bareon-boot list").stdout
        assert re.search(r"^  0 .*bookworm", listed, re.M) and re.search(r"^\* 1 .*trixie", listed, re.M), listed
        kexeced = {name: node.ssh.run(x).stdout for name, x in STATE.items()}
        session.strategy.deployed(node)
        assert _loader(node) != KEXEC
        assert {name: node.ssh.run(x).stdout for name, x in STATE.items()} == kexeced
