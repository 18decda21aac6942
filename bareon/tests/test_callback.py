# SPDX-License-Identifier: Apache-2.0
"""What a ramdisk is told by Ironic, whom it lets in, and what it finds on virtual media."""

from __future__ import annotations

import base64
import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bareon import tools
from bareon.callback import key, medium, network, parameter, source
from bareon.errors import CommandError, InvalidInput, UnsuitableNode
from bareon.tools import mount


def blob(kind: str, *fields: bytes) -> str:
    """A public key as it is written."""
    parts = (kind.encode(), *fields)
    return base64.b64encode(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).decode()


ED25519 = f"ssh-ed25519 {blob('ssh-ed25519', bytes(range(32)))}"
RSA = f"ssh-rsa {blob('ssh-rsa', b'123', b'4' * 256)}"


def encoded(line: str) -> str:
    return base64.urlsafe_b64encode(line.encode()).decode().rstrip("=")


def parsed(line: str) -> parameter.Parameters:
    return parameter.parse(parameter.words(line, "the kernel's command line"))


GIVEN = f"ipa-api-url=https://ironic:6385 bareon-key={encoded(ED25519)}"


def test_parameters_of_ironic() -> None:
    found = parsed(
        f"BOOT_IMAGE=vmlinuz root=x {GIVEN} ipa-agent-token=s3cret ipa-insecure=1 boot_method=vmedia"
        " ipa-global-request-id=req-39b11fd7-40b4-4eb0-b69a-d0eb97747303 ipa-ca-file=/etc/ca.pem"
        ' "ipa-lookup-timeout=30" ipa-advertise-host="[2001:db8::1]" ipa-debug=1 quiet'
    )
    assert [url.reveal() for url in found.api_urls] == ["https://ironic:6385"]
    assert (found.conductor_key, found.token, found.insecure) == (ED25519, "s3cret", True)
    assert (found.ca_file, found.lookup_timeout, found.advertised) == (Path("/etc/ca.pem"), 30.0, "2001:db8::1")
    assert found.request_id == "req-39b11fd7-40b4-4eb0-b69a-d0eb97747303"
    assert "s3cret" not in repr(found)


def test_several_urls() -> None:
    found = parsed(
        f"ipa-api-url=http://[fd00::1]:6385/baremetal/,https://b,http://192.0.2.1 bareon-key={encoded(RSA)}"
    )
    assert [url.reveal() for url in found.api_urls] == [
        "http://[fd00::1]:6385/baremetal",
        "https://b",
        "http://192.0.2.1",
    ]


@pytest.mark.parametrize(
    ("line", "path", "words"),
    [
        ("quiet", "ipa-api-url", "neither on the kernel's command line"),
        (f"ipa-api-url= bareon-key={encoded(RSA)}", "ipa-api-url", "is empty"),
        (f"ipa-api-url=, bareon-key={encoded(RSA)}", "ipa-api-url", "has no URL"),
        ("ipa-api-url=mdns", "ipa-api-url", "http:// or https://"),
        ("ipa-api-url=ftp://ironic", "ipa-api-url", "http:// or https://"),
        ("ipa-api-url=https://", "ipa-api-url", "has no host"),
        ("ipa-api-url=https://ironic:99999", "ipa-api-url", "has no host"),
        ("ipa-api-url=https://a$(reboot)", "ipa-api-url", "has no host"),
        ("ipa-api-url=https://ironic..example", "ipa-api-url", "has no host"),
        ("ipa-api-url=https://ironic-", "ipa-api-url", "has no host"),
        (f"ipa-api-url=https://{'a' * 64}.example", "ipa-api-url", "has no host"),
        ("ipa-api-url=https://ironic:6385?x", "ipa-api-url", "no query"),
        ("ipa-api-url=https://bob:hush@ironic", "ipa-api-url", "no user"),
        ("ipa-api-url=https://ironic\x1b[2J", "ipa-api-url", "printable"),
        ("ipa-api-url=http://b", "ipa-api-url", "twice"),
        ("ipa-agent-token=caf\xe9", "ipa-agent-token", "printable"),
        ('ipa-agent-token="hush hush"', "ipa-agent-token", "printable"),
        ("ipa-agent-token=", "ipa-agent-token", "is empty"),
        ("ipa-insecure=maybe", "ipa-insecure", "neither 1 nor 0"),
        ("ipa-global-request-id=req-x", "ipa-global-request-id", "UUID"),
        ("ipa-ca-file=ca.pem", "ipa-ca-file", "absolute"),
        ("ipa-lookup-timeout=-1", "ipa-lookup-timeout", "seconds"),
        ("ipa-advertise-host=node", "ipa-advertise-host", "no address"),
        ("ipa-api-url=http://a", "bareon-key", "is not on the kernel's command line"),
    ],
)
def test_wrong_parameters(line: str, path: str, words: str) -> None:
    given = GIVEN if not path.endswith(("url", "key")) or "twice" in words else ""
    with pytest.raises(InvalidInput) as raised:
        parsed(f"{given} {line}")
    defects = [defect for defect in raised.value.defects if defect.path == path]
    assert len(defects) == 1 and words in defects[0].message
    assert not any("hush" in text or "\x1b" in text for text in raised.value.lines())


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("", False),
        ("root=/dev/sda1 quiet", False),
        ("boot_method=disk", False),
        ('note="ipa-api-url=x"', False),
        ("ipa-agent-token=x", True),
        ("quiet ipa-api-url=", True),
        ('"bareon-key=x"', True),
        ('boot_method="vmedia"', True),
    ],
)
def test_command_lines_of_ironic(line: str, wanted: bool) -> None:
    assert parameter.is_of_ironic(line) is wanted


