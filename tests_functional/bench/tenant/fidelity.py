# SPDX-License-Identifier: Apache-2.0
"""Files that only a careful copy keeps as they are; cases look at them on the deployed node."""

from __future__ import annotations

import os
from pathlib import Path

from building.process import run

#: The size of the sparse file, in bytes; small, since a copy may write out its zeros.
SPARSE = 8 << 20
#: "cap_net_raw=ep" as struct vfs_cap_data, revision 2, of linux/capability.h.
CAP_NET_RAW = bytes.fromhex("01000002 00200000 00000000 00000000 00000000")


def add(tree: Path, name: str = "opt/fidelity") -> None:
    """Create the files in a new directory of a tree, which must have the ``acl`` package.

    :raises OSError: when the cache's file system has no extended attributes
    """
    place = tree / name
    place.mkdir(parents=True)
    (place / "one").write_text("two names, one file\n")
    os.link(place / "one", place / "other")
    (place / "link").symlink_to("one")
    attributed = place / "attributed"
    attributed.write_text("has an extended attribute\n")
    os.setxattr(attributed, "user.bareon", b"kept")
    listed = place / "listed"
    listed.write_text("has an access control list\n")
    run(["chroot", tree, "setfacl", "-m", "user:daemon:r--", f"/{name}/listed"], timeout=10)
    with (place / "sparse").open("wb") as sparse:
        sparse.seek(SPARSE - 4)
        sparse.write(b"end\n")
    (place / "a name with spaces\nand a second line").write_text("odd name\n")
    program = place / "setuid"
    program.write_text("#!/bin/true\n")
    program.chmod(0o4755)
    owned = place / "owned"
    owned.write_text("belongs to daemon:adm\n")
    os.chown(owned, 1, 4)
    os.mkfifo(place / "pipe")
    os.utime(place / "one", (981173106, 981173106))
    capable = place / "capable"
    capable.write_bytes(b"")
    os.setxattr(capable, "security.capability", CAP_NET_RAW)
