# SPDX-License-Identifier: Apache-2.0
"""Secure Boot: what bareon says of loaders, against firmware that enforces it, with keys of the test's own.

The image is Debian's, with a shim that the test has signed in the place of Microsoft's. Its GRUB and kernel stay as
Debian has signed them.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bareon.boot.platform import PC_UEFI
from bareon.boot.secure_boot import Loader, refusal
from bareon.tools import pe, secure_boot
from tests_functional.bench import firmware
from tests_functional.bench.firmware import Key
from tests_functional.bench.hypervisor import SERVER
from tests_functional.bench.node import Node
from tests_functional.bench.rsyncd import Module, RsyncServer
from tests_functional.bench.session import Session
from tests_functional.bench.template import Template
from tests_functional.bench.variant import layered

INPUT = "/tmp/provision.json"
COMMAND = "bareon-provision --data_driver ironic --deploy_driver rsync --progress plain"
PORT = 8731
LIMIT = 600.0
#: Seconds within which a firmware has refused a loader, or started it; under emulation.
VERDICT_LIMIT = 120.0
NEVER = "sbat,1,2099010100\nshim,99\n"
NOT_GRUB = "sbat,1,2099010100\nshim,1\ngrub,99\n"
#: What OVMF and shim print instead of starting something.
REFUSED = ("Access Denied", "Security Violation", "Security Policy Violation", "SBAT self-check failed")


@dataclass(frozen=True)
class Keys:
    """What the test has made: the certificate under which shim is signed, and another one; and the signed shim."""

    ours: Key
    theirs: Key
    shim: Path

    def digest(self) -> str:
        """The SHA-256 of shim that firmware goes by."""
        return pe.program(self.shim.read_bytes()).digest("sha256").hex()


@pytest.fixture(scope="module")
def keys(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Keys, and Debian's shim with a signature of one of them."""
    place = tmp_path_factory.mktemp("keys")
    ours, theirs = (firmware.authority(place, name) for name in ("Ours", "Theirs"))
    key = firmware.signer(place, "signs shims", ours)
    plain = session.products.systems["debian13"].tree / "usr/lib/shim/shimx64.efi"
    return Keys(ours, theirs, firmware.sign(plain, key, place / "shimx64.efi.signed"))


def nvram(case: str, keys: Keys, place: Path) -> Path:
    """Make the NVRAM of a case."""
    ours, theirs = keys.ours.certificate, keys.theirs.certificate
    output = place / f"{case}.fd"
    cases: dict[str, dict[str, Any]] = {
        "with the certificate": {"db": [theirs, ours]},
        "without the certificate": {"db": [theirs]},
        "hash in dbx": {"db": [ours], "dbx_hashes": [keys.digest()]},
        "certificate in dbx": {"db": [ours], "dbx": [ours]},
        "SBAT too old": {"db": [ours], "sbat": NEVER},
        "SBAT of GRUB too old": {"db": [ours], "sbat": NOT_GRUB},
        "Setup Mode": {"db": [theirs], "owner": None},
    }
    return firmware.store(output, **{"owner": keys.theirs, **cases[case]})


#: What is said of the image in each case, behind its name.
SAID = {
    "with the certificate": None,
    "without the certificate": "shimx64.efi.signed is signed under 'Ours', and the firmware goes by 'Theirs' (db)",
    "hash in dbx": "shimx64.efi.signed is revoked: its hash is in dbx",
    "certificate in dbx": "shimx64.efi.signed is signed under 'Ours', which is revoked: it is in dbx",
    "SBAT too old": "shimx64.efi.signed is revoked: it is generation 4 of shim, and the SBAT level asks for 99",
    "SBAT of GRUB too old": "grubx64.efi.signed is revoked: it is generation 7 of grub, and the SBAT level asks for",
    "Setup Mode": "shimx64.efi.signed is signed under 'Ours', and the firmware goes by 'Theirs' (db)",
}


