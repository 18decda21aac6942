# SPDX-License-Identifier: Apache-2.0
"""The ramdisk as operators use it: in a CD drive, as a USB stick, by iPXE; by BIOS, and with Secure Boot on."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from building.process import run
from ramdisk import outputs, parameters
from ramdisk.profile import PROFILES
from tests_functional.bench import firmware
from tests_functional.bench.cell import SCRATCH
from tests_functional.bench.medium import Medium, Started
from tests_functional.bench.node import KERNEL_PARAMETERS, Node
from tests_functional.bench.session import Session
from tests_functional.bench.template import Template

#: Seconds from power on to SSH, several times what was measured under emulation.
LIMIT = 300.0


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
    wanted = {f"deb:{name}" for name in (*profile.packages, *profile.firmware, "shim-signed")}
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
def booted(session: Session, template: Template, made: Path, kind: str, name: str) -> Iterator[Node]:
    """Give a node that has booted from the medium."""
    node = Started(session.hypervisor, template, SCRATCH / name, session.products.key)
    node.medium = Medium(made, kind)
    node.make_disks(template.disks)
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
    [("bios", "cd"), ("bios", "usb"), ("bios", "ipxe"), ("secure_boot", "cd"), ("secure_boot", "usb")],
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


def seen(node: Node, session: Session) -> dict[str, Any]:
    """The facts of a node, which runs the session's bareon and has made its host key itself."""
    assert session.products.ramdisk.version in node.ssh.run("bareon-provision --version").stdout
    assert node.ssh.run("cd /etc/ssh && echo ssh_host_*").stdout.split() == [
        "ssh_host_ed25519_key",
        "ssh_host_ed25519_key.pub",
    ]
    found: dict[str, Any] = json.loads(node.ssh.run("bareon-provision --dump_node_facts").stdout)
    return found
