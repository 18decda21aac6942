# SPDX-License-Identifier: Apache-2.0
"""The ramdisk as operators use it: in a CD drive, as a USB stick, by iPXE and by HTTP; with Secure Boot on, too."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bareon.unattended import memory
from building.process import run
from ramdisk import outputs, parameters
from ramdisk.machine import MACHINES, USUAL
from ramdisk.profile import PROFILES
from tests_functional.bench import firmware
from tests_functional.bench.case import machine
from tests_functional.bench.cell import SCRATCH
from tests_functional.bench.hypervisor import SERVER
from tests_functional.bench.medium import Medium, Started
from tests_functional.bench.node import KERNEL_PARAMETERS, Node
from tests_functional.bench.session import Session
from tests_functional.bench.template import DiskSpec, Template
from tests_functional.bench.waiting import until

#: Seconds from power on to SSH, several times what was measured under emulation.
LIMIT = 300.0
#: MiB with which a node can start each ramdisk, and deploy; doc/source/howto/ramdisk.rst tells them.
MEMORY = {"small": 1280, "full": 1536}
#: MiB of which half is too little: BusyBox has room, and bareon has none.
TOO_LITTLE = {"small": 1000, "full": 1344}
#: An NVMe disk, and a LUN at two adapters.
DISKS = [
    {"size": "64 MiB", "bus": "nvme"},
    {"size": "64 MiB", "bus": "scsi", "wwn": "5000c500a1b2c3d4", "paths": 2},
]
ENCRYPT = """
set -e
printf key | cryptsetup --batch-mode --pbkdf pbkdf2 --pbkdf-force-iterations 1000 luksFormat /dev/nvme0n1 -
printf key | cryptsetup open --key-file - /dev/nvme0n1 seen
dmsetup ls --target crypt
"""
#: What programs are asked in the ramdisk of each profile, with a pattern for what they say.
SMALL = {
    "nvme list --output-format=json": '"SerialNumber" ?: ?"BAREON-NVME0N1"',
    "multipath -ll": r"^35000c500a1b2c3d4 dm-\d+ QEMU[\s\S]*(active ready running[\s\S]*){2}",
    ENCRYPT: r"^seen\b",
    "lsmod": "^ipmi_si ",
    "stat --format=%F /dev/ipmi0": "^character special file$",
}
FULL = {
    "ipmitool mc info": r"^Device ID +: 32$",
    "ipmitool sdr type Temperature; ipmitool chassis power status": "^Chassis Power is on$",
    "find /kernel/x86/microcode -size +1M": "^/kernel/x86/microcode/GenuineIntel.bin$",
    "ls /kernel/x86/microcode": "^AuthenticAMD.bin$",
    "dmidecode --type 38": "KCS",
    "lspci": "Non-Volatile memory controller",
    "lsscsi": r"disk +QEMU",
    "for port in /sys/class/net/e*; do ethtool -i ${port##*/}; done": "^driver: virtio_net$",
    f"ping -c 1 -W 5 {SERVER}": " 0% packet loss",
    "tcpdump --version 2>&1; less --version": r"^tcpdump version [\s\S]*^less ",
    "ls /lib/modules/*/kernel/drivers/infiniband/hw": "^mlx5$",
    "ls /lib/firmware": "^qed$",
}


@pytest.fixture(scope="module")
def made(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What operators get of the session's ramdisk."""
    place = tmp_path_factory.mktemp("media")
    line = parameters.line(KERNEL_PARAMETERS)
    outputs.write(session.products.base, session.products.ramdisk, line, place, print)
    return place


@pytest.mark.thorough("it writes the media, which takes half a minute")
def test_what_operators_get(session: Session, made: Path, request: pytest.FixtureRequest) -> None:
    """Digests hold; all packages of the profile have one, and bareon; and a second time it is the same."""
    run(["sha256sum", "--check", "--strict", outputs.SUMS], timeout=60, cwd=made)
    listed = {outputs.SUMS, *(line.split()[1] for line in (made / outputs.SUMS).read_text().splitlines())}
    assert listed == {path.name for path in made.iterdir()}
    packages = dict(line.split(" ", 1) for line in (made / outputs.PACKAGES).read_text().splitlines())
    profile = PROFILES[request.config.getoption("--profile")]
    machine = MACHINES[USUAL]
    microcode = machine.microcode if profile.firmware else ()
    packages_of_debian = (*profile.packages, *profile.firmware, *machine.packages, *machine.loaders, *microcode)
    wanted = {f"deb:{name}" for name in packages_of_debian}
    assert {*wanted, "pypi:oslo-config", "pypi:bareon"} <= {*packages}
    assert not [name for name, rest in packages.items() if not re.fullmatch(r"\S+ [0-9a-f]{64}", rest)]
    before = (made / outputs.SUMS).read_text()
    (made / outputs.PACKAGES).write_text((made / outputs.PACKAGES).read_text().replace("deb:rsync 3", "deb:rsync 2"))
    said: list[str] = []
    again = parameters.line(KERNEL_PARAMETERS)
    outputs.write(session.products.base, session.products.ramdisk, again, made, said.append)
    assert [line.split(":")[2] for line in said] == ["rsync"]
    assert (made / outputs.SUMS).read_text() == before


