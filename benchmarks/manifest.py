# SPDX-License-Identifier: Apache-2.0
"""What the manifest of a system's files costs, written and compared, against sha256sum of the same files; as root.

All read the same loop device with ext4, mounted anew. What is measured is processor time, which does not change with
what else the machine does; the disk adds the time that it takes to read all files once.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bareon.actions.manifest import WriteManifest
from bareon.actions.verify import CompareFiles
from bareon.errors import DisksDiffer
from bareon.model.layout import Layout
from bareon.storage.disk import PlannedDisk, PlannedPartition
from bareon.storage.filesystem import Filesystem, Mount, PlannedFilesystem
from bareon.tools.mount import enter_private_namespace
from benchmarks.rsync import BYTES, DISK, FILES, call, loop_device, make_tree
from benchmarks.timing import show

UUID = "0b5e6a0e-6d0c-4f0e-9c53-2f8f4a3f1d10"
LIMIT = 4.0  # a ratio
ROUNDS = 3


def layout(device: str) -> Layout:
    """One image on one volume."""
    wanted = Filesystem("ext4", (Mount("/", images=("a",)),))
    held = PlannedFilesystem(device, DISK, "ext4", UUID, wanted, decision="keep")
    part = PlannedPartition(device, DISK, 1, 1 << 20, "volume", "", content=held)
    return Layout("verify", "bios", (PlannedDisk("/dev/absent", DISK, 512, "", (part,)),))


def processor(work: Callable[[], None]) -> float:
    """Processor time of a call and of the programs that it starts, in seconds."""
    before = os.times()
    work()
    return sum(after - begun for after, begun in zip(os.times()[:4], before[:4], strict=True))


def written_anew(step: WriteManifest) -> None:
    """Carry it out."""
    step.run(lambda done, total: None)


def compared(step: CompareFiles) -> None:
    """Carry it out; the tree has no fstab, which is a difference, and no file may be one."""
    try:
        step.run(lambda done, total: None)
    except DisksDiffer as error:
        if strange := [x for x in error.lines() if "fstab" not in x]:
            raise SystemExit(f"differs: {strange[0]}") from None


def plain(device: str, point: Path) -> None:
    """The reference, which writes no names, owners or attributes down."""
    call("mount", "-t", "ext4", "-o", "ro", device, str(point))
    call("bash", "-o", "pipefail", "-c", f"find {point} -xdev -type f -print0 | xargs -0 sha256sum | gzip -1")
    call("umount", str(point))


def main() -> int:
    """Print the ratios and what 10,000 files take; exit code 1 when a ratio is over its limit."""
    enter_private_namespace()
    os.environ["LC_ALL"] = "C"
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        place = Path(name)
        point = place / "point"
        point.mkdir()
        with loop_device(place) as device:
            call("mkfs.ext4", "-q", "-F", "-U", UUID, device)
            call("mount", device, str(point))
            make_tree(point / "usr")
            call("umount", str(point))
            write = WriteManifest("do_copyimage", "a", layout(device))
            compare = CompareFiles("do_verify", ("a",), layout(device), frozenset(), manifest=True)
            works = (lambda: written_anew(write), lambda: compared(compare), lambda: plain(device, point))
            rounds = [[processor(work) for work in works] for _ in range(ROUNDS)]
    written, read, reference = (min(times) for times in zip(*rounds, strict=True))
    each = 10_000 / FILES
    print(f"{FILES} files, {BYTES >> 20} MiB; 10,000 take {written * each:.2f} s, compared {read * each:.2f} s")
    told = ("sha256sum of all files", reference, LIMIT)
    found = [show("manifest written", written, *told), show("compared", read, *told)]
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main())
