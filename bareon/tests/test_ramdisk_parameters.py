# SPDX-License-Identifier: Apache-2.0
"""The kernel's command line, as it goes through GRUB's script and iPXE's."""

from __future__ import annotations

import pytest

from ramdisk import parameters

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