@contextmanager
def booted(
    session: Session, template: Template, made: Path, kind: str, name: str, disks: Sequence[DiskSpec] = ()
) -> Iterator[Node]:
    """Give a node that has booted from the medium, with disks in the place of the template's."""
    node = Started(session.hypervisor, template, SCRATCH / name, session.products.key)
    node.medium = Medium(made, kind)
    node.make_disks(disks or template.disks)
    with session.explained(node, name):
        started = time.monotonic()
        with node.medium.served():
            node.power_on()
            node.ssh.wait(LIMIT)
        session.strategy.report(f"{name}: SSH {time.monotonic() - started:.1f} s after power on")
        yield node


def template(way: str, place: Path) -> Template:
    """The machine of a case: one disk beside the medium."""
    if way == "bios":
        return Template.load("sata_disk")
    return Template.load("secure_boot").with_nvram(firmware.microsofts(place / "nvram.fd", "uefi11"))


@pytest.mark.thorough("each boots a node from the start; nothing else boots by what operators have")
@pytest.mark.parametrize(
    ("way", "kind"),
    [
        *(("bios", "cd"), ("bios", "usb"), ("bios", "ipxe")),
        *(("secure_boot", "cd"), ("secure_boot", "usb"), ("secure_boot", "http")),
    ],
)
def test_boots(way: str, kind: str, session: Session, made: Path, tmp_path: Path) -> None:
    """It starts the ramdisk, and a medium is none of the disks that bareon may choose."""
    with booted(session, template(way, tmp_path), made, kind, f"media-{way}-{kind}") as node:
        facts = seen(node, session)
        if way == "secure_boot":
            assert (facts["firmware"], facts["secure_boot"]["state"]) == ("uefi", "enabled")
        else:
            assert facts["firmware"] == "bios"
        media = [disk for disk in facts["disks"] if disk.get("boot_medium") or disk.get("kind") == "rom"]
        assert [disk.get("kind") == "rom" for disk in media] == ([] if kind == "ipxe" else [kind == "cd"]), media
        others = [disk for disk in facts["disks"] if disk not in media]
        assert [disk["serial"] for disk in others] == [disk.serial for disk in node.disks]


@pytest.mark.thorough("it boots a node from the start; with --profile full it asks for what that has besides")
def test_the_tools_of_a_server_answer(
    session: Session, made: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """From the ISO with Secure Boot on, with no more memory than the documentation asks for."""
    profile = request.config.getoption("--profile")
    _, disks = machine({"template": "secure_boot", "disks": DISKS})
    server = template("secure_boot", tmp_path).with_bmc().with_memory(MEMORY[profile])
    with booted(session, server, made, "cd", f"media-server-{profile}", disks) as node:
        facts = seen(node, session)
        assert facts["secure_boot"]["state"] == "enabled"
        left = int(node.ssh.run("grep MemAvailable /proc/meminfo").stdout.split()[1]) << 10
        session.strategy.report(f"{profile}: {left >> 20} MiB left of {MEMORY[profile]}")
        assert left >= memory.LEAST
        asked = SMALL | (FULL if profile == "full" else {})
        said = {command: node.ssh.run(command, check=False) for command in asked}
        wrong = [x for command, x in said.items() if x.exit_code or not re.search(asked[command], x.stdout, re.M)]
        assert not [(x.argv[-1], x.exit_code, x.stdout, x.stderr) for x in wrong]


@pytest.mark.thorough("it boots a node from the start; a node with room is booted by all others")
def test_a_memory_that_has_no_room_for_the_ramdisk(session: Session, request: pytest.FixtureRequest) -> None:
    """The kernel goes on with what it could unpack. The node says so at once, and does nothing."""
    profile = request.config.getoption("--profile")
    node = session.node(Template.load("one_disk").with_memory(TOO_LITTLE[profile]))
    node.console.unlink(missing_ok=True)
    with session.explained(node, "media-memory"):
        node.power_on_without_disks(session.strategy.boot)
        said = "bareon: the memory is too small for this ramdisk; use a node with more"
        until(lambda: said in node.console.read_text(errors="replace"), "the node says that", LIMIT, 0.5)
        assert "udevd" not in node.console.read_text(errors="replace")


def seen(node: Node, session: Session) -> dict[str, Any]:
    """The facts of a node, which runs the session's bareon and has made its host key itself."""
    assert session.products.ramdisk.version in node.ssh.run("bareon-provision --version").stdout
    assert node.ssh.run("cd /etc/ssh && echo ssh_host_*").stdout.split() == [
        "ssh_host_ed25519_key",
        "ssh_host_ed25519_key.pub",
    ]
    found: dict[str, Any] = json.loads(node.ssh.run("bareon-provision --dump_node_facts").stdout)
    return found