def loaders(keys: Keys, session: Session) -> tuple[Loader, Loader]:
    """The two stages of the image."""
    grub = session.products.systems["debian13"].tree / PC_UEFI.signed_grub.lstrip("/")
    return Loader("shimx64.efi.signed", keys.shim.read_bytes()), Loader("grubx64.efi.signed", grub.read_bytes())


@pytest.mark.parametrize("case", SAID)
def test_verdicts(case: str, keys: Keys, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real signatures, verified by openssl, against the variables of a real firmware."""
    found = read(nvram(case, keys, tmp_path), tmp_path, monkeypatch)
    first, second = loaders(keys, session)
    said = refusal(found, first, second)
    expected = SAID[case]
    assert said is None if expected is None else str(said).startswith(expected), said


def test_verdicts_of_signatures(
    keys: Keys, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signatures by an intermediate, by one that has expired, by two, and by one who only has the right name."""
    found = read(nvram("with the certificate", keys, tmp_path), tmp_path, monkeypatch)
    plain = session.products.systems["debian13"].tree / "usr/lib/shim/shimx64.efi"
    forged = firmware.authority(tmp_path, "Ours")
    for key, starts in (
        (keys.ours, True),
        (firmware.signer(tmp_path, "expired", keys.ours, days=-1), True),
        (firmware.signer(tmp_path, "forged", forged), False),
        (forged, False),
    ):
        signed = firmware.sign(plain, key, tmp_path / "signed")
        assert (refusal(found, Loader("it", signed.read_bytes())) is None) == starts, key
    # The first signature is nobody's, the second one good.
    both = firmware.sign(firmware.sign(plain, forged, tmp_path / "one"), keys.ours, tmp_path / "both")
    assert len(pe.program(both.read_bytes()).signatures) == 2
    assert refusal(found, Loader("it", both.read_bytes())) is None
    changed = bytearray(both.read_bytes())
    changed[0x30000] ^= 1
    said = refusal(found, Loader("it", bytes(changed)))
    assert said == "it has no signature that is of this program, and the firmware goes by 'Theirs', 'Ours' (db)"


@pytest.mark.parametrize(
    ("choice", "known"),
    [
        ("uefi11", None),
        ("uefi23", None),
        ("win23", "'Windows UEFI CA 2023' (db)"),
    ],
)
def test_the_shim_of_microsoft(
    choice: str, known: str | None, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian's own, signed under both certificates, and machines with one of them or none."""
    tree = session.products.systems["debian13"].tree
    first, second = (
        Loader(x, (tree / x.lstrip("/")).read_bytes()) for x in (PC_UEFI.signed_shim, PC_UEFI.signed_grub)
    )
    found = read(firmware.microsofts(tmp_path / "microsofts.fd", choice), tmp_path, monkeypatch)
    said = refusal(found, first, second)
    if known is None:
        assert said is None
    else:
        both = "'Microsoft Corporation UEFI CA 2011', 'Microsoft UEFI CA 2023'"
        assert said == f"{PC_UEFI.signed_shim} is signed under {both}, and the firmware goes by {known}"
    assert "is signed under 'Debian Secure Boot CA', and the firmware goes by" in str(refusal(found, second))


def read(store: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> secure_boot.Keys:
    """What bareon reads of an NVRAM."""
    folder = place / "efivars"
    folder.mkdir()
    copied = shutil.copy(store, place / "store.fd")
    for name, content in firmware.variables(Path(copied)).items():
        if "/" not in name:
            (folder / name).write_bytes(content)
    is_mount = Path.is_mount
    monkeypatch.setattr(Path, "is_mount", lambda self: self == folder or is_mount(self))
    return secure_boot.read(str(folder))


@dataclass(frozen=True)
class Bench:
    """The image with the signed shim, and where it is served; and Debian 12, which has a signed kernel alone."""

    session: Session
    keys: Keys
    url: str
    older: str

    @contextmanager
    def node(self, case: str, place: Path) -> Iterator[Node]:
        """Give a node in the ramdisk, with the NVRAM of a case."""
        template = Template.load("secure_boot").with_nvram(nvram(case, self.keys, place))
        name = f"secure-boot-{case.replace(' ', '-')}"
        with self.session.node_in_ramdisk(template, template.disks, name) as node:
            node.ssh.put(json.dumps(deployment(self.url)), INPUT)
            yield node


@pytest.fixture(scope="module")
def bench(session: Session, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Serve the image."""
    place = tmp_path_factory.mktemp("served")
    tree = layered(session.products.systems["debian13"].tree, place / "layers")
    shutil.copyfile(keys.shim, tree / PC_UEFI.signed_shim.lstrip("/"))
    older = session.products.systems["debian12"].tree
    server = RsyncServer(place, {"signed": Module(tree), "older": Module(older)}, port=PORT)
    server.start()
    try:
        yield Bench(session, keys, *(f"rsync://{SERVER}:{PORT}/{x}/" for x in ("signed", "older")))
    finally:
        server.stop()


def deployment(url: str) -> dict[str, Any]:
    """Return an input of one image."""
    volumes = [{"type": "partition", "mount": "/", "file_system": "ext4", "size": "remaining"}]
    return {
        "partitions_policy": "clean",
        "images": [{"name": "debian", "image_pull_url": url}],
        "partitions": [{"type": "disk", "id": {"type": "name", "value": "sda"}, "volumes": volumes}],
    }


def of_several(trixie: str, bookworm: str) -> dict[str, Any]:
    """Return an input of two images, the first of them without a shim; the second boots by default."""
    volumes = [
        {"type": "partition", "mount": "/", "file_system": "btrfs", "size": "1600 MiB", "images": ["bookworm"]},
        {"type": "partition", "mount": "/boot", "file_system": "ext4", "size": "200 MiB", "images": ["bookworm"]},
        {"type": "partition", "mount": "/", "file_system": "ext4", "size": "remaining", "images": ["trixie"]},
    ]
    return {
        "partitions_policy": "clean",
        "images": [
            {"name": "bookworm", "image_pull_url": bookworm},
            {"name": "trixie", "image_pull_url": trixie, "boot": True},
        ],
        "partitions": [{"type": "disk", "id": {"type": "name", "value": "sda"}, "volumes": volumes}],
    }


def state(node: Node) -> dict[str, Any]:
    """What the facts of a node have of Secure Boot."""
    found: dict[str, Any] = json.loads(node.ssh.run("bareon-provision --dump_node_facts").stdout)["secure_boot"]
    return found


def refused(case: str, bench: Bench, place: Path) -> None:
    """See a deployment refused before the first write."""
    with bench.node(case, place) as node:
        assert state(node)["state"] == "enabled"
        disk = node.disk("sda")
        before = disk.digest()
        done = node.ssh.run(f"{COMMAND} --input_data_file {INPUT}", timeout=LIMIT, check=False)
        assert (done.exit_code, "Traceback" in done.stderr) == (4, False), done
        assert "Secure Boot is on, and the node would not start: image 'debian': /usr/lib/" in done.stderr
        assert str(SAID[case]) in done.stderr
        assert disk.digest() == before


def test_refused(bench: Bench, tmp_path: Path) -> None:
    refused("without the certificate", bench, tmp_path)


@pytest.mark.thorough("it boots a node for each; test_verdicts has the same without one")
@pytest.mark.parametrize("case", ["hash in dbx", "certificate in dbx", "SBAT too old", "SBAT of GRUB too old"])
def test_refused_for_every_reason(case: str, bench: Bench, tmp_path: Path) -> None:
    refused(case, bench, tmp_path)


@pytest.mark.long
@pytest.mark.thorough("it deploys; test_verdicts and the unit tests have what is decided")
def test_setup_mode_warns(bench: Bench, tmp_path: Path) -> None:
    with bench.node("Setup Mode", tmp_path) as node:
        assert state(node)["state"] == "setup"
        done = node.ssh.run(f"{COMMAND} --input_data_file {INPUT}", timeout=LIMIT)
        told = "warning: Secure Boot is off; with it on, the node would not start: image 'debian': /usr/lib"
        assert told in done.stderr
        step = json.loads(node.ssh.run("cat /tmp/bareon-report.json").stdout)["steps"][-1]
        assert "EFI/BOOT/BOOTX64.EFI is signed under 'Ours'" in step["figures"]["warnings"]


@pytest.mark.long
@pytest.mark.thorough("it deploys, and boots the disk with every NVRAM")
def test_started_as_was_said(bench: Bench, tmp_path: Path) -> None:
    """Deploy with Secure Boot on, start the disk, then with every other NVRAM: firmware decides as bareon has."""
    with bench.node("with the certificate", tmp_path) as node:
        facts = state(node)
        assert (facts["state"], [x["subject"] for x in facts["db"]]) == (
            "enabled",
            ["CN=Theirs,O=Bareon", "CN=Ours,O=Bareon"],
        )
        done = node.ssh.run(f"{COMMAND} --input_data_file {INPUT}", timeout=LIMIT)
        assert "Secure Boot" not in done.stderr
        bench.session.strategy.deployed(node)
        assert node.ssh.run("od -An -j4 -tu1 /sys/firmware/efi/efivars/SecureBoot-*").stdout.split() == ["1"]
        for case, said in SAID.items():
            if case != "Setup Mode":
                node.power_off()
                node.template = node.template.with_nvram(nvram(case, bench.keys, tmp_path))
                node.console.write_text("")
                node.power_on()
                assert verdict(node) == (said is None), case


def verdict(node: Node) -> bool:
    """Whether a node that was powered on starts its kernel, or its firmware or shim refuses to."""
    deadline = time.monotonic() + VERDICT_LIMIT
    while time.monotonic() < deadline:
        text = node.console.read_text(errors="replace")
        if "Linux version" in text or "Loading initial ramdisk" in text:
            return True
        if any(word in text for word in REFUSED):
            return False
        time.sleep(0.5)
    raise AssertionError(f"neither started nor refused; the console ends:\n{node.console_tail()}")


RUNS = ". /etc/os-release; echo $VERSION_ID; od -An -j4 -tu1 /sys/firmware/efi/efivars/SecureBoot-*"


@pytest.mark.long
@pytest.mark.thorough("it deploys two images, and boots each; the unit tests have what is decided")
def test_several_images(bench: Bench, tmp_path: Path) -> None:
    """The shim and GRUB of Debian 13 start the menu, and by it both, one of them for one boot."""
    with bench.node("with the certificate", tmp_path) as node:
        disk = node.disk("sda")
        before = disk.digest()
        node.ssh.put(json.dumps(of_several(bench.older, bench.older)), INPUT)
        done = node.ssh.run(f"{COMMAND} --input_data_file {INPUT}", timeout=LIMIT, check=False)
        assert done.exit_code == 4, done
        for name in ("bookworm", "trixie"):
            assert f"image '{name}' ships no shim (such as {PC_UEFI.signed_shim})" in done.stderr
        assert disk.digest() == before

        node.ssh.put(json.dumps(of_several(bench.url, bench.older)), INPUT)
        done = node.ssh.run(f"{COMMAND} --input_data_file {INPUT}", timeout=LIMIT)
        assert "Secure Boot" not in done.stderr
        node.ssh.run("bareon-boot switch bookworm --once")
        for version in ("12", "13"):
            bench.session.strategy.deployed(node)
            assert node.ssh.run(RUNS).stdout.split() == [version, "1"]
