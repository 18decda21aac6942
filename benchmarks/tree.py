# SPDX-License-Identifier: Apache-2.0
"""How long a tree takes as a tar.zst over HTTP, against ``rsync -aAX`` of it and ``curl | zstd | tar``; as root.

All write to the same loop device with a new ext4, mounted, written back and unmounted in the measured time. Ours
alone judges each member and computes the digest.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from bareon.drivers.deploy.archive import UnpackArchive
from bareon.model.image import Digest, Image
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.storage.filesystem import Filesystem, Mount, PlannedFilesystem
from bareon.tools.mount import enter_private_namespace
from benchmarks.rsync import BYTES, DISK, FILES, call, daemon, loop_device, make_tree, plain, seconds
from benchmarks.stream import served, sha256
from benchmarks.timing import show

MEMORY = 150 << 20
#: A program that only creates the same files takes 0.6 of rsync, GNU tar with a plain archive before it 0.58;
#: receiving, decoding and judging come on top, as the processors are busy (doc/source/rationale.rst has the figures).
OF_RSYNC = 1.05


def step(url: str, device: str, digest: str) -> UnpackArchive:
    """The step that the driver makes."""
    wanted = Filesystem("ext4", (Mount("/", images=("tree",)),), images=("tree",))
    held = PlannedFilesystem(device, DISK, "ext4", "", wanted).mounts
    image = Image("tree", Location(url), digest=Digest("sha256", digest))
    return UnpackArchive("do_copyimage", image, held, TransferSettings())


def pipe(url: str, device: str, point: Path) -> None:
    """The reference that checks nothing."""
    call("mount", "-t", "ext4", device, str(point))
    extract = f"tar -x --numeric-owner --xattrs --acls -C {point}"
    call("bash", "-o", "pipefail", "-c", f"curl -sf {url} | zstd -dcq | {extract}")
    call("sync", "--file-system", str(point))
    call("umount", str(point))


def main() -> int:
    """Print the ratios; exit code 1 when one is over its limit."""
    enter_private_namespace()
    os.environ["LC_ALL"] = "C"
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        place = Path(name)
        place.chmod(0o755)
        tree, point, archive = place / "tree", place / "point", place / "tar.zst"
        point.mkdir()
        make_tree(tree)
        pack = f"tar -c --xattrs --acls --numeric-owner -C {tree} . | zstd -q -o {archive}"
        subprocess.run(["bash", "-o", "pipefail", "-c", pack], check=True)
        digest = sha256(archive)
        with daemon(place, tree) as source, served(place) as url, loop_device(place) as device:
            where = f"{url}/{archive.name}"

            def fresh() -> None:
                call("mkfs.ext4", "-q", "-F", device)

            def unpack() -> None:
                step(where, device, digest).run(lambda done, total: None)

            ours, rsync, unchecked = seconds(
                fresh,
                unpack,
                lambda: plain(source, device, point),
                lambda: pipe(where, device, point),
            )
    good = show(f"{FILES} files of {BYTES >> 20} MiB as tar.zst", ours, "rsync -aAX", rsync, OF_RSYNC)
    good = show("the same", ours, "curl | zstd -dc | tar -x", unchecked, 1.1) and good
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"memory: {peak >> 20} MiB ({'within' if peak < MEMORY else 'OVER'} {MEMORY >> 20} MiB)")
    return 0 if good and peak < MEMORY else 1


if __name__ == "__main__":
    sys.exit(main())
