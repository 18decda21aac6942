# SPDX-License-Identifier: Apache-2.0
"""Runs on a node, in the ramdisk: prints as JSON every file below some mount points, and what the disks hold.

Usage: node_listing.py MOUNT-POINT... Identifiers that differ from one deployment to the next (UUIDs of file systems,
partitions, disks) are replaced by what they identify.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

IDENTIFIERS = ("UUID", "PARTUUID", "PTUUID")
#: Contents of fewer bytes are given as they are: a difference then says what differs.
SHORT = 2000
SAME = "NAME,TYPE,SIZE,FSTYPE,LABEL,PARTLABEL,PARTTYPE,PARTFLAGS,START"


def listed(columns: str) -> list[dict[str, Any]]:
    """Return the block devices with these columns of lsblk."""
    argv = ["lsblk", "--json", "--bytes", "--list", "--output", columns]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return [device for device in json.loads(done.stdout)["blockdevices"] if device["type"] != "rom"]


def words() -> dict[str, str]:
    """Return a word for each identifier."""
    found = {}
    for device in listed(",".join(("NAME", "TYPE", *IDENTIFIERS))):
        for column in IDENTIFIERS:
            value = device[column.lower()]
            # A partition tells the identifier of its disk's table too.
            if value and (column != "PTUUID" or device["type"] == "disk"):
                found[value] = f"<{column} of {device['name']}>"
    return found


def replaced(content: bytes, known: dict[str, str]) -> bytes:
    """Return a content with words in the place of identifiers, however they are written."""
    # The longest first: the volume id of a configdrive is the end of its partition's GUID, and may be all figures.
    for identifier, word in sorted(known.items(), key=lambda item: -len(item[0])):
        for form in {identifier, identifier.lower(), identifier.upper(), identifier.replace("-", "")}:
            content = content.replace(form.encode(), word.encode())
    return content


def described(path: Path, known: dict[str, str]) -> list[Any]:
    """Return what a careful copy of a file keeps: kind, mode, owners, content, attributes. Not times."""
    status = path.lstat()
    found: list[Any] = [stat.filemode(status.st_mode), status.st_uid, status.st_gid]
    if stat.S_ISREG(status.st_mode):
        content = path.read_bytes()
        if b"\0" not in content[:4096]:
            content = replaced(content, known)
        shown = content.decode(errors="replace") if len(content) < SHORT and b"\0" not in content else None
        found += [shown or hashlib.sha256(content).hexdigest(), status.st_nlink]
    elif stat.S_ISLNK(status.st_mode):
        found.append(replaced(os.fsencode(path.readlink()), known).decode())
    elif not stat.S_ISDIR(status.st_mode):
        found.append(status.st_rdev)
    attributes = sorted(os.listxattr(path, follow_symlinks=False))
    return found + [[name, os.getxattr(path, name, follow_symlinks=False).hex()] for name in attributes]


def files(place: Path, known: dict[str, str]) -> dict[str, list[Any]]:
    """Return every path of one file system, and what it is."""
    return {
        str(path.relative_to(place)): described(path, known)
        for path in place.rglob("*")
        if path.lstat().st_dev == place.lstat().st_dev
    }


if __name__ == "__main__":
    json.dump(
        {"disks": listed(SAME), "files": {place: files(Path(place), words()) for place in sys.argv[1:]}}, sys.stdout
    )
