# SPDX-License-Identifier: Apache-2.0
"""What explains a failure: the state of disks, LVM, md, kernel and mounts, as text for people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bareon.errors import CommandError
from bareon.run import run

LIMIT = 10.0  # seconds for each command: a node that failed may well hang

_COMMANDS = {
    "lsblk.json": ("lsblk", "--json", "--output-all"),
    "lvm.json": ("lvm", "fullreport", "--reportformat", "json"),
    "mdadm": ("mdadm", "--detail", "--scan", "--verbose"),
    "dmesg": ("dmesg",),
}
_FILES = {"mdstat": "/proc/mdstat", "mounts": "/proc/self/mounts"}
_NO_DISKS = ("loop", "ram", "zram", "sr", "fd", "dm-", "md")


def gathered(block: str = "/sys/block") -> Iterator[tuple[str, str]]:
    """Name and text of each piece of evidence. What cannot be had says why instead."""
    disks = sorted(path.name for path in Path(block).glob("*") if not path.name.startswith(_NO_DISKS))
    tables = {f"table-{disk}": ("sfdisk", "--dump", f"/dev/{disk}") for disk in disks}
    for name, argv in (_COMMANDS | tables).items():
        try:
            # An exit code such as that for a disk without a table is no error of this run.
            done = run(argv, timeout=LIMIT, ok=range(256))
            text = done.stdout + done.stderr
        except CommandError as error:
            text = f"{error}\n"
        yield name, text
    for name, file in _FILES.items():
        yield name, read(file)


def read(file: str) -> str:
    """The text of a file, or why it cannot be had."""
    try:
        return Path(file).read_text(errors="replace")
    except OSError as error:
        return f"{file}: {error.strerror}\n"
