# SPDX-License-Identifier: Apache-2.0
"""Signatures on block devices: blkid(8), always probing the device, never its cache."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bareon.facts.node import Content
from bareon.run import run

PROGRAMS = ("blkid",)
_NOTHING_FOUND = 2


def probe(devices: Sequence[str]) -> dict[str, dict[str, str]]:
    """Tags such as ``TYPE``, ``UUID``, ``LABEL``, ``PTTYPE`` by device; devices without a signature are left out.

    A device on which contradicting signatures were found has the tag ``AMBIVALENT``.
    """
    found: dict[str, dict[str, str]] = {}
    for device in devices:
        # One call a device: a device with contradicting signatures (exit 8) would hide those after it.
        result = run(["blkid", "--probe", "--output", "export", device], ok=(0, _NOTHING_FOUND, 8))
        if result.code == 8:
            found[device] = {"AMBIVALENT": "yes"}
        elif result.code == 0:
            found.update(parse(result.stdout))
    return found


def content(tags: dict[str, str]) -> Content | None:
    """The signature among blkid's tags, if there is one."""
    if "AMBIVALENT" in tags:
        return Content("ambivalent")
    if "TYPE" not in tags:
        return None
    return Content(tags["TYPE"], tags.get("UUID"), tags.get("LABEL"))


def parse(output: str) -> dict[str, dict[str, str]]:
    """The tags in the output of ``blkid --output export``, by device."""
    found: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in output.splitlines():
        key, equals, value = line.partition("=")
        if not equals:
            continue
        value = re.sub(r"\\(.)", r"\1", value)
        if key == "DEVNAME":
            current = found.setdefault(value, {})
        else:
            current[key] = value
    return found
