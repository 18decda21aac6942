# SPDX-License-Identifier: Apache-2.0
"""Compares what a case expects with what independent programs read from the node.

Every function returns the mismatches it found, as lines for people; none means all is well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests_functional.bench.case import Expectation, Look
from tests_functional.bench.ssh import Ssh
from tests_functional.bench.template import size_in_bytes

#: Characters of an output that a mismatch quotes.
QUOTED = 1500
#: Keys of a partition whose values are sizes.
SIZES = ("start", "size", "end")


def patterns(wanted: Sequence[str], text: str, what: str) -> list[str]:
    """Search for each pattern in a text; ``^`` and ``$`` match at every line."""
    return [
        f"{what} does not match {pattern!r}:\n{text[-QUOTED:]}"
        for pattern in wanted
        if not re.search(pattern, text, re.MULTILINE)
    ]


def looks(wanted: Sequence[Look], ssh: Ssh, timeout: float = 300) -> list[str]:
    """Run commands on a node and look at what they print; ``timeout`` in seconds, for each."""
    found = []
    for look in wanted:
        done = ssh.run(look.run, timeout=timeout, check=False)
        if done.exit_code != look.exit_code:
            said = (done.stdout + done.stderr)[-QUOTED:]
            found.append(f"{look.run}: exit {done.exit_code}, not {look.exit_code}\n{said}")
        found += patterns(look.stdout, done.stdout, f"output of {look.run}")
    return found


def expectation(wanted: Expectation, ssh: Ssh) -> list[str]:
    """Read partition tables with parted, signatures with blkid, and the rest as the case says."""
    found = []
    for disk, partitions in wanted.partitions.items():
        found += _partitions(disk, partitions, ssh)
    for device, tags in wanted.file_systems.items():
        done = ssh.run(f"blkid --probe --output export /dev/{device}", check=False)
        actual = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        found += subset(tags, {name: _unescape(value) for name, value in actual.items()}, device)
    return found + looks(wanted.commands, ssh)


def _unescape(value: str) -> str:
    return value.replace("\\", "")


def _partitions(disk: str, wanted: Sequence[Mapping[str, Any]], ssh: Ssh) -> list[str]:
    text = ssh.run(f"parted --script --json /dev/{disk} unit B print").stdout
    table = json.loads(text)["disk"]
    if table["label"] != "gpt":
        return [f"{disk} has a partition table of type {table['label']}, not gpt"]
    actual = [_in_bytes(entry) for entry in table.get("partitions", ())]
    return subset([_in_bytes(entry) for entry in wanted], actual, disk)


def _in_bytes(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _bytes(value) if name in SIZES and isinstance(value, str) else value for name, value in entry.items()
    }


def _bytes(text: str) -> int:
    return int(text[:-1]) if re.fullmatch(r"\d+B", text) else size_in_bytes(text)


def subset(wanted: Any, actual: Any, where: str) -> list[str]:
    """Compare structures: a mapping may have more keys than wanted, a list as many entries."""
    if isinstance(wanted, Mapping):
        if not isinstance(actual, Mapping):
            return [f"{where}: {actual!r} is not a mapping"]
        missing = [f"{where}: no {key!r} in {actual!r}" for key in wanted if key not in actual]
        return missing + [
            line for key in wanted if key in actual for line in subset(wanted[key], actual[key], f"{where}.{key}")
        ]
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        if not isinstance(actual, Sequence) or len(actual) != len(wanted):
            return [f"{where}: {len(wanted)} entries wanted, found {actual!r}"]
        pairs = enumerate(zip(wanted, actual, strict=True))
        return [line for number, (a, b) in pairs for line in subset(a, b, f"{where}[{number}]")]
    return [] if wanted == actual else [f"{where}: {actual!r}, not {wanted!r}"]