def test_every_defect_is_told() -> None:
    with pytest.raises(InvalidInput) as raised:
        parsed("ipa-api-url=x bareon-key=? ipa-insecure=2")
    assert [defect.path for defect in raised.value.defects] == ["ipa-api-url", "bareon-key", "ipa-insecure"]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (ED25519, ED25519),
        (f"{ED25519} conductor of rack 3\n", ED25519),
        (f"{RSA} me\r\n", RSA),
    ],
)
def test_key_of_the_conductor(line: str, wanted: str) -> None:
    assert key.conductors(encoded(line)) == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "base64url"),
        ("ssh-ed25519 AAAA", "base64url"),
        ("a", "base64url"),
        (encoded("sch\xf6n"), "ASCII"),
        (encoded(f"{ED25519}\n{RSA}"), "one line"),
        (encoded(f"{ED25519}\0"), "one line"),
        (encoded(f"{ED25519} {'x' * 9000}"), "one line"),
        (encoded(f'command="reboot" {ED25519}'), "options are not taken"),
        (encoded(f"cert-authority {ED25519}"), "options are not taken"),
        (encoded(f"# {ED25519}"), "options are not taken"),
        (encoded(f" {ED25519}"), "options are not taken"),
        (encoded(f"ssh-dss {blob('ssh-dss', b'x')}"), "the type of the key"),
        (encoded("ssh-ed25519"), "no key"),
        (encoded(f"ssh-ed25519 {RSA.split()[1]}"), "no key of the type ssh-ed25519"),
        (encoded(ED25519[:-8]), "no key"),
        (encoded(f"ssh-ed25519 {blob('ssh-ed25519')}"), "no key"),
    ],
)
def test_what_is_no_key(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        key.conductors(text)


def test_admitting_replaces_every_other_key(tmp_path: Path) -> None:
    place = tmp_path / ".ssh"
    place.mkdir(mode=0o777)
    (place / "authorized_keys").write_text(f"{RSA} builder\n")
    (place / "authorized_keys").chmod(0o644)
    key.admit(ED25519, tmp_path)
    assert (place / "authorized_keys").read_text() == f"{ED25519} conductor\n"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE((place / "authorized_keys").stat().st_mode) == 0o600
    assert sorted(path.name for path in place.iterdir()) == ["authorized_keys"]


def test_admitting_makes_the_folder_and_follows_no_link(tmp_path: Path) -> None:
    key.admit(ED25519, tmp_path)
    assert stat.S_IMODE((tmp_path / ".ssh").stat().st_mode) == 0o700
    other = tmp_path / "other"
    other.write_text("untouched")
    (tmp_path / ".ssh/authorized_keys").unlink()
    (tmp_path / ".ssh/authorized_keys").symlink_to(other)
    key.admit(ED25519, tmp_path)
    assert other.read_text() == "untouched"
    home = tmp_path / "home"
    home.mkdir()
    (home / ".ssh").symlink_to(tmp_path / ".ssh")
    with pytest.raises(UnsuitableNode, match=r"\.ssh/authorized_keys cannot be written"):
        key.admit(RSA, home)


def test_keys_of_this_host(tmp_path: Path) -> None:
    with pytest.raises(UnsuitableNode, match="ssh-keygen -A"):
        key.of_this_host(tmp_path)
    (tmp_path / "ssh_host_rsa_key.pub").write_text(f"{RSA} root@bareon\n")
    (tmp_path / "ssh_host_ed25519_key.pub").write_text(f"{ED25519} root@bareon\n")
    (tmp_path / "ssh_host_ed25519_key").write_text("private")
    assert key.of_this_host(tmp_path) == f"{ED25519}\n{RSA}"
    (tmp_path / "ssh_host_rsa_key.pub").write_text("rubbish\n")
    with pytest.raises(UnsuitableNode, match=r"ssh_host_rsa_key\.pub must begin with the type"):
        key.of_this_host(tmp_path)


def interface(net: Path, name: str, address: str, kind: str = "1", device: bool = True) -> Path:
    place = net / name
    (place / "device" if device else place).mkdir(parents=True)
    (place / "address").write_text(f"{address}\n")
    (place / "type").write_text(f"{kind}\n")
    return place


def test_addresses(tmp_path: Path) -> None:
    interface(tmp_path, "lo", "00:00:00:00:00:00", "772", device=False)
    interface(tmp_path, "eth1", "52:54:00:AA:00:02")
    member = interface(tmp_path, "eth0", "52:54:00:aa:00:09")
    (member / "bonding_slave").mkdir()
    (member / "bonding_slave/perm_hwaddr").write_text("52:54:00:aa:00:01\n")
    interface(tmp_path, "bond0", "52:54:00:aa:00:09", device=False)
    interface(tmp_path, "wwan0", "00:00:00:00:00:00")
    interface(tmp_path, "can0", "01:02:03:04:05:06", "280")
    assert network.addresses(tmp_path) == ["52:54:00:aa:00:01", "52:54:00:aa:00:02", "52:54:00:aa:00:09"]


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("192.0.2.7", "https://192.0.2.7:22"),
        ("2001:db8::7", "https://[2001:db8::7]:22"),
        ("::ffff:192.0.2.7", "https://192.0.2.7:22"),
    ],
)
def test_callback_url(address: str, wanted: str) -> None:
    assert network.callback_url(address, 22) == wanted


