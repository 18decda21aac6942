# SPDX-License-Identifier: Apache-2.0
"""The kernel's command line, as it goes through GRUB's script and iPXE's."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from bareon import cmdline
from ramdisk import parameters
from ramdisk.__main__ import _public

USUAL = "console=tty0 console=ttyS0,115200"


@pytest.mark.parametrize(
    ("appended", "expected"),
    [
        ("", USUAL),
        ("  ip=dhcp\n", f"{USUAL} ip=dhcp"),
        ("console=ttyS1 a", "console=ttyS1 a"),
        (
            "bareon.input=https://x/{mac}?a=b&c=~d#e ip=[2001:db8::1]::[fe80::1]:64",
            f"{USUAL} bareon.input=https://x/{{mac}}?a=b&c=~d#e ip=[2001:db8::1]::[fe80::1]:64",
        ),
    ],
)
def test_line(appended: str, expected: str) -> None:
    assert parameters.line(appended) == expected


@pytest.mark.parametrize(
    "word", ["a'b", 'a"b', "a\\b", "${net0/mac}", "$(x)", "`x`", "ä", "&&", "||", "#x", "a" * 1900]
)
def test_what_a_loader_would_change(word: str) -> None:
    with pytest.raises(ValueError, match="--append"):
        parameters.line(f"first {word} last")


def test_scripts() -> None:
    assert parameters.for_grub("a b;c") == "'a' 'b;c'"
    assert parameters.for_ipxe("a b").splitlines() == [
        "#!ipxe",
        "kernel vmlinuz initrd=initramfs a b",
        "initrd --name initramfs initramfs",
        "boot",
    ]


def test_what_lets_somebody_in_is_a_public_key_without_its_comment() -> None:
    key = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(range(32))).decode()
    assert _public(f"# mine\n{key} me@laptop\n\n") == f"{key}\n"
    for wrong in ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n", f'command="id" {key}\n'):
        with pytest.raises(ValueError, match="--ssh_key: a line must begin with the type of the key"):
            _public(wrong)


def test_bytes_of_any_kind_on_a_command_line_are_read(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cmdline").write_bytes(b"quiet name=caf\xe9 bareon.sshkey=x\n")
    assert dict(cmdline.parameters(cmdline.read(tmp_path)))["bareon.sshkey"] == "x"
