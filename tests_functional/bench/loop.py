# SPDX-License-Identifier: Apache-2.0
"""Loop devices: block devices of this machine, without a virtual one.

They are the machine's and not the cell's, so they must not outlive who made them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from building.process import run


@contextmanager
def attached(file: Path, start: int = 0) -> Iterator[Path]:
    """Make a file a block device, from a byte of it on, and yield the device's path.

    :raises ProgramError: when losetup fails
    """
    device = run(["losetup", "--offset", str(start), "--find", "--show", file], timeout=10).stdout.strip()
    try:
        descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    finally:
        # While somebody has it open, this only marks it to go with the last one who has. So the kernel detaches it
        # even if this process is killed.
        run(["losetup", "--detach", device], timeout=10)
    try:
        yield Path(device)
    finally:
        os.close(descriptor)
