# SPDX-License-Identifier: Apache-2.0
"""The hardware of a machine as its kernel shows it, and in the facts of a node."""

from __future__ import annotations

import dataclasses
import json
import os
import uuid
from pathlib import Path

import pytest

from bareon import facts, hardware
from bareon.model.hardware import HardwareFacts, PortFacts
from bareon.model.node import NodeFacts
from bareon.plan.fingerprint import fingerprint
from bareon.storage.disk import DiskFacts

CPU = "processor\t: {}\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Gold 6330\n\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A server with a bond of two ports, of which one has a link, and a third port that is down."""
    files = {
        "proc/cpuinfo": CPU.format(0) + CPU.format(1),
        "proc/meminfo": "MemTotal:       16384 kB\nMemFree:        1 kB\n",
        "sys/class/dmi/id/sys_vendor": "Dell Inc.",
        "sys/class/dmi/id/product_name": "PowerEdge R650",
        "sys/class/dmi/id/product_serial": "ABC1234",
        "sys/class/dmi/id/product_uuid": "4C4C4544-0000-4000-8000-000000000001",
        "sys/class/tpm/tpm0/tpm_version_major": "2",
        **_port("eth0", "52:54:00:00:00:01", carrier="1", speed="25000"),
        **_port("eth1", "52:54:00:00:00:01", carrier="0", speed="-1"),
        "sys/class/net/eth1/bonding_slave/perm_hwaddr": "52:54:00:00:00:02",
        **_port("eth2", "52:54:00:00:00:03"),
        **_port("bond0", "52:54:00:00:00:01", carrier="1", speed="25000"),
        **_port("ib0", "80:00:00:02:fe:80:00:00:00:00:00:00:00:02:c9:03:00:00:00:01", type="32"),
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    driver = tmp_path / "sys/bus/pci/drivers/ice"
    driver.mkdir(parents=True)
    for name in ("eth0", "eth1", "eth2", "ib0"):
        device = tmp_path / "sys/class/net" / name / "device"
        device.mkdir()
        (device / "driver").symlink_to(driver)
    return tmp_path


def _port(name: str, mac: str, **more: str) -> dict[str, str]:
    return {f"sys/class/net/{name}/{key}": value for key, value in {"type": "1", "address": mac, **more}.items()}


def test_a_server(root: Path) -> None:
    assert hardware.read(root) == HardwareFacts(
        architecture=os.uname().machine,
        processors=2,
        memory=16 << 20,
        processor="Intel(R) Xeon(R) Gold 6330",
        vendor="Dell Inc.",
        product="PowerEdge R650",
        serial="ABC1234",
        uuid="4c4c4544-0000-4000-8000-000000000001",
        tpm="2.0",
        ports=(
            PortFacts("eth0", "52:54:00:00:00:01", "ice", True, 25000),
            PortFacts("eth1", "52:54:00:00:00:02", "ice", False),
            PortFacts("eth2", "52:54:00:00:00:03", "ice"),
        ),
    )


@pytest.mark.parametrize("text", ["", "Not Specified", "To be filled by O.E.M.", "Default string", "0000", "None"])
def test_what_the_maker_has_left_empty(root: Path, text: str) -> None:
    for name in ("sys_vendor", "product_name", "product_serial"):
        (root / "sys/class/dmi/id" / name).write_text(text + "\n")
    (root / "sys/class/dmi/id/product_uuid").write_text("00000000-0000-0000-0000-000000000000\n")
    found = hardware.read(root)
    assert (found.vendor, found.product, found.serial, found.uuid) == (None, None, None, None)


def test_a_kernel_that_shows_nothing(tmp_path: Path) -> None:
    assert hardware.read(tmp_path) == HardwareFacts(os.uname().machine, 0, 0)


def test_this_machine() -> None:
    found = hardware.read(Path("/"))
    assert found.processors > 0 and found.memory > 256 << 20


def test_facts_with_hardware_can_be_read_back(root: Path) -> None:
    node = NodeFacts("bios", (DiskFacts("/dev/vda", 1 << 30),), hardware=hardware.read(root))
    document = json.loads(json.dumps(facts.to_json(node)))
    assert document["hardware"]["ports"][0]["speed"] == 25000
    assert facts.from_json(document) == node
    del document["hardware"]
    assert facts.from_json(document).hardware is None


def test_a_plan_stays_good_when_a_link_goes(root: Path) -> None:
    seed, disk = uuid.UUID(int=1), DiskFacts("/dev/vda", 1 << 30)
    before = NodeFacts("bios", (disk,), hardware=hardware.read(root))
    (root / "sys/class/net/eth0/carrier").write_text("0\n")
    after = dataclasses.replace(before, hardware=hardware.read(root))
    assert after != before
    assert fingerprint(seed, b"", after, ["/dev/vda"]) == fingerprint(seed, b"", before, ["/dev/vda"])
