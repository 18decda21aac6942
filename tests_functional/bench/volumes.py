# SPDX-License-Identifier: Apache-2.0
"""Volumes of a system on loop devices of this machine, as a layout has them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bareon.storage.filesystem import Filesystem, Mount, Mounted, PlannedFilesystem
from bareon.storage.kind import Decision
from building.process import run
from tests_functional.bench import loop
from tests_functional.bench.cell import SCRATCH

MIB = 1 << 20
MAKERS = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"], "vfat": ["true"]}


class Volumes:
    """Volumes of one system, in the order of their mount points."""

    def __init__(self, *mounts: Mounted) -> None:
        self.mounts = mounts

    def kept(self) -> Volumes:
        """The same, as a later run finds them."""
        return Volumes(*(Mounted(planned(x.device, x.size, x.type, x.point, "keep"), x.mount) for x in self.mounts))

    @contextmanager
    def tree(self) -> Iterator[Path]:
        """Mount them as the deployed system does."""
        root = SCRATCH / "deployed"
        with ExitStack() as stack:
            for mount in self.mounts:
                point = root / mount.point[1:]
                point.mkdir(parents=True, exist_ok=True)
                run(["mount", mount.device, point], timeout=30)
                stack.callback(run, ["umount", point], timeout=30)
            yield root


def planned(device: str, size: int, kind: str, point: str, decision: Decision) -> PlannedFilesystem:
    """A file system of ``size`` bytes as a layout has it."""
    wanted = Filesystem(kind, (Mount(point),), path=f"$.volumes[{point}]")
    return PlannedFilesystem(device, size, kind, "", wanted, decision=decision)


@contextmanager
def volumes(*wanted: tuple[str, str, int]) -> Iterator[Volumes]:
    """Make file systems: mount point, type, and MiB of each. One of vfat is not made: not every kernel has it."""
    with ExitStack() as stack:
        made = []
        for point, kind, size in wanted:
            descriptor, name = tempfile.mkstemp(dir=SCRATCH)
            os.truncate(descriptor, size * MIB)
            os.close(descriptor)
            file = Path(name)
            stack.callback(file.unlink)
            device = str(stack.enter_context(loop.attached(file)))
            run([*MAKERS[kind], device], timeout=60)
            made.append(Mounted(planned(device, size * MIB, kind, point, "create"), Mount(point)))
        yield Volumes(*made)
