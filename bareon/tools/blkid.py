# SPDX-License-Identifier: Apache-2.0
"""Signatures on block devices: blkid(8), always probing the device, never its cache."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Sequence
from pathlib import Path

from bareon.run import run

PROGRAMS = ("blkid",)
_NOTHING_FOUND = 2
# Bytes from the start of a bcache device; struct cache_sb_disk, drivers/md/bcache/bcache_ondisk.h of the kernel.
_BCACHE_SET = 4096 + 56
_TAGS = {
    "ID_FS_TYPE": "TYPE",
    "ID_FS_UUID_ENC": "UUID",
    "ID_FS_LABEL_ENC": "LABEL",
    "ID_PART_TABLE_TYPE": "PTTYPE",
}


def probe(devices: Sequence[str]) -> dict[str, dict[str, str]]:
    """Tags such as ``TYPE``, ``UUID``, ``LABEL``, ``PTTYPE`` by device; devices without a signature are left out.

    A device on which contradicting signatures were found has the tag ``AMBIVALENT``. The ``UUID`` of a bcache device
    is that of its set.
    """
    found: dict[str, dict[str, str]] = {}
    for device in devices:
        # One call a device: a device with contradicting signatures (exit 8) would hide those after it.
        result = run(["blkid", "--probe", "--output", "udev", device], ok=(0, _NOTHING_FOUND, 8))
        if result.code == 8:
            found[device] = {"AMBIVALENT": "yes"}
        elif result.code == 0:
            found[device] = result.read(parse)
            if found[device].get("TYPE") == "bcache":
                with contextlib.suppress(OSError, ValueError):  # it went meanwhile
                    found[device]["UUID"] = _bcache_set(device)
    return found


def labelled(label: str) -> list[str]:
    """The devices of this machine that hold a file system with that label."""
    argv = ["blkid", "--cache-file", "/dev/null", "--match-token", f"LABEL={label}", "--output", "device"]
    return run(argv, ok=(0, _NOTHING_FOUND)).stdout.split()


def _bcache_set(device: str) -> str:
    """The UUID that all devices of a bcache set have; libblkid tells each device's own."""
    with Path(device).open("rb") as file:
        file.seek(_BCACHE_SET)
        return str(uuid.UUID(bytes=file.read(16)))


def parse(output: str) -> dict[str, str]:
    """The tags in the output of ``blkid --output udev``.

    It is the only form in which every character of a label comes back: others have ``M-C`` for half a character.
    """
    lines = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    return {tag: _decoded(lines[name]) for name, tag in _TAGS.items() if name in lines}


def _decoded(value: str) -> str:
    """``value`` with its escapes, a byte each, resolved."""
    text = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), value.encode())
    return text.decode(errors="replace")
