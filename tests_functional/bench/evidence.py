# SPDX-License-Identifier: Apache-2.0
"""Collects what explains a failure: console, logs, disks and the machine's description."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from building.process import ProgramError
from tests_functional.bench.node import Node
from tests_functional.bench.ssh import UnreachableError

#: File name here, and the command on the node that yields it.
COMMANDS = (
    ("bareon.log", "cat /var/log/bareon.log"),
    ("report.json", "cat /tmp/bareon-report.json"),
    ("provision.json", "cat /tmp/provision.json"),
    ("lsblk", "lsblk --output-all"),
    ("lsblk-fs", "lsblk --fs"),
    ("mounts", "findmnt"),
    ("dmesg", "dmesg"),
    ("processes", "ps -ef"),
)
#: Seconds for each command; a node that fails may well hang.
LIMIT = 15.0


def collect(node: Node, place: Path) -> Path:
    """Write all that can be had into a directory and return it.

    What cannot be had is named in its file instead: the evidence must not fail as well.
    """
    place.mkdir(parents=True, exist_ok=True)
    _write(place / "console.log", lambda: node.console.read_text(errors="replace"))
    _write(place / "domain.xml", node.live_xml)
    for name, command in COMMANDS:
        try:
            done = node.ssh.run(command, timeout=LIMIT, check=False)
            text = done.stdout or done.stderr
        except UnreachableError as error:
            (place / "no-ssh").write_text(f"{error}\n")
            break
        except ProgramError as error:
            text = str(error)
        (place / name).write_text(text)
    return place


def _write(path: Path, read: Callable[[], str]) -> None:
    try:
        text = read()
    except (OSError, ProgramError) as error:
        text = f"{error}\n"
    path.write_text(text)