@pytest.mark.parametrize("address", ["fe80::1%eth0", "169.254.1.1"])
def test_addresses_of_a_link_are_none_to_come_back_to(address: str) -> None:
    with pytest.raises(ValueError, match="ipa-advertise-host="):
        network.callback_url(address, 22)


class Machine:
    """A tree with block devices, and what blkid and mount would find on them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tags: dict[str, dict[str, str]] = {}
        self.probed: list[str] = []
        self.broken: set[str] = set()
        self.mounted: list[tuple[str, str | None, str | None]] = []
        (root / "sys/class/block").mkdir(parents=True)
        (root / "proc").mkdir()

    def add(self, name: str, label: str, kind: str, *, cd: bool = False, bus: str = "pci", size: int = 2048) -> Path:
        """A device; the folder that is returned is what it holds."""
        place = self.root / f"sys/devices/{bus}/{name}"
        (place / "device").mkdir(parents=True)
        (place / "device/type").write_text("5\n" if cd else "0\n")
        (place / "size").write_text(f"{size}\n")
        (self.root / "sys/class/block" / name).symlink_to(place)
        self.tags[str(self.root / "dev" / name)] = {"LABEL": label, "TYPE": kind}
        content = self.root / "content" / name
        content.mkdir(parents=True)
        return content

    def probe(self, devices: Sequence[str]) -> dict[str, dict[str, str]]:
        self.probed += devices
        if set(devices) & self.broken:
            raise CommandError(["blkid"], 4, "failed with exit code 4")
        return {device: self.tags[device] for device in devices}

    @contextlib.contextmanager
    def mount(
        self, device: str, target: str, *, kind: str | None = None, options: str | None = None
    ) -> Iterator[str]:
        self.mounted.append((Path(device).name, kind, options))
        yield str(self.root / "content" / Path(device).name)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setattr(tools.blkid, "probe", machine.probe)
    monkeypatch.setattr(mount, "mounted", machine.mount)
    return machine


def test_media_of_ironic(machine: Machine) -> None:
    floppy = machine.add("sda", "ir-vfd-dev", "vfat", bus="usb1")
    (floppy / "parameters.txt").write_text(
        f"ipa-api-url=http://medium\nipa-agent-token=s3cret\nbareon-key={encoded(RSA)}"
    )
    iso = machine.add("sr0", "VMEDIA_BOOT_ISO", "iso9660", cd=True)
    (iso / "etc/ironic-python-agent").mkdir(parents=True)
    (iso / "etc/ironic-python-agent/ironic.crt").write_text("CERTIFICATE")
    (machine.root / "proc/cmdline").write_text(
        f"boot_method=vmedia ipa-api-url=http://line bareon-key={encoded(ED25519)}"
    )
    parameters, authority = source.gathered(machine.root, 0)
    assert [url.reveal() for url in parameters.api_urls] == ["http://medium"]
    assert (parameters.token, parameters.conductor_key, authority) == ("s3cret", RSA, "CERTIFICATE")
    assert machine.mounted == [(x, y, "ro,nosuid,nodev,noexec") for x, y in (("sda", "vfat"), ("sr0", "iso9660"))]


def test_a_machine_that_was_not_booted_by_a_medium_looks_at_none(machine: Machine) -> None:
    machine.add("sr0", "VMEDIA_BOOT_ISO", "iso9660", cd=True)
    (machine.root / "proc/cmdline").write_text(GIVEN)
    assert source.gathered(machine.root, 0)[1] is None
    assert machine.probed == []


def test_a_file_of_the_ramdisk_comes_before_the_certificates_of_a_medium(machine: Machine) -> None:
    file = machine.root / "ca.pem"
    iso = machine.add("sr0", "CONFIG-2", "iso9660", cd=True)
    (iso / "etc/ironic-python-agent").mkdir(parents=True)
    (iso / "etc/ironic-python-agent/ironic.crt").write_text("MEDIUM")
    (machine.root / "proc/cmdline").write_text(f"boot_method=vmedia {GIVEN} ipa-ca-file={file}")
    with pytest.raises(UnsuitableNode, match=r"ipa-ca-file: .* cannot be read: No such file"):
        source.gathered(machine.root, 0)
    file.write_text("FILE")
    assert source.gathered(machine.root, 0)[1] == "FILE"


def test_a_file_of_certificates_that_is_none(machine: Machine) -> None:
    """A FIFO would be waited for without end."""
    file = machine.root / "ca.pem"
    os.mkfifo(file)
    (machine.root / "proc/cmdline").write_text(f"{GIVEN} ipa-ca-file={file}")
    with pytest.raises(InvalidInput, match=r"ipa-ca-file: .* is no file"):
        source.gathered(machine.root, 0)


def test_disks_of_tenants_are_no_media(machine: Machine) -> None:
    """Whoever had the machine before may have given a disk the label."""
    for name, bus, size in (("vda", "pci", 2048), ("sdb", "usb1", 4 << 21), ("sdc", "usb1", 0)):
        machine.add(name, "ir-vfd-dev", "vfat", bus=bus, size=size)
    machine.add("sdd1", "ir-vfd-dev", "vfat", bus="usb1")
    (machine.root / "sys/devices/usb1/sdd1/partition").write_text("1")
    machine.add("sr0", "Debian 12", "iso9660", cd=True)
    machine.add("sr1", "ir-vfd-dev", "ext4", cd=True)
    assert medium.media(machine.root) == []
    assert [Path(device).name for device in machine.probed] == ["sr0", "sr1"]
    assert machine.mounted == []


def test_what_is_no_plain_file_on_a_medium_is_not_there(machine: Machine) -> None:
    floppy = machine.add("sda", "IR-VFD-DEV", "vfat", bus="usb1")
    (floppy / "parameters.txt").symlink_to("/etc/passwd")
    first = machine.add("sr0", "config-2", "iso9660", cd=True)
    (first / "etc").symlink_to(machine.root / "content")
    second = machine.add("sr1", "config-2", "iso9660", cd=True)
    (second / "etc/ironic-python-agent").mkdir(parents=True)
    os.mkfifo(second / "etc/ironic-python-agent/ironic.crt")
    (machine.root / "content/ironic-python-agent").mkdir()
    (machine.root / "content/ironic-python-agent/ironic.crt").write_text("strange")
    assert [(found.parameters, found.authority) for found in medium.media(machine.root)] == [(None, None)] * 3


def test_a_medium_that_cannot_be_read_hides_no_other(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.add("sr0", "config-2", "iso9660", cd=True)
    machine.add("sr1", "config-2", "iso9660", cd=True)
    machine.broken = {str(machine.root / "dev/sr0")}
    assert [Path(found.device).name for found in medium.media(machine.root)] == ["sr1"]
    assert "sr0, which may be a virtual medium, cannot be read: blkid failed with exit code 4" in caplog.text


def test_a_file_of_a_medium_has_an_end(machine: Machine) -> None:
    floppy = machine.add("sda", "IR-VFD-DEV", "vfat", bus="usb1")
    (floppy / "parameters.txt").write_bytes(b"x" * ((1 << 20) + 1))
    with pytest.raises(InvalidInput, match=r"parameters\.txt: on the virtual medium is larger than 1 MiB"):
        medium.media(machine.root)
