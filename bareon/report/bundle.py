# SPDX-License-Identifier: Apache-2.0
"""The bundle of a failed run: one archive with log, report and state of the node, secrets masked."""

from __future__ import annotations

import io
import logging
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from bareon.atomic import replacing
from bareon.errors import CommandError
from bareon.run import run
from bareon.text import redacted

LOG = logging.getLogger(__name__)

LIMIT = 10.0  # seconds for each command: a node that failed may well hang

_COMMANDS = {
    "lsblk.json": ("lsblk", "--json", "--output-all"),
    "lvm.json": ("lvm", "fullreport", "--reportformat", "json"),
    "mdadm": ("mdadm", "--detail", "--scan", "--verbose"),
    "dmesg": ("dmesg",),
}
_FILES = {"mdstat": "/proc/mdstat", "mounts": "/proc/self/mounts"}
_NO_DISKS = ("loop", "ram", "zram", "sr", "fd", "dm-", "md")


def write(path: str, files: Mapping[str, str]) -> bool:
    """Write the archive: ``files`` by their names in it, and the state of the node.

    :returns: whether it is there. A failure is logged, and nothing else: another error is on its way.
    """
    try:
        pieces = {name: read(file) for name, file in files.items()}  # before anything more is logged
        pieces |= gathered()
        with replacing(Path(path)) as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, text in pieces.items():
                data = redacted(text).encode(errors="backslashreplace")
                member = tarfile.TarInfo(f"bareon-bundle/{name}")
                member.size, member.mtime, member.mode = len(data), int(time.time()), 0o600
                archive.addfile(member, io.BytesIO(data))
    except Exception:
        LOG.warning("no bundle: %s cannot be made", path, exc_info=True)
        return False
    return True


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
